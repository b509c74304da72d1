"""A run is read back as it was written; other content is refused by file name and field."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.report import DamagedRunError, NotARunError, Outcome, Run, RunVersionError, TurnRecord, read_run, write_run

moments = st.floats(0, 1e6)
names = st.text(max_size=8)
counts = st.none() | st.integers(0, 2**40)
plain = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | moments | names


@st.composite
def turns(draw: st.DrawFn) -> TurnRecord:
    sent, *pieces, end = sorted(draw(st.lists(moments, min_size=2, max_size=6)))
    return TurnRecord(
        conversation=draw(names),
        turn=draw(st.integers(0, 9)),
        tenant=draw(names),
        priority=draw(st.integers(-5, 5)),
        warmup=draw(st.booleans()),
        scheduled_s=draw(moments),
        sent_s=sent,
        end_s=end,
        piece_s=tuple(pieces),
        outcome=draw(st.sampled_from(Outcome)),
        error=draw(st.none() | names),
        prompt_tokens=draw(counts),
        completion_tokens=draw(counts),
        reused=draw(counts),
        swapped_bytes=draw(counts),
        queue_s=draw(st.none() | moments),
    )


runs = st.builds(
    Run,
    target=names,
    protocol=names,
    model=names,
    started_at=names,
    duration_s=moments,
    settings=st.dictionaries(names, plain | st.lists(plain, max_size=3), max_size=4),
    records=st.lists(turns(), max_size=4).map(tuple),
    weights=st.dictionaries(names, st.floats(0.001, 1e3), max_size=3),
    interrupted=st.booleans(),
    saturated_at_s=st.none() | moments,
    client_cpu_s=moments,
)


@given(run=runs)
def test_what_was_written_is_read(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("run") / "run.json"
    write_run(run, path)
    assert read_run(path) == run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A valid run of one turn."""
    turn = TurnRecord("c", 0, "t", 0, False, 0.0, 0.0, 2.0, (0.5, 1.0), Outcome.OK)
    path = tmp_path / "run.json"
    write_run(Run("http://host", "sse", "m", "2025-01-01T00:00:00Z", 2.0, {}, (turn,)), path)
    return path


def change(path: Path, *way: str | int, to: object) -> None:
    whole = json.loads(path.read_text())
    here = whole
    for step in way[:-1]:
        here = here[step]
    here[way[-1]] = to
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "another", "version": 1}', b"\xff\x00"])
def test_another_file_is_not_a_run(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(NotARunError, match=r"run\.json: is not a load test's result"):
        read_run(path)


def test_another_version_is_refused_by_its_number(path: Path) -> None:
    change(path, "version", to=2)
    with pytest.raises(RunVersionError, match="version 2"):
        read_run(path)


@pytest.mark.parametrize(
    ("way", "value", "complaint"),
    [
        (("run", "records", 0, "sent_s"), "soon", r"run\.records\.0\.sent_s: "),
        (("run", "records", 0, "outcome"), "lost", r"run\.records\.0\.outcome: "),
        (("run", "records", 0, "surprise"), 1, r"run\.records\.0\.surprise: "),
        (("run", "surprise"), 1, r"run\.surprise: "),
        (("run", "records", 0, "piece_s"), [1.0, 0.5], "not in order"),
        (("run", "records", 0, "piece_s"), [1.0, 2.5], "not in order"),
        (("run", "weights"), {"t": 0.0}, r"run\.weights\.t: 0\.0 is not above 0"),
    ],
)
def test_a_damaged_run_is_refused_by_its_field(
    path: Path, way: tuple[str | int, ...], value: object, complaint: str
) -> None:
    change(path, *way, to=value)
    with pytest.raises(DamagedRunError, match=complaint):
        read_run(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_time_is_a_finite_number(path: Path, number: str) -> None:
    path.write_text(path.read_text().replace('"sent_s":0.0', f'"sent_s":{number}'))
    with pytest.raises((DamagedRunError, NotARunError)):
        read_run(path)


def test_an_unlimited_setting_survives_as_text(path: Path) -> None:
    write_run(Run("http://host", "sse", "m", "", 1.0, {"rate": float("inf")}, ()), path)
    assert read_run(path).settings == {"rate": "Infinity"}


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_run(tmp_path / "none.json")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_run(Run("http://host", "sse", "m", "", 1.0, {}, ()), path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]
