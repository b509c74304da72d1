"""The loop: plan -> run -> commit.

There are few threads and one queue, the inbox. Any thread posts turns, cancels and questions to it. The *engine thread*
alone touches core: it empties the inbox, plans, and hands the plan to `service.device`, whose threads start its copies
and launch its step; the step's result and the ends of copies come to the same inbox. Where the runner's depth is 0, a
plan is made when no step runs. At depth 1 the next step is planned and launched while one runs, so that the device
never waits for Python. The listener gets the outputs, once for each batch of work. Nothing polls and core needs no
lock.

Text is made between run and commit: the engine thread detokenises the drawn tokens and passes core the place where a
stop string ends the answer.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from types import MappingProxyType

import structlog

from service.core.core import Core
from service.core.messages.commands import Cancel, CloseSession, Inspect, Submit
from service.core.messages.events import Event, Finished, Refused, StepDone, TokenOut
from service.core.messages.plan import CopyResult, StepPlan, StepResult
from service.core.messages.ports import Copier, Runner
from service.device import Broken, DeviceThreads, StepFailed
from service.errors import DeviceLostError, DeviceMemoryError, OutOfMemoryError, QueueTimeoutError, RequestError
from service.execution.models.text import TextStage

log = structlog.get_logger(__name__)

LONGEST_WAIT_S = 3600.0  # for something to expire; a queue takes no infinite timeout


@dataclass(frozen=True, slots=True)
class Turn:
    """A submit with what core must not know: the strings that end the answer, and the id that the client knows."""

    submit: Submit
    stop: tuple[str, ...] = ()
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """An event as it leaves the engine.

    ``text``: what a `TokenOut` releases, or a `Finished` had still held back. ``error``: why a `Finished` ends with an
    error, if clients may know more than that the model failed.
    """

    event: Event
    text: str = ""
    error: RequestError | None = None


Listener = Callable[[list[Output]], None]


class _Stop:
    """Asks the engine thread to end."""


_Item = Turn | Cancel | CloseSession | Inspect | StepResult | CopyResult | StepFailed | Broken | _Stop


@dataclass(frozen=True, slots=True)
class _Launched:
    """A plan that the device has: since when, how long it took to make, and how long the device idled before it.

    ``copy_wait_s``: the part of ``idle_s`` that passed waiting for copies. ``is_void``: an earlier step failed, so that
    the result means nothing.
    """

    plan: StepPlan
    since: float
    plan_s: float
    idle_s: float
    copy_wait_s: float
    is_void: bool = False


class Engine:
    """Owns core and its thread.

    ``failed`` is set if the loop ever breaks, by a bug or because the device is lost; nothing is served after that. The
    listener is then called a last time, with no outputs, and requests under way get no further events.
    """

    def __init__(
        self,
        core: Core,
        runner: Runner,
        texts: TextStage,
        copier: Copier | None = None,
        clock: Callable[[], float] = time.monotonic,
        check_every_step: bool = False,
    ) -> None:
        self.failed: BaseException | None = None
        self._core = core
        self._texts = texts
        self._copier = copier
        self._clock = clock
        self._check_every_step = check_every_step
        self._inbox: SimpleQueue[_Item] = SimpleQueue()
        self._device = DeviceThreads(runner, copier, self._inbox.put, clock)
        self._turns: dict[str, Turn] = {}
        self._launched: deque[_Launched] = deque()  # oldest first; at most one more than the runner's depth
        self._device_free_since: float | None = None  # None: it runs, or there was nothing to run
        self._copies_awaited_since: float | None = None
        self._copying: dict[int, float] = {}  # the start of each copy under way, by ticket
        self._swap_s = 0.0  # spent on ends of copies since the last step's account
        self._submit_accounted_s = 0.0  # the part of the device's ``submit_s`` that accounts already have
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)
        self._listener: Listener = lambda outputs: None

    def start(self, listener: Listener) -> None:
        """Start all threads. ``listener`` is called on the engine thread and must not block."""
        self._listener = listener
        if self._copier is not None:
            self._copier.start(self._inbox.put)
        self._device.start()
        self._thread.start()

    @property
    def step_age_s(self) -> float:
        """Seconds that the oldest step or copy under way has taken, 0 if there is none. Any thread may ask."""
        begun = [launched.since for launched in self._launched.copy()]
        begun += self._copying.copy().values()
        return self._clock() - min(begun) if begun else 0.0

    def post(self, item: Turn | Cancel | CloseSession | Inspect) -> None:
        """Put an item into the inbox, from any thread. The listener gets the answer."""
        self._inbox.put(item)

    def stop(self) -> None:
        """End after the step under way, or without it if it hangs. Live requests get no further events."""
        self._inbox.put(_Stop())
        self._thread.join()
        ended = self._device.stop()
        if self._copier is not None:
            self._copier.stop()
        if not ended:
            log.error("device_hangs", step_age_s=self.step_age_s)

    def _main(self) -> None:
        try:
            while not self._stopping:
                self._loop_once()
        except Exception as error:
            log.exception("engine_failed")
            self.failed = error
            self._listener([])

    def _loop_once(self) -> None:
        """Process what arrived (a step's result is committed there), then plan the next step and launch it."""
        outputs = self._receive()
        while len(self._launched) <= self._device.depth and not self._stopping and self._launch():
            pass
        outputs += self._collect()
        if outputs and not self._launched:  # no step will report them
            outputs.append(Output(self._core.gauges()))
        if outputs:
            if self._launched:
                self._device.let_begin()
            self._listener(outputs)

    def _launch(self) -> bool:
        """Plan, and hand the plan to the device thread. Return False if there is no step to launch now."""
        began = self._clock()
        plan = self._core.plan(began)
        if plan is None:
            self._device_free_since = self._copies_awaited_since = None
            return False
        now = self._clock()
        self._copying.update((ticket.number, now) for ticket in plan.copies)
        if plan.rows:
            self._launched.append(self._account_launch(plan, began, now))
        elif not self._launched:
            assert self._copying, "core waits for a copy and none is under way"
            self._copies_awaited_since = self._copies_awaited_since or now
        self._device.execute(plan)
        return bool(plan.rows)

    def _account_launch(self, plan: StepPlan, began: float, now: float) -> _Launched:
        idle_s = 0.0 if self._device_free_since is None else now - self._device_free_since
        copy_wait_s = 0.0 if self._copies_awaited_since is None else now - self._copies_awaited_since
        self._device_free_since = self._copies_awaited_since = None
        return _Launched(plan, now, now - began, idle_s, copy_wait_s)

    def _end_copy(self, result: CopyResult) -> None:
        began = self._clock()
        del self._copying[result.ticket]
        self._core.copied(result)
        self._swap_s += self._clock() - began

    def _receive(self) -> list[Output]:
        """Wait for an item, then process the whole inbox."""
        outputs: list[Output] = []
        item = self._wait()
        while item is not None:
            match item:
                case Turn():
                    self._begin(item)
                case Cancel():
                    self._core.cancel(item.request_id, self._clock())
                case Inspect():
                    outputs.append(Output(self._core.snapshot(item.number, self._clock())))
                case CloseSession():
                    self._core.close_session(item.session, self._clock())
                case StepResult():
                    outputs += self._commit(item)
                case CopyResult():
                    self._end_copy(item)
                case StepFailed():
                    outputs += self._abandon(item)
                case Broken():
                    raise item.error
                case _Stop():
                    self._stopping = True
            item = None if self._inbox.empty() else self._inbox.get()
        return outputs

    def _wait(self) -> _Item | None:
        """Return the next item, or None if an idle session or a wait in the queue expires first."""
        expiry = None if self._launched else self._core.next_expiry_s()
        timeout = None if expiry is None else min(LONGEST_WAIT_S, max(0.0, expiry - self._clock()))
        try:
            return self._inbox.get(timeout=timeout)
        except Empty:
            return None

    def _begin(self, turn: Turn) -> None:
        if self._core.submit(turn.submit, self._clock()):
            self._turns[turn.submit.request_id] = turn
            self._texts.open(turn.submit.request_id, turn.stop)

    def _commit(self, result: StepResult) -> list[Output]:
        """Detokenise the drawn tokens, commit them to core, and account for the step."""
        launched = self._take_back()
        if launched.is_void:
            return []
        texts, stopped = self._read(launched.plan, result)
        began = self._clock()
        self._core.commit(result, stopped, began)
        commit_s = self._clock() - began
        if self._check_every_step:
            self._core.check()
        return [*self._collect(texts), Output(self._account(launched, result, commit_s))]

    def _take_back(self) -> _Launched:
        launched = self._launched.popleft()
        if not self._launched:
            self._device_free_since = self._clock()
        return launched

    def _read(self, plan: StepPlan, result: StepResult) -> tuple[dict[str, str], dict[str, int]]:
        """Return the text that each drawn token releases, and where stop strings end answers, by request id."""
        texts: dict[str, str] = {}
        stopped: dict[str, int] = {}
        for row, drawn in zip((row for row in plan.rows if row.draws_token), result.drawn, strict=True):
            turn = self._turns.get(row.request_id)
            if drawn.invalid:  # core is about to end it with an error
                log.error("logits_not_finite", answer_id=row.request_id, step=plan.number)
                continue
            if turn is None:  # cancelled meanwhile
                continue
            piece = self._texts.push(row.request_id, drawn.token, drawn.token in turn.submit.stop_tokens)
            texts[row.request_id] = piece.text
            if piece.keep_tokens is not None:
                stopped[row.request_id] = piece.keep_tokens
        return texts, stopped

    def _account(self, launched: _Launched, result: StepResult, commit_s: float) -> StepDone:
        decodes = sum(row.tokens is None for row in launched.plan.rows)
        submit_s = self._device.submit_s
        swap_s = self._swap_s + submit_s - self._submit_accounted_s
        self._swap_s, self._submit_accounted_s = 0.0, submit_s
        return StepDone(
            number=result.number,
            prefill_tokens=launched.plan.num_tokens - decodes,
            decode_tokens=decodes,
            plan_s=launched.plan_s,
            device_s=result.device_seconds,
            commit_s=commit_s,
            idle_s=launched.idle_s,
            copy_wait_s=launched.copy_wait_s,
            swap_s=swap_s,
            host_s=result.host_seconds,
            gauges=self._core.gauges(),
        )

    def _abandon(self, failure: StepFailed) -> list[Output]:
        """End the requests of a failed step. Results of steps launched after it still arrive, but mean nothing."""
        log.error("step_failed", step=failure.number, exc_info=failure.error)
        if isinstance(failure.error, DeviceLostError):
            raise failure.error
        launched = self._take_back()
        self._launched = deque(replace(later, is_void=True) for later in self._launched)
        if launched.is_void:
            return []
        before = self._collect()
        self._core.abandon(failure.number, self._clock())
        error = OutOfMemoryError(failure.error.message) if isinstance(failure.error, DeviceMemoryError) else None
        return before + [replace(output, error=error) for output in self._collect()]

    def _collect(self, texts: Mapping[str, str] = MappingProxyType({})) -> list[Output]:
        """Return core's new events with their text."""
        return [Output(event, self._text_of(event, texts)) for event in self._core.events()]

    def _text_of(self, event: Event, texts: Mapping[str, str]) -> str:
        match event:
            case TokenOut():
                return texts[event.request_id]
            case Finished():
                del self._turns[event.request_id]
                return self._texts.close(event.request_id)
            case Refused(code=QueueTimeoutError.code):  # other refusals come before a turn is known here
                del self._turns[event.request_id]
                self._texts.close(event.request_id)
        return ""
