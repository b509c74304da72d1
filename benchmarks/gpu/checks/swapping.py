"""Checks of copies between device and host: they return every byte while steps run, and keep their order with steps.

Each ordering rule has a control that breaks it and must see other bytes. Without the control, a check that looks at the
wrong moment would pass. The compute stream is busy meanwhile, so that a wrong order happens wherever it is possible.
"""

import queue
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from allocator import Direction
from benchmarks.gpu.checks.check import Check, require
from benchmarks.gpu.data_plane import DataPlane
from benchmarks.gpu.models import Source, small_model
from benchmarks.gpu.plans import BlockRun, Decoding, ticket
from benchmarks.gpu.under_test import GPUUnderTest
from service.core.messages.plan import CopyResult
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.runtime import Event, Runtime, Stream

IN, OUT = Direction.IN, Direction.OUT
PATIENCE_S = 60
SWAPPED, HOST_BLOCKS = 96, 160
BATCH, STEPS = 4, 24
BEFORE, AFTER = 0x11, 0x22  # bytes that a step writes


def swap_checks(gpu: GPUUnderTest) -> Iterator[Check]:
    """Yield round trips, then the four ordering rules with their controls."""
    source = small_model(gpu, gpu.dtype)
    for by_layer in (False, True):
        how = "by layer" if by_layer else "by group"
        yield Check(f"swaps bring back every byte, {how}", partial(_round_trip, gpu, source, by_layer))
    rules: dict[str, Callable[[DataPlane, bool], None]] = {
        "what a step wrote is copied out": _write_then_copy_out,
        "a step reads its blocks before others come in": _read_then_copy_in,
        "what was copied in is read after its end was reported": _copy_in_then_read,
        "blocks are overwritten after their copy out was reported": _copy_out_then_write,
    }
    for name, rule in rules.items():
        yield Check(name, partial(_rule, gpu, source, rule, True))
        yield Check(f"control, which breaks the rule: {name}", partial(_rule, gpu, source, rule, False))


def _data_plane(gpu: GPUUnderTest, source: Source) -> DataPlane:
    weights, decoding = source.on_device(gpu, gpu.dtype), Decoding(BATCH, 40, STEPS, first_block=SWAPPED)
    sizes = {"device_blocks": decoding.blocks, "host_blocks": HOST_BLOCKS, "num_slots": 8, "max_batched_tokens": 32}
    plane = DataPlane(gpu, source.config, weights, gpu.dtype, **sizes)
    plane.runner.warm_up()
    return plane


def _round_trip(gpu: GPUUnderTest, source: Source, by_layer: bool) -> str:
    """Copy scattered runs out, and back into other blocks, while decodes run beside them."""
    plane = _data_plane(gpu, source)
    device = plane.pools.device
    before = np.random.default_rng(0).integers(0, 256, (SWAPPED, plane.block_bytes), np.uint8)
    gpu.write(device[:SWAPPED], before)
    random = np.random.default_rng(1)
    out, back = random.permutation(SWAPPED), random.permutation(SWAPPED)
    hosts = random.permutation(HOST_BLOCKS)[:SWAPPED]
    results: queue.Queue[CopyResult] = queue.Queue()
    copier = plane.copier(by_layer=by_layer)
    copier.start(results.put)
    awaited = [plane.runner.launch(plan) for plan in Decoding(BATCH, 40, 1, first_block=SWAPPED).plans()]
    plans = Decoding(BATCH, 40, STEPS, first_block=SWAPPED).plans()
    for direction, blocks in ((OUT, out), (IN, back)):
        pieces = np.array_split(np.arange(SWAPPED), 8)
        for number, piece in enumerate(pieces):
            runs: list[BlockRun] = [(int(blocks[n]), int(hosts[n]), 1) for n in piece]
            copier.submit(ticket(direction, runs, number))
            awaited.append(plane.runner.launch(next(plans)))
            awaited.pop(0)()
        require(not any(results.get(timeout=PATIENCE_S).failed for _ in pieces), "a copy failed")
    for result in awaited:
        result()
    copier.stop()
    after = gpu.read(device[:SWAPPED]).reshape(SWAPPED, -1).view(np.uint8)
    wrong = [int(block) for block in range(SWAPPED) if not np.array_equal(after[back[block]], before[out[block]])]
    require(not wrong, f"{len(wrong)} of {SWAPPED} blocks came back changed, {wrong[:5]} first")
    return f"{2 * before.nbytes >> 20} MiB beside {STEPS} steps"


class _PassedEvents:
    """A compute stream whose events have always passed, so that the copier waits for no step."""

    def __init__(self, runtime: Runtime) -> None:
        self._idle = runtime.stream()

    def record(self) -> Event:
        return self._idle.record()


