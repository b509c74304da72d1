"""The number of cores that this process may keep busy.

Numba and OpenBLAS respect the process's affinity (``--cpuset-cpus``), but not a container's share of CPU time
(``--cpus``): with a thread for each core of the machine, all of them would wait together until the next period.
"""

import os
from pathlib import Path

from service.machine.cgroups import CGROUPS, OWN_CGROUP, own_groups


def usable_cpus(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Return the cores by affinity, or the whole cores of CPU time by cgroup v2 if that is less; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (_quota(group / "cpu.max") for group in own_groups(cgroups, own))
    return max(1, int(min([cores, *(quota for quota in quotas if quota is not None)])))


def _quota(file: Path) -> float | None:
    """Return the cores that ``200000 100000`` means (microseconds, of a period). None: ``max``, or no such file."""
    try:
        allowed, period = file.read_text().split()
    except (OSError, ValueError):
        return None
    return None if allowed == "max" else int(allowed) / int(period)
