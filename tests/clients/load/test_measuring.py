"""The client measures the times that the server really took."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from clients.load.driver import Driver, Rules
from clients.load.openai import OpenAITarget
from clients.load.words import Writer
from clients.trace import Trace, TraceTurn

PERCENTILES = (50, 90, 95, 99)
PATIENCE_S = 30.0


ON_THE_WAY = {"rel": 0.02, "abs": 0.05}  # seconds that a busy machine may take from the server's write to our reading


async def test_percentiles_are_those_of_when_the_pieces_left(timed, play, trace_of):
    """The bounds are wide: `benchmarks.load_clients` checks to 2 %, on a quiet machine."""
    scripts = np.random.default_rng(5).uniform(0.05, 0.5, (60, 8))
    server = await timed(lambda number: scripts[number])
    driver = await play(server.url, trace_of(60, every_s=0.1))
    start = time.perf_counter() - driver.clock.now()
    records = sorted(driver.records, key=lambda record: record.sent_s)
    assert [len(record.piece_s) for record in records] == [8] * 60
    seen = np.array([record.piece_s for record in records])
    written = np.array(server.wrote) - start
    due = np.array([record.scheduled_s for record in records])
    for percentile in PERCENTILES:
        assert np.percentile(seen[:, 0] - due, percentile) == pytest.approx(
            np.percentile(written[:, 0] - due, percentile), **ON_THE_WAY
        )
        assert np.percentile(np.diff(seen), percentile) == pytest.approx(
            np.percentile(np.diff(written), percentile), **ON_THE_WAY
        )
    assert (written - due[:, None] >= np.cumsum(scripts, axis=1)).all()


async def test_a_stall_shows_in_every_turn_that_was_due_in_it(timed, play, trace_of):
    """A client that sends few turns at a time must not hide how long the others waited."""
    server = await timed(lambda number: [0.001])
    before = time.perf_counter()

    async def stall() -> tuple[float, float]:
        await asyncio.sleep(0.3)
        server.gate.clear()
        began = time.perf_counter()
        await asyncio.sleep(1.0)
        server.gate.set()
        return began, time.perf_counter()

    stalling = asyncio.create_task(stall())
    driver = await play(server.url, trace_of(80, every_s=0.05), max_concurrency=2)
    began, ended = await stalling
    start = time.perf_counter() - driver.clock.now()
    assert start >= before
    hit = [record for record in driver.records if began < start + record.scheduled_s < ended]
    assert len(hit) >= 19
    assert all(start + record.piece_s[0] >= ended for record in hit)
    assert sum(start + record.sent_s < ended for record in hit) <= 2  # counted from sending, it would show in two


async def test_every_turn_that_came_due_leaves_one_record(timed, play, trace_of):
    server = await timed(lambda number: [0.001] * 4)
    turns = [TraceTurn(5, 8), TraceTurn(5, 8, think_s=0.01), TraceTurn(5, 8, cancel_after=2), TraceTurn(5, 8)]
    driver = await play(server.url, trace_of(5, turns=turns))
    assert sorted((record.conversation, record.turn) for record in driver.records) == [
        (f"c{number}", turn) for number in range(5) for turn in range(4)
    ]


async def test_a_turn_is_due_its_think_time_after_the_answer_before(timed, play, trace_of):
    server = await timed(lambda number: [0.01])
    driver = await play(server.url, trace_of(1, turns=[TraceTurn(5, 8), TraceTurn(5, 8, think_s=0.2)]))
    first, second = driver.records
    assert second.scheduled_s == first.end_s + 0.2
    assert second.sent_s >= second.scheduled_s


async def test_a_turn_with_a_time_of_its_own_is_due_then_even_if_the_answer_before_is_late(timed, play, trace_of):
    server = await timed(lambda number: [0.3])
    driver = await play(server.url, trace_of(1, turns=[TraceTurn(5, 8), TraceTurn(5, 8, at_s=0.1)]))
    first, second = driver.records
    assert second.scheduled_s == 0.1
    assert second.sent_s >= first.end_s


async def test_in_a_closed_loop_each_user_waits_for_the_answer(timed, play, trace_of):
    server = await timed(lambda number: [0.01])
    trace = trace_of(12, turns=[TraceTurn(5, 8, think_s=0.01)])
    closed = type(trace)(trace.conversations, users=3)
    driver = await play(server.url, closed)
    assert len(driver.records) == 12
    moments = sorted([(record.sent_s, 1) for record in driver.records] + [(r.end_s, -1) for r in driver.records])
    assert max(np.cumsum([step for _, step in moments])) <= 3


@pytest.fixture
def thoughtful(trace_of) -> Trace:
    """One user, who would think for an hour between two conversations."""
    return replace(trace_of(2, turns=[TraceTurn(5, 8, think_s=3600.0)]), users=1)


async def test_an_interrupt_does_not_wait_for_a_user_to_think(timed, thoughtful):
    asked = asyncio.Event()

    def script(number: int) -> list[float]:
        asked.set()
        return [0.001]

    server = await timed(script)
    server.gate.clear()
    target = OpenAITarget(server.url)
    driver = Driver(thoughtful, target, Writer(thoughtful), Rules(model="m", run="r"))
    running = asyncio.create_task(driver.run())
    await asked.wait()
    driver.interrupt()
    await asyncio.wait_for(running, PATIENCE_S)
    await target.close()
    assert [record.error for record in driver.records] == ["interrupted"]


async def test_the_duration_ends_a_user_who_thinks(timed, play, thoughtful):
    server = await timed(lambda number: [0.001])
    driver = await asyncio.wait_for(play(server.url, thoughtful, duration_s=2.0), PATIENCE_S)
    assert len(driver.records) == 1


async def test_warm_up_is_marked(timed, play, trace_of):
    server = await timed(lambda number: [0.001])
    driver = await play(server.url, trace_of(6, every_s=0.05), num_warmups=2, warmup_s=0.12)
    marked = {record.conversation for record in driver.records if record.warmup}
    assert marked == {"c0", "c1", "c2"}


async def test_no_turn_begins_after_the_duration(timed, play, trace_of):
    server = await timed(lambda number: [0.001])
    driver = await play(server.url, trace_of(1000, every_s=0.02), duration_s=1.0)
    assert 0 < len(driver.records) < 1000
    assert all(record.scheduled_s < 1.0 for record in driver.records)


async def test_a_slow_reader_reads_at_its_own_pace(timed, play, trace_of):
    server = await timed(lambda number: [0.001] * 5)
    driver = await play(server.url, trace_of(1, read_tokens_per_s=20.0))
    assert driver.records[0].end_s >= 5 / 20
    assert len(driver.records[0].piece_s) == 5


async def test_a_probe_for_one_token_takes_no_script(timed, play, trace_of):
    """Thus a run uses the scripts from the first on, even if its client asked something before the clock started."""
    server = await timed(lambda number: [0.001] * 8)
    driver = await play(server.url, trace_of(1, turns=[TraceTurn(5, 1), TraceTurn(5, 8)]))
    assert [len(record.piece_s) for record in driver.records] == [1, 8]
    assert [len(written) for written in server.wrote] == [8]
