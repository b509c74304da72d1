"""Access of tests to a device's memory, apart from what they test."""

from collections.abc import Sequence

import numpy as np

from allocator import DEVICE, HOST, Direction, Extent, Ticket
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runtime import Array
from service.execution.gpu.simulated.runtime import SimulatedRuntime

PATIENCE_S = 30


def pinned(runtime: SimulatedRuntime, values: np.ndarray) -> np.ndarray:
    """Return these values in pinned memory."""
    memory = runtime.pinned(values.nbytes).view(values.dtype).reshape(values.shape)
    memory[...] = values
    return memory


def write(runtime: SimulatedRuntime, array: Array, values: np.ndarray) -> None:
    """Write now, whatever the other streams do."""
    with runtime.bound():
        stream = runtime.stream()
        stream.copy(pinned(runtime, values.astype(array.dtype)), array)
        stream.record().wait()


def read(runtime: SimulatedRuntime, array: Array) -> np.ndarray:
    """Read now, whatever the other streams do."""
    with runtime.bound():
        stream, memory = runtime.stream(), runtime.pinned(array.nbytes)
        stream.copy(array, memory)
        stream.record().wait()
    values: np.ndarray = memory.view(array.dtype).reshape(array.shape)
    return values


def host_blocks(pools: GPUPools) -> np.ndarray:
    """Return all of the host's blocks, as float32 [blocks, layers, sides, elements of a side]."""
    return np.concatenate(list(pools.host.arrays(0, pools.host.num_blocks))).view(np.float32)


def device_blocks(runtime: SimulatedRuntime, pools: GPUPools) -> np.ndarray:
    """Return all of the device's blocks but the scrap block, shaped like `host_blocks`."""
    blocks = read(runtime, pools.device)[:-1]
    return blocks.reshape(*blocks.shape[:3], -1)


def fill_with_numbers(runtime: SimulatedRuntime, pools: GPUPools) -> None:
    """Fill both pools with different numbers everywhere."""
    random = np.random.default_rng(0)
    write(runtime, pools.device, random.standard_normal(pools.device.shape, np.float32))
    for piece in pools.host.arrays(0, pools.host.num_blocks):
        values = piece.view(np.float32)
        values[...] = random.standard_normal(values.shape, np.float32)


def ticket(direction: Direction, runs: Sequence[tuple[int, int, int]], number: int = 0) -> Ticket:
    """Return a copy of runs: device block, host block, length."""
    device = tuple(Extent(DEVICE, start, length) for start, _, length in runs)
    host = tuple(Extent(HOST, start, length) for _, start, length in runs)
    source, destination = (device, host) if direction is Direction.OUT else (host, device)
    return Ticket(number, number, direction, 0, source, destination, 16, 0)
