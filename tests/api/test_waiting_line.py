"""The line agrees with a plain list, whatever arrives, starts and ends in whatever order."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.waiting_line import Place, WaitingLine
from service.core.messages.commands import Submit
from service.core.messages.events import Finished, FinishReason, Gauges, Refused, Started, Timings, Usage
from service.core.messages.sampling import SamplingParams
from service.engine import Turn

ENDINGS = (
    lambda name: Started(name, 0.0, 0),
    lambda name: Refused(name, "server_overloaded", "full"),
    lambda name: Finished(name, FinishReason.CANCELLED, Usage(1, 0, 0, 0, 0), Timings(None, None, 0.0)),
)


def arrive(line: WaitingLine, *names: str) -> None:
    line.admit([Turn(Submit(name, (1,), 1, SamplingParams(), frozenset(), None)) for name in names])


def gauges(waiting_for: str | None, seconds_per_start: float | None) -> Gauges:
    return Gauges(1, 1, 0, 0, 10, 1, 0, waiting_for=waiting_for, seconds_per_start=seconds_per_start)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.sampled_from(ENDINGS)), max_size=60))
def test_places_are_those_of_a_list(actions: Sequence[tuple[bool, int, object]]) -> None:
    line, expected = WaitingLine(), []
    for number, (arrives, pick, ending) in enumerate(actions):
        if arrives or not expected:
            expected.append(f"r{number}")
            arrive(line, f"r{number}")
        else:
            line.observe(ending(expected.pop(pick % len(expected))))
        for position, name in enumerate(expected, 1):
            assert line.place([name]).position == position


def test_an_answer_of_several_choices_waits_until_one_of_them_starts() -> None:
    line = WaitingLine()
    arrive(line, "other")
    arrive(line, "a-0", "a-1")
    assert line.place(["a-0", "a-1"]).position == 2
    line.observe(Started("a-1", 0.0, 0))
    assert line.place(["a-0", "a-1"]) is None


def test_whoever_is_far_from_the_front_is_told_less_often() -> None:
    told_again = [Place(position, None, None).told_again_s for position in (1, 10, 50, 1000)]
    assert told_again == [1.0, 1.0, 5.0, 15.0]


def test_the_last_gauges_say_why_and_how_long() -> None:
    line = WaitingLine()
    arrive(line, "a", "b", "c")
    assert line.place(["c"]) == Place(3, None, None)
    line.observe(gauges("room", 1.5))
    assert line.place(["c"]) == Place(3, "room", 4.5)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place(3, "room", 4.4), "queued position=3 reason=room estimate=4s"),
        (Place(1, None, None), "queued position=1"),
    ],
)
def test_a_place_as_a_comment(place: Place, text: str) -> None:
    assert str(place) == text
