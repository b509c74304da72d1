"""Known changes are found, and unchanged runs are not reported to differ."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clients.report import Run, write_run
from clients.reporting.compare.command import run_compare
from clients.reporting.compare.comparison import Change, compare
from clients.reporting.compare.flags import add_compare_flags
from clients.reporting.slo import Slo

RunMaker = Callable[..., Run]


def changes(a: Run, b: Run, slo: Slo | None = None) -> dict[str, Change]:
    (found,) = compare({"a": a, "b": b}, slo)
    return {change.figure.name: change for change in found.changes}


def test_identical_runs_do_not_differ(synthetic: RunMaker) -> None:
    run = synthetic(conversations=30)
    found = changes(run, run, Slo(0.5, 0.1))
    assert not [name for name, change in found.items() if change.significant]
    assert {change.change for change in found.values()} == {1.0, 0.0}


def test_a_known_ratio_is_found_to_be_one(synthetic: RunMaker) -> None:
    """The same conversations on a server that takes 1.25 times as long for everything."""
    found = changes(synthetic(3), synthetic(3, slowness=1.25))
    for name in ("TTFT P50", "TBT P50", "TBT P99", "E2E P90", "longest stall P50"):
        change = found[name]
        assert change.interval is not None
        assert change.interval.low - 0.001 <= 1.25 <= change.interval.high + 0.001, name
        assert (change.significant, change.better) == (True, False), name


def test_a_known_ratio_lies_in_the_interval_of_different_conversations(synthetic: RunMaker) -> None:
    found = changes(synthetic(4), synthetic(5, slowness=1.25))
    for name in ("TTFT P50", "TTFT P90", "TBT P50", "E2E P50"):
        bounds = found[name].interval
        assert bounds is not None
        assert bounds.low <= 1.25 <= bounds.high, name


def test_less_is_better_for_latencies_and_more_for_the_slo(synthetic: RunMaker) -> None:
    found = changes(synthetic(3, slowness=1.6), synthetic(3), Slo(0.5, 0.1))
    assert found["TTFT P50"].significant
    assert found["TTFT P50"].better
    assert found["SLO met"].significant
    assert found["SLO met"].better


def test_runs_of_the_same_conversations_are_paired(synthetic: RunMaker) -> None:
    paired, apart = compare({"a": synthetic(1), "b": synthetic(1, slowness=2.0), "c": synthetic(2)})
    assert paired.paired
    assert not apart.paired


def test_pairs_have_the_narrower_interval(synthetic: RunMaker) -> None:
    a, b = synthetic(1), synthetic(1, slowness=1.1)
    renamed = replace(b, records=tuple(replace(each, conversation=f"x{each.conversation}") for each in b.records))
    widths = [bounds.high - bounds.low for run in (b, renamed) if (bounds := changes(a, run)["TTFT P50"].interval)]
    assert len(widths) == 2
    assert widths[0] < 0.1 * widths[1]


def test_rates_have_a_ratio_and_no_interval(synthetic: RunMaker) -> None:
    rate = changes(synthetic(1), synthetic(1, slowness=2.0))["output tokens/s"]
    assert rate.interval is None
    assert rate.change is not None
    assert rate.change < 1


def test_runs_without_turns_compare_to_nothing(synthetic: RunMaker, run_of: RunMaker) -> None:
    (found,) = compare({"a": synthetic(1, conversations=10), "b": run_of()})
    assert found.changes == ()


@pytest.fixture
def files(tmp_path: Path, synthetic: RunMaker) -> list[str]:
    """Two runs, the second slower, with another setting."""
    paths = tmp_path / "a.json", tmp_path / "b.json"
    write_run(synthetic(1, conversations=20), paths[0])
    slower = synthetic(1, conversations=20, slowness=1.5)
    write_run(replace(slower, settings={**slower.settings, "policy": "vtc"}), paths[1])
    return [str(path) for path in paths]


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_compare_flags(parser)
    return run_compare(parser.parse_args(arguments))


def test_the_command_prints_a_table(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*files) == 0
    out = capsys.readouterr().out
    assert "b against a" in out
    assert "resampled in pairs" in out
    line = next(line for line in out.splitlines() if "TTFT P50" in line)
    assert "x1.499" in line
    assert line.rstrip().endswith("worse")
    assert any("policy" in line and "vtc" in line for line in out.splitlines())


def test_the_command_prints_json(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*files, "--json", "--slo", "ttft=0.5") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["first"], found["name"], found["paired"]) == ("a", "b", True)
    change = found["changes"][0]
    assert (change["figure"]["name"], change["significant"], change["better"]) == ("TTFT P50", True, False)
    assert change["interval"]["low"] <= change["change"] <= change["interval"]["high"]


def test_the_command_names_the_file_it_cannot_read(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[1]).write_text("{}")
    assert command(*files) == 1
    assert capsys.readouterr().err.startswith(f"fastswitch: {files[1]}: is not a load test's result")


def test_the_command_writes_a_page(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*files, "--html", str(tmp_path / "page.html")) == 0
    page = (tmp_path / "page.html").read_text()
    assert all(f'id="{plot}"' in page for plot in ("cdf-ttft", "cdf-tbt", "cdf-e2e", "ttft-over-time", "in-flight"))
    assert "b against a" in page
