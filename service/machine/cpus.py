"""How many cores this process may keep busy.

Numba and OpenBLAS heed the process's affinity (``--cpuset-cpus``), but not the share of CPU time that a container is
given (``--cpus``): with a thread for each core of the machine, all of them wait together until the next period.
"""

import os
from pathlib import Path

from service.machine.cgroups import CGROUPS, OWN_CGROUP, own_groups


def usable_cpus(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Cores by affinity, or whole cores of the CPU time by cgroup v2, whichever is less; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (_quota(group / "cpu.max") for group in own_groups(cgroups, own))
    return max(1, int(min([cores, *(quota for quota in quotas if quota is not None)])))


def _quota(file: Path) -> float | None:
    """``200000 100000``: microseconds in each period of so many. None: ``max``, or no such file."""
    try:
        allowed, period = file.read_text().split()
    except (OSError, ValueError):
        return None
    return None if allowed == "max" else int(allowed) / int(period)
