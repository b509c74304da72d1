"""A request's life as a transition table.

    waiting ──> running <──> preempted
       │           │             │
       └───────────┴──> finished <┘

A *waiting* request has never been in the batch. A *running* one holds a batch slot, and all its KV is on the device. A
*preempted* one has lost its slot; its KV stays where it is until other requests need the blocks. Only core changes a
request; an illegal transition raises.
"""

from dataclasses import dataclass
from enum import StrEnum

from allocator import BLOCK_TOKENS
from service.core.messages.commands import Submit
from service.core.state.owners import Prefix, Session

Needs = frozenset[tuple[Prefix | None, int]]  # blocks beyond a prefix, of a request, or of several whose least count


class State(StrEnum):
    """The states of a request."""

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
    """A request was to make a transition that the table does not have: a bug in core."""


@dataclass(slots=True, eq=False)
class Request:
    """One turn in a session, which has its tokens: first ``prompt_length`` of the prompt, then the answer's."""

    number: int  # order of arrival
    spec: Submit
    session: Session
    arrival_s: float
    state: State = State.WAITING
    slot: int | None = None
    started_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    preempted_s: float | None = None  # when it was preempted last
    preempt_reason: str | None = None  # of the last preemption
    resumed_s: float | None = None
    reused: int = 0  # prompt tokens with KV from an earlier turn or another request
    continued: int = 0  # those of them from the session's own earlier turn
    recomputed: int = 0
    computed_once: int = 0  # leading tokens that have had KV at some time in this turn
    preemptions: int = 0
    preemptions_unrewarded: int = 0  # since it last ran for a long quantum
    steps_in_slot: int = 0  # steps planned since it got its slot
    steps_late: int = 0  # steps planned since it is admitted without a slot
    answered_before_slot: int = 0  # tokens drawn before it got its slot
    is_backfilled: bool = False  # it was admitted below a request that does not fit
    is_deferred: bool = False  # what it is to stand on is under copy, and cannot be split before that ends
    is_swapping_in: bool = False  # from the start of its swap-in until it gets a slot
    admitted_s: float | None = None  # since when it is admitted without a slot: its KV or its blocks are on the way
    stalled_s: float = 0.0  # spent preempted, up to its last resumption or its end
    swapped_out: int = 0  # blocks copied to the host
    swapped_in: int = 0
    num_answered: int = 0  # answer tokens drawn, those of a stop string included
    num_drawing: int = 0  # tokens that steps under way draw: how many is known before which

    def move(self, to: State) -> None:
        """Change state. Raises IllegalTransitionError for a transition that is not in the table."""
        if to not in TRANSITIONS[self.state]:
            raise IllegalTransitionError(f"request {self.spec.request_id}: {self.state} -> {to}")
        self.state = to

    @property
    def request_id(self) -> str:
        """The id by which clients know it."""
        return self.spec.request_id

    @property
    def priority(self) -> int:
        """Lower numbers are served first."""
        return self.spec.priority

    @property
    def sequence(self) -> int:
        """The sequence that owns its KV."""
        return self.session.sequence

    @property
    def prompt_length(self) -> int:
        """Number of prompt tokens."""
        return len(self.spec.prompt)

    @property
    def num_tokens(self) -> int:
        """Number of tokens so far, prompt and answer, those being drawn included."""
        return len(self.session.tokens) + self.num_drawing

    @property
    def num_blocks(self) -> int:
        """Device blocks for its tokens so far."""
        return -(-self.num_tokens // BLOCK_TOKENS)

    @property
    def own_blocks(self) -> int:
        """Those of its blocks that are not of the prefixes on its path."""
        return self.num_blocks - self.session.start // BLOCK_TOKENS

    @property
    def needs(self) -> Needs:
        """What it needs, for `service.core.admission.Room`."""
        return frozenset({(self.session.prefix, self.own_blocks)})

    @property
    def num_drawn(self) -> int:
        """Number of answer tokens so far, those being drawn included."""
        return self.num_answered + self.num_drawing

    @property
    def is_spent(self) -> bool:
        """Whether its last token is drawn or being drawn: there is nothing left to plan."""
        return self.num_drawn >= self.spec.max_tokens
