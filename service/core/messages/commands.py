"""What the outside asks of core: frozen, serialisable, posted to one queue."""

from dataclasses import dataclass

from service.core.messages.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Submit:
    """A turn. ``prompt`` is the whole history as token ids.

    ``scope`` is (tenant, user): an idle session is adopted only inside it; None never adopts. ``max_tokens`` bounds the
    answer. ``stop_tokens`` end it and are not part of its text. ``priority``: lower first, as in vLLM.

    ``tenant`` is who is charged, also when ``scope`` is None; ``weight`` its share against other tenants;
    ``max_idle_sessions`` how many of its conversations may keep KV between turns, None as many as anybody's.

    ``session`` names the session that the turn belongs to: it goes on as far as the prompt agrees with it, or is opened
    if there is none of that name; a session with a name is never adopted.
    """

    request_id: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling_params: SamplingParams
    stop_tokens: frozenset[int]
    scope: tuple[str, str] | None
    priority: int = 0
    tenant: str = ""
    weight: float = 1.0
    max_idle_sessions: int | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request now; unknown or finished ids are ignored, since a cancel may cross the finish on its way."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Inspect:
    """Ask for a `Snapshot`, which will carry ``number``."""

    number: int


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Forget a session by its name, and end what runs in it; unknown names are ignored."""

    session: str


@dataclass(frozen=True, slots=True)
class CloseScope:
    """Nobody will ever come in this scope again: forget its idle sessions, and its busy ones when their turns end."""

    scope: tuple[str, str]
