"""The host's memory that this process may still use."""

from pathlib import Path

from service.machine.cgroups import CGROUPS, OWN_CGROUP, own_groups

MEMINFO = Path("/proc/meminfo")


def available_memory(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """Return the bytes that the machine or the container's limit leaves, whichever is less; None if unknown."""
    limits = [_of_machine(meminfo), *map(_of_group, own_groups(cgroups, own))]
    return min((available for available in limits if available is not None), default=None)


def _of_machine(meminfo: Path) -> int | None:
    """Return the bytes of ``MemAvailable:   22334455 kB``: what can be used without swapping, page cache included."""
    kib = _value(meminfo, "MemAvailable:")
    return None if kib is None else 1024 * kib


def _of_group(group: Path) -> int | None:
    """Return what its limit leaves. Inactive pages of files count as free: the kernel drops them before the limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except OSError:
        return None
    if limit == "max":
        return None
    return max(0, int(limit) - used + (_value(group / "memory.stat", "inactive_file") or 0))


def _value(file: Path, name: str) -> int | None:
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return None
    return next((int(line[1]) for line in lines if line[:1] == [name]), None)
