"""How much of the host's memory this process may still take."""

from pathlib import Path

from service.machine.cgroups import CGROUPS, OWN_CGROUP, own_groups

MEMINFO = Path("/proc/meminfo")


def available_memory(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int | None:
    """Bytes, by the machine and by its container's limit, whichever is less; None where nobody says."""
    says = [_of_machine(meminfo), *map(_of_group, own_groups(cgroups, own))]
    return min((available for available in says if available is not None), default=None)


def _of_machine(meminfo: Path) -> int | None:
    """``MemAvailable:   22334455 kB``: what can be had without swapping, page cache included."""
    kib = _value(meminfo, "MemAvailable:")
    return None if kib is None else 1024 * kib


def _of_group(group: Path) -> int | None:
    """What its limit leaves; pages of files that nobody used of late are given back before it is reached."""
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
