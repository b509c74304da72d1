"""The service of the last minutes, by tenant."""

import pytest

from service.api.operations.service_history import MAX_TENANTS, OTHERS, SPAN_S, WINDOW_S, ServiceHistory
from service.core.messages.events import Served, SessionDropped


class Seen:
    """A history with a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 5.0
        self.history = ServiceHistory(lambda: self.now)

    def serve(self, **services: float) -> None:
        self.history.observe(Served(tuple(services.items())))


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_services_add_up_and_the_largest_comes_first(seen):
    seen.serve(alice=1.0, bob=2.0)
    seen.now += SPAN_S
    seen.serve(alice=4.0)
    assert list(seen.history.totals().items()) == [("alice", 5.0), ("bob", 2.0)]


def test_what_is_older_than_the_window_is_forgotten_also_when_nothing_follows(seen):
    seen.serve(alice=1.0)
    seen.now += WINDOW_S - SPAN_S
    seen.serve(bob=2.0)
    assert seen.history.totals() == {"alice": 1.0, "bob": 2.0}
    seen.now += SPAN_S
    assert seen.history.totals() == {"bob": 2.0}
    seen.now += WINDOW_S
    assert seen.history.totals() == {}


def test_names_without_number_take_bounded_memory_and_no_service_is_lost(seen):
    for _ in range(2 * WINDOW_S // SPAN_S):
        seen.serve(**{f"{seen.now}-{number}": 1.0 for number in range(3 * MAX_TENANTS)})
        seen.now += SPAN_S
    seen.now -= SPAN_S
    totals = seen.history.totals()
    assert len(totals) == MAX_TENANTS + 1
    assert sum(totals.values()) == 3 * MAX_TENANTS * WINDOW_S // SPAN_S
    assert sum(len(span) for _, span in seen.history._spans) == (MAX_TENANTS + 1) * WINDOW_S // SPAN_S
    assert list(totals)[-1] == OTHERS


def test_other_events_are_none_of_its_business(seen):
    seen.history.observe(SessionDropped("room", 100))
    assert seen.history.totals() == {}
