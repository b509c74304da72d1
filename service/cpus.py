"""How many cores this process may keep busy.

Numba and OpenBLAS heed the process's affinity (``--cpuset-cpus``), but not the share of CPU time that a container is
given (``--cpus``): with a thread for each core of the machine, all of them wait together until the next period.
"""

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Cores by affinity, or whole cores of the CPU time by cgroup v2, whichever is less; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(cgroups, own)])))


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """In cores, of the process's cgroup and those above it. Inside a container its own is the root."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # no Linux
        return []
    inside = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")
    group = cgroups / inside
    return [quota for at in (group, *group.parents) if (quota := _quota(at / "cpu.max")) is not None]


def _quota(file: Path) -> float | None:
    """``200000 100000``: microseconds in each period of so many. None: ``max``, or no such file."""
    try:
        allowed, period = file.read_text().split()
    except (OSError, ValueError):
        return None
    return None if allowed == "max" else int(allowed) / int(period)
