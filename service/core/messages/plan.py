"""The inputs of a step (`StepPlan`), its outputs (`StepResult`), and a `CopyResult` for each copy that it started.

Both are frozen, serialisable and hold no arrays, so the data plane may live in another thread or process. A plan names
a running sequence's next input token by its batch slot, not by value: it can be made before the previous step's result
is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from allocator import Extent, Move, Ticket
from service.core.messages.sampling import SamplingParams, TokenLogprobs


@dataclass(frozen=True, slots=True)
class SlotOpening:
    """A request takes a batch slot; the data plane forgets what the slot held before.

    ``last_token`` is the next input of a request that resumes with its KV in place. ``prompt`` and ``answer`` are the
    tokens so far, which penalties count; they are empty for a request without penalties.
    """

    slot: int
    last_token: int
    sampling_params: SamplingParams
    prompt: tuple[int, ...] = ()
    answer: tuple[int, ...] = ()

    @classmethod
    def of(cls, slot: int, tokens: Sequence[int], prompt_length: int, params: SamplingParams) -> "SlotOpening":
        """Return the opening for a request with these tokens, of which the first ``prompt_length`` are its prompt."""
        if params.penalties is None:
            return cls(slot, tokens[-1], params)
        return cls(slot, tokens[-1], params, tuple(tokens[:prompt_length]), tuple(tokens[prompt_length:]))


@dataclass(frozen=True, slots=True)
class Row:
    """The part of a step that one sequence takes: query tokens at positions ``start .. start + num_tokens``.

    ``tokens`` are a prefill chunk's ids; None means one decode token, the one last drawn in ``slot``. ``extents`` are
    the sequence's device blocks in order, covering at least ``start + num_tokens`` tokens, and the same tuple object
    while the blocks do not change. ``draws_token`` asks for a token after the row's last position. ``request_id`` is
    for readers of the plan, not for the data plane.
    """

    slot: int
    start: int
    tokens: tuple[int, ...] | None
    extents: tuple[Extent, ...]
    draws_token: bool
    request_id: str = ""

    @property
    def num_tokens(self) -> int:
        """Number of query tokens."""
        return 1 if self.tokens is None else len(self.tokens)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One model iteration: slots are opened and blocks moved first, then all rows run in one forward pass.

    ``copies`` start before it, after everything that earlier steps wrote; they run beside it, and each end is reported
    by itself. A plan without rows is no step: the model waits for a copy, or for a step under way. ``poison``, only in
    debugging, are blocks whose contents mean nothing to their new owner, to be spoiled before anything else. ``moves``
    of device blocks are carried out one after the other before the rows run, whose extents name the destinations.
    """

    number: int
    opened: tuple[SlotOpening, ...]
    rows: tuple[Row, ...]
    copies: tuple[Ticket, ...] = ()
    poison: tuple[Extent, ...] = ()
    moves: tuple[Move, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Number of query tokens of all rows."""
        return sum(row.num_tokens for row in self.rows)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token drawn for a slot, with ``logprobs`` if the request asked for them.

    ``invalid``: the row's logits were not finite, ``token`` means nothing and the request must end.
    """

    slot: int
    token: int
    logprobs: TokenLogprobs | None = None
    invalid: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """What the data plane returns for a plan: one `Drawn` for each row that draws a token, in row order.

    ``host_seconds``: the part of ``device_seconds`` in which no kernel ran, where the runner can tell.
    """

    number: int
    drawn: Sequence[Drawn]
    device_seconds: float
    host_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CopyResult:
    """How a copy ended: after ``seconds`` of copying, in ``pieces`` contiguous copies, complete or failed."""

    ticket: int
    seconds: float
    pieces: int
    failed: bool = False
