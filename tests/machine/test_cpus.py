"""The cores that the process may use, by affinity and by its container's share."""

import os
from pathlib import Path

import pytest

from service.cli.main import THREAD_VARIABLES, limit_threads
from service.machine.cpus import usable_cpus

CORES = 8


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(CORES)), raising=False)


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    """A tree of cgroups, with this process in /a/b."""
    (tmp_path / "fs" / "a" / "b").mkdir(parents=True)
    (tmp_path / "own").write_text("1:cpu:/elsewhere\n0::/a/b\n")
    return tmp_path


def cpus(cgroups: Path) -> int:
    return usable_cpus(cgroups / "fs", cgroups / "own")


def test_without_a_quota_it_is_the_affinity(cgroups: Path) -> None:
    assert cpus(cgroups) == CORES


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("200000 100000", 2),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("6400000 100000", CORES),
        ("max 100000", CORES),
        ("", CORES),
    ],
)
@pytest.mark.parametrize("group", [".", "a", "a/b"])
def test_a_quota_counts_in_whole_cores_wherever_it_is_set(cgroups: Path, group: str, quota: str, expected: int) -> None:
    (cgroups / "fs" / group / "cpu.max").write_text(f"{quota}\n")
    assert cpus(cgroups) == expected


def test_of_several_quotas_the_least_counts(cgroups: Path) -> None:
    (cgroups / "fs" / "a" / "cpu.max").write_text("200000 100000")
    (cgroups / "fs" / "a" / "b" / "cpu.max").write_text("400000 100000")
    assert cpus(cgroups) == 2


def test_a_container_of_its_own_namespace_is_the_root(cgroups: Path) -> None:
    (cgroups / "own").write_text("0::/\n")
    (cgroups / "fs" / "cpu.max").write_text("300000 100000")
    assert cpus(cgroups) == 3


def test_where_there_are_no_cgroups_it_is_the_affinity(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "none", tmp_path / "none") == CORES


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [(None, {}, "8"), (3, {}, "3"), (None, {"NUMBA_NUM_THREADS": "5"}, "5"), (3, {"NUMBA_NUM_THREADS": "5"}, "3")],
)
def test_threads_are_those_asked_for_or_of_the_environment_or_the_cores(
    asked: int | None, environment: dict[str, str], expected: str
) -> None:
    limit_threads(asked, environment)
    assert environment["NUMBA_NUM_THREADS"] == expected
    assert environment.keys() == set(THREAD_VARIABLES)
