"""``fastswitch serve --record-trace``: the arrivals and lengths of turns, as a trace that `fastswitch load` replays.

The recorder is an observer. The event loop only puts events into a queue; a thread links turns to conversations and
writes them. A conversation is written when it has been silent for as long as a session is kept, when too many are open,
or at the end; a crash loses those that are open. The file holds numbers and the names of tenants, but no text, no
tokens, no keys and no addresses.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2s
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import TextIO

import structlog

from clients.trace import Trace, TraceConversation, TraceTurn, conversation_line, header_line
from service.core.messages.commands import Submit
from service.core.messages.events import Event, Finished, FinishReason, Refused
from service.engine import Turn as EngineTurn
from service.errors import ConfigError

log = structlog.get_logger(__name__)

MAX_OPEN = 4096  # conversations that may still go on

_Item = tuple[float, Submit | Finished | Refused] | None  # None: the end


@dataclass(slots=True)
class _Open:
    """A conversation so far.

    ``known``: its newest answered turn. ``answered``: the tokens of that answer. ``end_s``: when its newest turn ended;
    None while that is under way.
    """

    name: str
    tenant: str
    priority: int
    arrival_s: float
    key: tuple[str, ...]
    background: bool = False
    known: Submit | None = None
    answered: int = 0
    end_s: float | None = None
    turns: list[TraceTurn] = field(default_factory=list)

    @property
    def prompt_length(self) -> int:
        """Number of tokens of its newest answered prompt."""
        return 0 if self.known is None else len(self.known.prompt)

    def goes_on_with(self, submit: Submit) -> bool:
        """Return whether a later turn's prompt begins with the newest answered one."""
        longer = len(submit.prompt) > self.prompt_length > 0
        return longer and self.known is not None and submit.packed.startswith(self.known.packed)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A turn under way. ``before_s``: when the previous turn ended; None for the first."""

    conversation: _Open
    submit: Submit
    user_tokens: int
    think_s: float
    before_s: float | None


class TraceRecorder:
    """Owns the file and its thread. `admit` and `observe` belong to the event loop."""

    def __init__(
        self,
        path: Path,
        idle_s: float,
        clock: Callable[[], float] = time.monotonic,
        source: Mapping[str, str | int] = MappingProxyType({}),
    ) -> None:
        """Open ``path`` anew. Raises `ConfigError`.

        ``idle_s``: how long a conversation may be silent. ``source``: what else the header says about the trace's
        origin.
        """
        try:
            file = path.open("w", encoding="utf-8", buffering=1)  # by lines: a crash loses none that is written
        except OSError as error:
            raise ConfigError(f"--record-trace {path}: {error.strerror}") from error
        self._clock = clock
        self._source = {"recorded_at": datetime.now(UTC).isoformat(), **source}
        self._items: SimpleQueue[_Item] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, args=(file, idle_s), name="trace", daemon=True)
        self._thread.start()

    def admit(self, turns: Sequence[EngineTurn]) -> None:
        """Note turns that are posted."""
        now = self._clock()
        for turn in turns:
            self._items.put((now, turn.submit))

    def observe(self, event: Event) -> None:
        """Note how a request ended."""
        if isinstance(event, Finished | Refused):
            self._items.put((self._clock(), event))

    def close(self) -> None:
        """Write what is open and close the file."""
        self._items.put(None)
        self._thread.join()

    def _write(self, file: TextIO, idle_s: float) -> None:
        """Run the thread. A full disk ends the trace, not the service."""
        try:
            with file:
                file.write(header_line(Trace((), source=self._source)))
                links = _Links(file, idle_s)
                while (item := self._items.get()) is not None:
                    links.take(*item)
                links.flush()
        except OSError as error:
            log.error("trace_not_written", reason=error.strerror)
            while self._items.get() is not None:  # or the queue would grow for as long as the service lives
                pass


class _Links:
    """Links turns to conversations. Belongs to the thread.

    ``_open`` holds the conversations that are not written yet, in the order in which their last turns began. A turn
    continues the conversation of its session's name, or else, among those of its tenant, user and scope, the one with
    the longest newest answered prompt that its own prompt begins with, the last of several. Clients leave turns without
    an answer out of the history.
    """

    def __init__(self, file: TextIO, idle_s: float) -> None:
        self._file = file
        self._idle_s = idle_s
        self._start_s: float | None = None
        self._names = count()
        self._pseudonym_key = secrets.token_bytes(16)
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._pending: dict[str, _Pending] = {}

    def take(self, now: float, what: Submit | Finished | Refused) -> None:
        """Process an item, then write conversations that have been silent for too long."""
        self._start_s = now if self._start_s is None else self._start_s
        now -= self._start_s
        match what:
            case Submit():
                self._begin(what, now)
            case Finished() if pending := self._pending.pop(what.request_id, None):
                _end(pending, what, now)
            case Refused() if pending := self._pending.pop(what.request_id, None):
                self._take_back(pending)
        self._write_silent(now)

    def flush(self) -> None:
        """Write all conversations, without turns under way."""
        for conversation in self._open.values():
            self._write(conversation)

    def _begin(self, submit: Submit, now: float) -> None:
        conversation = self._continued(submit) or self._new(submit, now)
        self._open.move_to_end(conversation.name)
        think_s = 0.0 if conversation.end_s is None else now - conversation.end_s
        new = len(submit.prompt) - conversation.prompt_length - conversation.answered
        self._pending[submit.request_id] = _Pending(conversation, submit, max(1, new), think_s, conversation.end_s)
        conversation.end_s = None

    def _take_back(self, pending: _Pending) -> None:
        """Undo a turn that was refused."""
        pending.conversation.end_s = pending.before_s
        if pending.before_s is None:
            self._open.pop(pending.conversation.name, None)

    def _new(self, submit: Submit, now: float) -> _Open:
        name = f"c{next(self._names)}"
        tenant = self._tenant(submit.tenant)
        opened = _Open(name, tenant, submit.priority, now, _key(submit), submit.background)
        self._open[name] = opened
        return opened

    def _tenant(self, charged: str) -> str:
        """Return a tenant's name, or a pseudonym of an address, which has a colon: traces are passed on."""
        if ":" not in charged:
            return charged
        return f"address-{blake2s(charged.encode(), key=self._pseudonym_key, digest_size=6).hexdigest()}"

    def _continued(self, submit: Submit) -> _Open | None:
        key, is_named = _key(submit), submit.session is not None
        candidates = [
            conversation
            for conversation in reversed(self._open.values())
            if conversation.key == key and conversation.end_s is not None
            if is_named or conversation.goes_on_with(submit)
        ]
        return max(candidates, key=lambda conversation: conversation.prompt_length, default=None)

    def _write_silent(self, now: float) -> None:
        while self._open:
            oldest = next(iter(self._open.values()))
            silent = oldest.end_s is not None and now - oldest.end_s > self._idle_s
            if not silent and len(self._open) <= MAX_OPEN:
                return
            self._write(self._open.pop(oldest.name))

    def _write(self, conversation: _Open) -> None:
        if conversation.turns:
            made = TraceConversation(
                conversation.name,
                round(conversation.arrival_s, 6),
                tuple(conversation.turns),
                conversation.tenant,
                conversation.priority,
                service_tier="flex" if conversation.background else None,
            )
            self._file.write(conversation_line(made))


def _end(pending: _Pending, finished: Finished, now: float) -> None:
    """Add a turn to its conversation, with its answer's length; if it was cancelled, with the length until then."""
    conversation, asked = pending.conversation, pending.submit
    conversation.end_s = now
    if finished.usage.completion:
        conversation.known, conversation.answered = asked, finished.usage.completion
    cancelled = finished.reason is FinishReason.CANCELLED
    conversation.turns.append(
        TraceTurn(
            pending.user_tokens,
            asked.max_tokens if cancelled else max(1, finished.usage.completion),
            round(pending.think_s, 6),
            priority=None if asked.priority == conversation.priority else asked.priority,
            cancel_after=finished.usage.completion if cancelled else None,
        )
    )


def _key(submit: Submit) -> tuple[str, ...]:
    """Return what the turns of one conversation share. A scope may be that of many users, and tells salts apart."""
    if submit.session is not None:
        return ("session", submit.session)
    return ("turns", submit.tenant, submit.user, *(submit.scope or ()))
