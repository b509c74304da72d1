"""Failures and delays of a simulated device, which tests inject; `Faults` itself does nothing.

A fault sees each piece of work twice. When it is submitted, on the submitting thread, an exception refuses the call, as
CUDA can refuse a copy. When its turn comes, on its stream's thread, the fault may block, and an exception is the
failure of the work. A `DeviceLostError` raised in either place is the loss of the device.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from time import sleep

from service.errors import DeviceLostError, DeviceMemoryError


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work, the ``number``-th of its stream.

    ``name``: an op's, "fill", or a copy's: "copy-in" to the device, "copy-out", "copy-inside".
    """

    stream: int
    number: int
    name: str
    num_bytes: int = 0

    @property
    def is_copy(self) -> bool:
        """Whether the host's memory takes part."""
        return self.name in ("copy-in", "copy-out")


Which = Callable[[Work], bool]


class Faults:
    """No faults, and the base of all others."""

    def submitted(self, work: Work) -> None:
        """Run on the submitting thread, before the work is queued."""

    def begins(self, work: Work) -> None:
        """Run on the stream's thread, before the work is done."""


class Several(Faults):
    """Several faults, in their order."""

    def __init__(self, *faults: Faults) -> None:
        self._faults = faults

    def submitted(self, work: Work) -> None:
        """Pass the work to each fault."""
        for fault in self._faults:
            fault.submitted(work)

    def begins(self, work: Work) -> None:
        """Pass the work to each fault."""
        for fault in self._faults:
            fault.begins(work)


class Armed(Faults):
    """Another fault, in effect from `arm` to `disarm`: a device can be set up and read without it."""

    def __init__(self, fault: Faults | None = None) -> None:
        self._fault = fault or Faults()
        self._armed = False

    def arm(self, fault: Faults | None = None) -> None:
        """Put the fault into effect, or the one passed here in its place."""
        self._fault = fault or self._fault
        self._armed = True

    def disarm(self) -> None:
        """End the fault's effect."""
        self._armed = False

    def submitted(self, work: Work) -> None:
        """Pass the work to the fault."""
        if self._armed:
            self._fault.submitted(work)

    def begins(self, work: Work) -> None:
        """Pass the work to the fault."""
        if self._armed:
            self._fault.begins(work)


class Delays(Faults):
    """Makes each piece of work late by up to ``longest_s``, drawn from seed, stream and number alone."""

    def __init__(self, seed: int, longest_s: float, which: Which = lambda work: True) -> None:
        self._seed, self._longest_s, self._which = seed, longest_s, which

    def begins(self, work: Work) -> None:
        """Sleep if the work is picked."""
        if self._which(work):
            sleep(Random(f"{self._seed}/{work.stream}/{work.number}").random() * self._longest_s)


class Failing(Faults):
    """Fails the ``first .. last`` of the work that ``which`` picks, counted from 0 (``last`` None: all that follow).

    ``refused``: it fails when it is submitted, not when it begins. ``error`` makes the exception.
    """

    def __init__(
        self,
        which: Which,
        first: int = 0,
        last: int | None = None,
        *,
        refused: bool = False,
        error: Callable[[str], Exception] = RuntimeError,
    ) -> None:
        self._which, self._first, self._last = which, first, last
        self._refused, self._error = refused, error
        self._seen = 0
        self._lock = threading.Lock()  # all streams' threads count together

    def submitted(self, work: Work) -> None:
        """Raise if this work is to be refused."""
        if self._refused:
            self._fail(work)

    def begins(self, work: Work) -> None:
        """Raise if this work is to fail."""
        if not self._refused:
            self._fail(work)

    def _fail(self, work: Work) -> None:
        if not self._which(work):
            return
        with self._lock:
            number, self._seen = self._seen, self._seen + 1
        if number >= self._first and (self._last is None or number < self._last):
            raise self._error(f"injected: {work}")


def losing_device(which: Which, at: int = 0) -> Failing:
    """Return a fault that loses the device when the ``at``-th piece of the picked work begins."""
    return Failing(which, at, error=DeviceLostError)


def exhausting_device(which: Which, first: int = 0, last: int | None = None, *, refused: bool = True) -> Failing:
    """Return a fault by which the device has no memory for the picked work; see `Failing`."""

    def error(why: str) -> DeviceMemoryError:
        return DeviceMemoryError("simulated:0", asked=None, free=0, total=1 << 30, why=why)

    return Failing(which, first, last, refused=refused, error=error)


class Stall(Faults):
    """Holds work that ``which`` picks until `release`; `reached` waits until some is held."""

    def __init__(self, which: Which) -> None:
        self._which = which
        self._open, self._reached = threading.Event(), threading.Event()

    def begins(self, work: Work) -> None:
        """Wait for `release` if the work is picked."""
        if self._which(work):
            self._reached.set()
            self._open.wait()

    def release(self) -> None:
        """Let all work begin, from now on."""
        self._open.set()

    def reached(self, timeout_s: float) -> bool:
        """Return whether work is held within so many seconds."""
        return self._reached.wait(timeout_s)
