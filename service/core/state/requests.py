"""A request's life as a transition table.

    waiting ──> running <──> preempted
       │           │             │
       └───────────┴──> finished <┘

*waiting*: never in the batch yet. *running*: holds a batch slot, and all its KV is on the device. *preempted*: held one
and lost it; its KV stays where it is until somebody needs the room. Core alone changes a request; an illegal move
raises.
"""

from dataclasses import dataclass
from enum import StrEnum

from service.core.messages.commands import Submit
from service.core.state.sessions import Session


class State(StrEnum):
    """Where a request is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    FINISHED = "finished"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.RUNNING, State.FINISHED}),
    State.RUNNING: frozenset({State.PREEMPTED, State.FINISHED}),
    State.PREEMPTED: frozenset({State.RUNNING, State.FINISHED}),
    State.FINISHED: frozenset(),
}


class IllegalTransitionError(RuntimeError):
    """A request was moved along an edge that its life does not have: a bug in core."""


@dataclass(slots=True, eq=False)
class Request:
    """One turn in a session. Its tokens are the session's: ``prompt_length`` of them prompt, the rest answer."""

    number: int  # order of arrival
    spec: Submit
    session: Session
    arrival_s: float
    state: State = State.WAITING
    slot: int | None = None
    started_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    parked_s: float | None = None
    parked_for: str | None = None  # why it was preempted last
    resumed_s: float | None = None
    reused: int = 0  # prompt tokens whose KV an earlier turn left
    recomputed: int = 0
    computed_once: int = 0  # tokens whose KV this turn has had at some time
    preemptions: int = 0
    preemptions_unrewarded: int = 0  # since it was promoted last
    steps_seated: int = 0  # since it got its slot
    answered_before: int = 0  # tokens drawn before it got its slot
    is_coming: bool = False  # its KV is being copied in, or has been, and it has not run since
    wanted_s: float | None = None  # since when it should run, but its KV or its room is on the way
    stalled_s: float = 0.0  # without a slot after it had one, up to when it came back last, or ended
    swapped_out: int = 0  # blocks copied to the host
    swapped_in: int = 0
    num_answered: int = 0  # tokens drawn, those of a stop string included
    num_drawing: int = 0  # tokens that steps under way draw: their number is known, not what they are

    def move(self, to: State) -> None:
        """Change state; raises `IllegalTransitionError` off the table."""
        if to not in TRANSITIONS[self.state]:
            raise IllegalTransitionError(f"request {self.spec.request_id}: {self.state} -> {to}")
        self.state = to

    @property
    def request_id(self) -> str:
        """The name the outside knows it by."""
        return self.spec.request_id

    @property
    def priority(self) -> int:
        """Lower first."""
        return self.spec.priority

    @property
    def sequence(self) -> int:
        """The owner of its KV."""
        return self.session.sequence

    @property
    def prompt_length(self) -> int:
        """Prompt tokens."""
        return len(self.spec.prompt)

    @property
    def num_tokens(self) -> int:
        """Tokens so far, prompt and answer, those being drawn included."""
        return len(self.session.tokens) + self.num_drawing

    @property
    def num_drawn(self) -> int:
        """Tokens of the answer so far, those being drawn included."""
        return self.num_answered + self.num_drawing

    @property
    def is_spent(self) -> bool:
        """Whether its last token is being drawn: there is nothing left to plan."""
        return self.num_drawn >= self.spec.max_tokens
