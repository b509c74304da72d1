"""Makes turns by hand, and plausible synthetic runs whose every figure is drawn at random."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from clients.report import Outcome, Run, TurnRecord

TENANTS = {"search": 2.0, "support": 1.0, "batch": 1.0}


TurnMaker = Callable[..., TurnRecord]
RunMaker = Callable[..., Run]


@pytest.fixture
def turn() -> TurnMaker:
    """Makes a turn that is by default due at 0, sent at once and ended with its last piece."""

    def make(pieces: Sequence[float] = (), **fields: Any) -> TurnRecord:
        due = fields.setdefault("scheduled_s", 0.0)
        sent = fields.setdefault("sent_s", due)
        fields.setdefault("end_s", pieces[-1] if pieces else sent)
        known = {"conversation": "c", "turn": 0, "tenant": "t", "priority": 0, "warmup": False, "outcome": Outcome.OK}
        return TurnRecord(piece_s=tuple(pieces), **{**known, **fields})

    return make


@pytest.fixture
def run_of() -> RunMaker:
    """Makes a run of turns."""

    def make(*turns: TurnRecord, **fields: Any) -> Run:
        known = {"target": "http://host", "protocol": "sse", "model": "m", "started_at": "2025-01-01T00:00:00Z"}
        return Run(**{**known, "duration_s": 100.0, "settings": {}, "records": turns, **fields})

    return make


@pytest.fixture(scope="session")
def synthetic() -> RunMaker:
    """Makes plausible runs."""
    return synthetic_run


def synthetic_run(seed: int = 1, *, conversations: int = 60, turns: int = 3, slowness: float = 1.0) -> Run:
    """Return conversations of three tenants; the first tenth is warm-up. ``slowness`` stretches the server's times."""
    rng = np.random.default_rng(seed)
    records = [
        record
        for index, start in enumerate(np.cumsum(rng.exponential(0.5, conversations)))
        for record in _conversation(rng, index, float(start), turns, slowness, warmup=index < conversations // 10)
    ]
    end = max(record.end_s for record in records)
    return Run(
        target="http://synthetic.invalid",
        protocol="sse",
        model="synthetic",
        started_at="2025-01-01T00:00:00Z",
        duration_s=end,
        settings={"seed": seed, "conversations": conversations, "slo": "ttft=0.5,tbt=0.1"},
        records=tuple(sorted(records, key=lambda record: record.scheduled_s)),
        weights=TENANTS,
        client_cpu_s=0.12 * end,
    )


def _conversation(
    rng: np.random.Generator, index: int, start: float, turns: int, slowness: float, *, warmup: bool
) -> Iterator[TurnRecord]:
    tenant = sorted(TENANTS)[index % len(TENANTS)]
    due, history = start, 0
    for turn in range(turns):
        asked = history + int(rng.lognormal(4.5, 0.6)) + 1
        record = _turn(rng, (f"conversation-{index}", turn, tenant, warmup), due, (asked, history), slowness)
        yield record
        history = asked + (record.completion_tokens or 0)
        due = record.end_s + float(rng.exponential(2.0))


def _turn(
    rng: np.random.Generator, who: tuple[str, int, str, bool], due: float, tokens: tuple[int, int], slowness: float
) -> TurnRecord:
    conversation, turn, tenant, warmup = who
    sent = due + float(rng.exponential(0.0005))
    outcome = rng.choice(list(Outcome), p=[0.93, 0.02, 0.04, 0.01])
    length = 0 if outcome == Outcome.ERROR else 2 + int(rng.lognormal(3.8, 0.5))
    gaps = rng.gamma(9, 0.03 / 9, length) + (rng.random(length) < 0.01) * rng.exponential(0.8, length)
    queue = float(rng.exponential(0.15))
    first = slowness * (0.08 + queue + 0.0005 * (tokens[0] - tokens[1]))
    pieces = sent + first + slowness * np.cumsum(gaps)
    return TurnRecord(
        conversation=conversation,
        turn=turn,
        tenant=tenant,
        priority=0,
        warmup=warmup,
        scheduled_s=due,
        sent_s=sent,
        end_s=float(pieces[-1]) + 0.001 if length else sent + first,
        piece_s=tuple(float(at) for at in pieces),
        outcome=Outcome(str(outcome)),
        error="http 503 overloaded" if outcome == Outcome.ERROR else None,
        prompt_tokens=tokens[0],
        completion_tokens=length,
        reused=tokens[1],
        recomputed=int(rng.poisson(2)),
        preemptions=int(rng.random() < 0.1),
        swapped_bytes=int(rng.poisson(3)) << 20,
        queue_s=queue,
        stall_s=float(gaps.max(initial=0.0)),
    )
