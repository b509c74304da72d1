"""The life of a request."""

import pytest

from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.core.state.owners import Session
from service.core.state.requests import TRANSITIONS, IllegalTransitionError, Request, State


def request_in(state: State) -> Request:
    spec = Submit("r", (1, 2), 1, SamplingParams(), frozenset(), None)
    return Request(0, spec, Session(0, None), arrival_s=0.0, state=state)


@pytest.mark.parametrize("start", State)
@pytest.mark.parametrize("end", State)
def test_only_the_tables_edges_can_be_taken(start: State, end: State) -> None:
    request = request_in(start)
    if end in TRANSITIONS[start]:
        request.move(end)
        assert request.state is end
    else:
        with pytest.raises(IllegalTransitionError, match="r: "):
            request.move(end)
        assert request.state is start


def test_finished_is_final_and_reachable_from_everywhere() -> None:
    assert not TRANSITIONS[State.FINISHED]
    assert all(State.FINISHED in ends for start, ends in TRANSITIONS.items() if start is not State.FINISHED)
