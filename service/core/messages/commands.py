"""Commands to core: frozen, serialisable, posted to one queue."""

from dataclasses import dataclass, field

from service.core.messages.packing import pack
from service.core.messages.sampling import RepetitionDetection, SamplingParams


@dataclass(frozen=True, slots=True)
class Submit:
    """Start a turn. ``prompt`` is the whole history as token ids.

    ``scope`` is where reuse ends: a turn continues sessions, and shares prefixes, of an equal scope only; of none where
    it is None. ``max_tokens`` bounds the answer. ``stop_tokens`` end it and are not part of its text; so does
    ``repetition``, after the tokens that repeat. ``priority``: lower first, as in vLLM.

    ``tenant`` is charged, also when ``scope`` is None; ``weight`` is its share against other tenants, which its
    ``user``s divide equally. ``background`` work gets only what all other work leaves. ``max_idle_sessions`` is how
    many of the tenant's conversations may keep KV between turns, None for no limit of its own.

    ``session`` names the session that the turn belongs to: the turn continues it, or opens it if there is none with
    that name which its prompt continues. Other turns never continue a session with a name.

    ``does_not_expire``: the KV that the turn leaves is kept however long nobody uses it, until its blocks are needed.
    """

    request_id: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling_params: SamplingParams
    stop_tokens: frozenset[int]
    scope: tuple[str, ...] | None
    priority: int = 0
    tenant: str = ""
    user: str = ""
    weight: float = 1.0
    background: bool = False
    max_idle_sessions: int | None = None
    session: str | None = None
    repetition: RepetitionDetection | None = None
    does_not_expire: bool = False
    packed: bytes = field(init=False, repr=False, compare=False)  # the prompt, for comparisons

    def __post_init__(self) -> None:
        object.__setattr__(self, "packed", pack(self.prompt))


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request now. Unknown or finished ids are ignored, since a request may finish before its cancel arrives."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Inspect:
    """Ask for a `Snapshot`, which will carry ``number``."""

    number: int


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Forget the session with that name, and cancel its live request. Unknown names are ignored."""

    session: str