class _Setup:
    """Two blocks of the device and two of the host with bytes that differ, a compute stream, and a copier."""

    RUN: tuple[BlockRun, ...] = ((3, 10, 2),)

    def __init__(self, plane: DataPlane, ordered: bool) -> None:
        self._plane, gpu = plane, plane.gpu
        self.compute: Stream = plane.clock  # type: ignore[assignment]
        self.blocks = plane.pools.device[3:5]
        gpu.write(self.blocks, np.full(self.blocks.nbytes, BEFORE, np.uint8))
        for piece in plane.pools.host.arrays(10, 2):
            piece.fill(AFTER)
        with gpu.runtime.bound():
            self.later = gpu.runtime.stream()  # the stream of a later step that waits for nothing
            self.seen = gpu.runtime.pinned(self.blocks.nbytes)
            copier_waits_for = self.compute if ordered else _PassedEvents(gpu.runtime)
        self._results: queue.Queue[CopyResult] = queue.Queue()
        self.copier = GPUCopier(gpu.runtime, plane.pools, copier_waits_for)  # type: ignore[arg-type]
        self.copier.start(self._results.put)

    def wait_for_copy(self) -> None:
        """Wait until the copy's end is reported."""
        require(not self._results.get(timeout=PATIENCE_S).failed, "the copy failed")

    def on_host(self) -> set[int]:
        """Return the different bytes in the host's blocks."""
        return set().union(*(np.unique(piece).tolist() for piece in self._plane.pools.host.arrays(10, 2)))

    def seen_bytes(self) -> set[int]:
        """Return the different bytes that a step has read."""
        return set(np.unique(self.seen).tolist())

    def wait(self, stream: Stream) -> None:
        stream.record().wait()


def _rule(gpu: GPUUnderTest, source: Source, rule: Callable[[DataPlane, bool], None], enforced: bool) -> str:
    """Check the rule, or that its control finds other bytes."""
    plane = _data_plane(gpu, source)
    with gpu.runtime.bound():
        if enforced:
            rule(plane, True)
            return ""
        try:
            rule(plane, False)
        except AssertionError as error:
            return f"corrupts, as it must: {error}"
    raise AssertionError("nothing was corrupted without the rule: this check sees nothing")


def _write_then_copy_out(plane: DataPlane, enforced: bool) -> None:
    setup = _Setup(plane, ordered=enforced)
    with plane.gpu.occupied(setup.compute):
        setup.compute.fill(setup.blocks, AFTER - 1)
        setup.copier.submit(ticket(OUT, setup.RUN))
        if not enforced:
            setup.wait_for_copy()
    if enforced:
        setup.wait_for_copy()
    setup.copier.stop()
    require(setup.on_host() == {AFTER - 1}, f"the host has {setup.on_host()}")


def _read_then_copy_in(plane: DataPlane, enforced: bool) -> None:
    setup = _Setup(plane, ordered=enforced)
    with plane.gpu.occupied(setup.compute):
        setup.compute.copy(setup.blocks, setup.seen)
        setup.copier.submit(ticket(IN, setup.RUN))
        if not enforced:
            setup.wait_for_copy()
    if enforced:
        setup.wait_for_copy()
    setup.wait(setup.compute)
    setup.copier.stop()
    require(setup.seen_bytes() == {BEFORE}, f"the step saw {setup.seen_bytes()}")


def _copy_in_then_read(plane: DataPlane, enforced: bool) -> None:
    setup = _Setup(plane, ordered=True)
    with plane.gpu.occupied(setup.compute):
        setup.copier.submit(ticket(IN, setup.RUN))
        if not enforced:
            _read_now(setup)
    setup.wait_for_copy()
    if enforced:
        _read_now(setup)
    setup.copier.stop()
    require(setup.seen_bytes() == {AFTER}, f"the step saw {setup.seen_bytes()}")


def _copy_out_then_write(plane: DataPlane, enforced: bool) -> None:
    setup = _Setup(plane, ordered=True)
    with plane.gpu.occupied(setup.compute):
        setup.copier.submit(ticket(OUT, setup.RUN))
        if not enforced:
            _overwrite_now(setup)
    setup.wait_for_copy()
    if enforced:
        _overwrite_now(setup)
    setup.copier.stop()
    require(setup.on_host() == {BEFORE}, f"the host has {setup.on_host()}")


def _read_now(setup: _Setup) -> None:
    setup.later.copy(setup.blocks, setup.seen)
    setup.wait(setup.later)


def _overwrite_now(setup: _Setup) -> None:
    setup.later.fill(setup.blocks, AFTER - 1)
    setup.wait(setup.later)
