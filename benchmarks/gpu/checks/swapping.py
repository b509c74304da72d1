"""Copies between device and host: they bring back what they took away while steps run, and wait for what they must.

Each ordering rule has a control that breaks it and sees other bytes: without it nobody would know that the check looks
at the right moment. The compute stream is kept busy meanwhile, so that the wrong order, where it is possible, happens.
"""

import queue
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from allocator import Direction
from benchmarks.gpu.checks.check import Check, require
from benchmarks.gpu.decoding import Decoding
from benchmarks.gpu.models import Source, small_model
from benchmarks.gpu.plane import Plane
from benchmarks.gpu.rig import Rig
from benchmarks.gpu.tickets import Run, ticket
from service.core.messages.plan import CopyResult
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.runtime import Event, Runtime, Stream

IN, OUT = Direction.IN, Direction.OUT
PATIENCE_S = 60
SWAPPED, HOST_BLOCKS = 96, 160
BATCH, STEPS = 4, 24
BEFORE, AFTER = 0x11, 0x22  # bytes that a step writes


def swap_checks(rig: Rig) -> Iterator[Check]:
    """Round trips, and the four rules."""
    source = small_model(rig, rig.dtype)
    for by_layer in (False, True):
        how = "by layer" if by_layer else "by group"
        yield Check(f"swaps bring back every byte, {how}", partial(_round_trip, rig, source, by_layer))
    rules: dict[str, Callable[[Plane, bool], None]] = {
        "what a step wrote is copied out": _written_then_out,
        "a step reads its blocks before others come in": _read_then_in,
        "what came in is read once its end was told": _in_then_read,
        "blocks are written anew once their copy out was told": _out_then_written,
    }
    for name, rule in rules.items():
        yield Check(name, partial(_rule, rig, source, rule, True))
        yield Check(f"control: not so that {name}", partial(_rule, rig, source, rule, False))


def _plane(rig: Rig, source: Source) -> Plane:
    weights, decoding = source.on_device(rig, rig.dtype), Decoding(BATCH, 40, STEPS, first_block=SWAPPED)
    sizes = {"device_blocks": decoding.blocks, "host_blocks": HOST_BLOCKS, "num_slots": 8, "max_batched_tokens": 32}
    plane = Plane(rig, source.config, weights, rig.dtype, **sizes)
    plane.runner.warm_up()
    return plane


def _round_trip(rig: Rig, source: Source, by_layer: bool) -> str:
    """Scattered runs go out and come back to other blocks while decodes run beside them."""
    plane = _plane(rig, source)
    device = plane.pools.device
    before = np.random.default_rng(0).integers(0, 256, (SWAPPED, plane.block_bytes), np.uint8)
    rig.write(device[:SWAPPED], before)
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
            runs: list[Run] = [(int(blocks[n]), int(hosts[n]), 1) for n in piece]
            copier.submit(ticket(direction, runs, number))
            awaited.append(plane.runner.launch(next(plans)))
            awaited.pop(0)()
        require(not any(results.get(timeout=PATIENCE_S).failed for _ in pieces), "a copy failed")
    for result in awaited:
        result()
    copier.stop()
    after = rig.read(device[:SWAPPED]).reshape(SWAPPED, -1).view(np.uint8)
    wrong = [int(block) for block in range(SWAPPED) if not np.array_equal(after[back[block]], before[out[block]])]
    require(not wrong, f"{len(wrong)} of {SWAPPED} blocks came back changed, {wrong[:5]} first")
    return f"{2 * before.nbytes >> 20} MiB beside {STEPS} steps"


class _Hurried:
    """A compute stream whose events are passed at once: the copier then waits for no step."""

    def __init__(self, runtime: Runtime) -> None:
        self._idle = runtime.stream()

    def record(self) -> Event:
        return self._idle.record()


