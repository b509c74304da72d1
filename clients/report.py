"""The result of a load test: a `Run` with a `TurnRecord` for each turn that was due.

The load tester writes it; statistics, reports and benchmarks read it. Times are seconds since the run's start on the
client's monotonic clock. Latencies count from ``scheduled_s``, when the turn was *due*, not from when a busy client
sent it: otherwise a server that stalls all clients looks fast (coordinated omission).

    RunFileError          the file cannot be read as a run
    ├── NotARunError      it is something else: not JSON, or JSON of another kind
    ├── RunVersionError   it has another version of the format
    └── DamagedRunError   a field is missing, unknown, of the wrong type, or impossible
"""

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from clients.files import replace_file

FORMAT: Final = "fastswitch-load"
VERSION: Final = 1


class Outcome(StrEnum):
    """How a turn ended. The client itself cancels or disconnects if the workload says so."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One turn as its client saw it.

    ``piece_s`` says when each non-empty piece of the answer came (an SSE chunk, a token frame): the first gives TTFT,
    the gaps are TBT. ``error`` is one of a few kinds (``http 503 overloaded``, ``connect``, ``timeout``). The server
    reports the fields from ``prompt_tokens`` on; they are None where it does not.
    """

    conversation: str
    turn: int
    tenant: str
    priority: int
    warmup: bool
    scheduled_s: float
    sent_s: float
    end_s: float
    piece_s: tuple[float, ...]
    outcome: Outcome
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reused: int | None = None
    recomputed: int | None = None
    preemptions: int | None = None
    swapped_bytes: int | None = None
    queue_s: float | None = None
    stall_s: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A whole load test. ``settings`` has each flag as it was in effect, without secrets; ``weights`` are by tenant."""

    target: str
    protocol: str
    model: str
    started_at: str  # ISO 8601, UTC
    duration_s: float
    settings: dict[str, object]
    records: tuple[TurnRecord, ...]
    weights: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    saturated_at_s: float | None = None  # when the client saw the server fall behind for good
    client_cpu_s: float = 0.0


class RunFileError(Exception):
    """Base of the errors of a file. Its text is one line fit for a user and names the file."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


class NotARunError(RunFileError):
    """The file is not a load test's result."""


class RunVersionError(RunFileError):
    """The file has a version of the format that cannot be read here."""


class DamagedRunError(RunFileError):
    """A field is missing, unknown, of the wrong type, or impossible."""


class _Head(BaseModel):
    format: Literal["fastswitch-load"]
    version: int


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, ser_json_inf_nan="strings")

    format: Literal["fastswitch-load"] = FORMAT
    version: Literal[1] = VERSION
    run: Run


def write_run(run: Run, path: Path) -> None:
    """Write ``run`` as JSON, whole or not at all. Raises `OSError`."""
    replace_file(path, _File(run=run).model_dump_json().encode() + b"\n")


def read_run(path: Path) -> Run:
    """Read what `write_run` wrote. Raises `OSError`, and `RunFileError` for anything but a valid run."""
    data = path.read_bytes()
    try:
        head = _Head.model_validate_json(data)
    except ValidationError:
        raise NotARunError(path, f"is not a load test's result (JSON with format {FORMAT!r})") from None
    if head.version != VERSION:
        raise RunVersionError(path, f"has version {head.version} of the format; only version {VERSION} can be read")
    try:
        run = _File.model_validate_json(data).run
    except ValidationError as error:
        raise DamagedRunError(path, _first_fault(error)) from None
    _check_sense(run, path)
    return run


def _first_fault(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    where = ".".join(str(part) for part in faults[0]["loc"])
    return f"{where}: {faults[0]['msg']}" + (f", and {len(faults) - 1} more" if len(faults) > 1 else "")


def _check_sense(run: Run, path: Path) -> None:
    """Raise `DamagedRunError` if a gap is negative or a weight is not positive: statistics rely on both."""
    for index, turn in enumerate(run.records):
        if any(later < earlier for earlier, later in pairwise((turn.sent_s, *turn.piece_s, turn.end_s))):
            raise DamagedRunError(path, f"run.records.{index}: sent_s, piece_s and end_s are not in order of time")
    for tenant, weight in run.weights.items():
        if weight <= 0:
            raise DamagedRunError(path, f"run.weights.{tenant}: {weight} is not above 0")
