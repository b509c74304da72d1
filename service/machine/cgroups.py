"""The control groups of this process, whose files say what its container may use (cgroup v2)."""

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def own_groups(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> list[Path]:
    """The process's directory and those above it; none where there are no cgroups.

    Inside a container its own is the root.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:  # no Linux
        return []
    inside = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")
    group = cgroups / inside
    return [group, *group.parents]