class _Scene:
    """Two blocks of the device and two of the host with bytes that differ, a compute stream, and a copier."""

    RUN: tuple[Run, ...] = ((3, 10, 2),)

    def __init__(self, plane: Plane, ordered: bool) -> None:
        self._plane, rig = plane, plane.rig
        self.compute: Stream = plane.clock  # type: ignore[assignment]
        self.blocks = plane.pools.device[3:5]
        rig.write(self.blocks, np.full(self.blocks.nbytes, BEFORE, np.uint8))
        for piece in plane.pools.host.arrays(10, 2):
            piece.fill(AFTER)
        with rig.runtime.bound():
            self.later = rig.runtime.stream()  # of a step that nothing holds up
            self.seen = rig.runtime.pinned(self.blocks.nbytes)
            seen_by_copier = self.compute if ordered else _Hurried(rig.runtime)
        self._results: queue.Queue[CopyResult] = queue.Queue()
        self.copier = GPUCopier(rig.runtime, plane.pools, seen_by_copier)  # type: ignore[arg-type]
        self.copier.start(self._results.put)

    def told(self) -> None:
        """Wait until the copy's end was reported."""
        require(not self._results.get(timeout=PATIENCE_S).failed, "the copy failed")

    def on_host(self) -> set[int]:
        """The bytes that are there."""
        return set().union(*(np.unique(piece).tolist() for piece in self._plane.pools.host.arrays(10, 2)))

    def seen_bytes(self) -> set[int]:
        """The bytes that a step saw."""
        return set(np.unique(self.seen).tolist())

    def wait(self, stream: Stream) -> None:
        stream.record().wait()


def _rule(rig: Rig, source: Source, rule: Callable[[Plane, bool], None], kept: bool) -> str:
    """Run the rule; its control must find other bytes."""
    plane = _plane(rig, source)
    with rig.runtime.bound():
        if kept:
            rule(plane, True)
            return ""
        try:
            rule(plane, False)
        except AssertionError as error:
            return f"corrupts, as it must: {error}"
    raise AssertionError("nothing was corrupted without the rule: this check sees nothing")


def _written_then_out(plane: Plane, kept: bool) -> None:
    scene = _Scene(plane, ordered=kept)
    with plane.rig.occupied(scene.compute):
        scene.compute.fill(scene.blocks, AFTER - 1)
        scene.copier.submit(ticket(OUT, scene.RUN))
        if not kept:
            scene.told()
    if kept:
        scene.told()
    scene.copier.stop()
    require(scene.on_host() == {AFTER - 1}, f"the host has {scene.on_host()}")


def _read_then_in(plane: Plane, kept: bool) -> None:
    scene = _Scene(plane, ordered=kept)
    with plane.rig.occupied(scene.compute):
        scene.compute.copy(scene.blocks, scene.seen)
        scene.copier.submit(ticket(IN, scene.RUN))
        if not kept:
            scene.told()
    if kept:
        scene.told()
    scene.wait(scene.compute)
    scene.copier.stop()
    require(scene.seen_bytes() == {BEFORE}, f"the step saw {scene.seen_bytes()}")


def _in_then_read(plane: Plane, kept: bool) -> None:
    scene = _Scene(plane, ordered=True)
    with plane.rig.occupied(scene.compute):
        scene.copier.submit(ticket(IN, scene.RUN))
        if not kept:
            _look(scene)
    scene.told()
    if kept:
        _look(scene)
    scene.copier.stop()
    require(scene.seen_bytes() == {AFTER}, f"the step saw {scene.seen_bytes()}")


def _out_then_written(plane: Plane, kept: bool) -> None:
    scene = _Scene(plane, ordered=True)
    with plane.rig.occupied(scene.compute):
        scene.copier.submit(ticket(OUT, scene.RUN))
        if not kept:
            _write_anew(scene)
    scene.told()
    if kept:
        _write_anew(scene)
    scene.copier.stop()
    require(scene.on_host() == {BEFORE}, f"the host has {scene.on_host()}")


def _look(scene: _Scene) -> None:
    scene.later.copy(scene.blocks, scene.seen)
    scene.wait(scene.later)


def _write_anew(scene: _Scene) -> None:
    scene.later.fill(scene.blocks, AFTER - 1)
    scene.wait(scene.later)
