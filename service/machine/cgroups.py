"""The control groups (cgroup v2) of this process, whose files say what its container may use."""

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def own_groups(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> list[Path]:
    """Return the process's directory and those above it; an empty list where there are no cgroups.

    Inside a container, its own directory is the root.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return []
    inside = next((line.removeprefix("0::").lstrip("/") for line in lines if line.startswith("0::")), "")
    group = cgroups / inside
    return [group, *group.parents]
