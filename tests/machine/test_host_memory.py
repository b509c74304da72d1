"""The available memory: the machine's, or what the container's limit leaves."""

from pathlib import Path

import pytest

from service.machine.host_memory import available_memory

MIB = 1 << 20


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """1,000 MiB available, and this process in the cgroup /a/b."""
    (tmp_path / "fs" / "a" / "b").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "meminfo").write_text(f"MemTotal:  9999999 kB\nMemFree:  5 kB\nMemAvailable:  {1000 * 1024} kB\n")
    return tmp_path


def available(machine: Path) -> int | None:
    return available_memory(machine / "meminfo", machine / "fs", machine / "own")


def limit(group: Path, maximum: str, used: int, inactive: int | None = None) -> None:
    (group / "memory.max").write_text(f"{maximum}\n")
    (group / "memory.current").write_text(f"{used}\n")
    if inactive is not None:
        (group / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\nactive_file 7\n")


def test_without_a_limit_it_is_the_machines(machine: Path) -> None:
    limit(machine / "fs" / "a", "max", 5 * MIB)
    assert available(machine) == 1000 * MIB


@pytest.mark.parametrize("group", [".", "a", "a/b"])
def test_a_limit_counts_wherever_it_is_set(machine: Path, group: str) -> None:
    limit(machine / "fs" / group, str(300 * MIB), 100 * MIB)
    assert available(machine) == 200 * MIB


def test_a_limit_above_what_the_machine_has_does_not_count(machine: Path) -> None:
    limit(machine / "fs" / "a", str(9000 * MIB), 0)
    assert available(machine) == 1000 * MIB


def test_pages_of_files_can_be_had_again(machine: Path) -> None:
    limit(machine / "fs" / "a", str(300 * MIB), 250 * MIB, inactive=50 * MIB)
    assert available(machine) == 100 * MIB


def test_more_used_than_allowed_is_nothing(machine: Path) -> None:
    limit(machine / "fs" / "a", str(MIB), 2 * MIB)
    assert available(machine) == 0


def test_memory_that_no_file_states_is_unknown(tmp_path: Path) -> None:
    assert available(tmp_path) is None
