"""The two pools: their sizes, the host's chunks, and what happens when pinned memory does not work."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import DTypeLike

from allocator import DEVICE, HOST, Direction, Extent
from service.errors import DeviceLostError, DeviceMemoryError, PinnedMemoryError
from service.execution.gpu.pinned_pool import PinnedPool
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.simulated.array import DeviceArray, memory_of
from service.execution.gpu.simulated.faults import Failing, Faults, Work, losing_device
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.kv import kv_bytes_per_block
from service.execution.models.architecture import ModelConfig
from tests.execution.gpu.data_plane import device_blocks, fill_with_numbers, host_blocks, ticket

CHUNK_BLOCKS = 5


@pytest.fixture
def config(random_model: Callable) -> ModelConfig:
    """Return a model of two layers with two KV heads."""
    made: ModelConfig = random_model()[0]
    return made


def make_pools(
    config: ModelConfig, runtime: SimulatedRuntime, dtype: type = np.float32, *, device: int = 12, host: int = 23
) -> GPUPools:
    """Chunks end at blocks 5, 10, 15 and 20 of the host's 23."""
    chunk_bytes = CHUNK_BLOCKS * kv_bytes_per_block(config, dtype) + 1
    return GPUPools(runtime, config, dtype, device_blocks=device, host_blocks=host, chunk_bytes=chunk_bytes)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_block_has_as_many_bytes_on_either_side(config: ModelConfig, dtype: type) -> None:
    pools = make_pools(config, SimulatedRuntime(), dtype)
    (array,) = pools.host.arrays(2, 3)
    assert pools.device[2:5].nbytes == array.nbytes == 3 * kv_bytes_per_block(config, dtype)


def test_the_device_has_the_scrap_block_beyond_the_others_all_zero(config: ModelConfig) -> None:
    runtime = SimulatedRuntime()
    pools = make_pools(config, runtime, device=7)
    assert (pools.scrap_block, len(pools.device)) == (7, 8)
    assert (device_blocks(runtime, pools) == 0).all()


@pytest.mark.parametrize(
    ("start", "length", "lengths"),
    [(0, 5, [5]), (4, 2, [1, 1]), (3, 12, [2, 5, 5]), (20, 3, [3]), (0, 23, [5, 5, 5, 5, 3]), (5, 0, []), (23, 0, [])],
)
def test_blocks_of_the_host_are_one_array_per_chunk(
    config: ModelConfig, start: int, length: int, lengths: list[int]
) -> None:
    pools = make_pools(config, SimulatedRuntime())
    for number, (block,) in enumerate(pools.host.arrays(block, 1) for block in range(23)):
        block.fill(number)
    copies = list(pools.host.arrays(start, length))
    assert [len(array) for array in copies] == lengths
    assert [block.flat[-1] for array in copies for block in array] == list(range(start, start + length))
    assert all(array.flags.c_contiguous for array in copies)


def test_a_block_larger_than_a_chunk_is_a_chunk(config: ModelConfig) -> None:
    runtime = SimulatedRuntime()
    with runtime.bound():
        pool = PinnedPool(runtime, 3, (2, 2, 1000), chunk_bytes=100)
    assert [len(array) for array in pool.arrays(0, 3)] == [1, 1, 1]


@pytest.mark.parametrize(("start", "length"), [(22, 2), (-1, 2), (24, 0)])
def test_blocks_that_are_not_there_are_refused(config: ModelConfig, start: int, length: int) -> None:
    pools = make_pools(config, SimulatedRuntime())
    with pytest.raises(ValueError, match="of a pool of 23"):
        list(pools.host.arrays(start, length))


def test_a_pool_without_blocks_takes_no_memory(config: ModelConfig) -> None:
    pools = make_pools(config, SimulatedRuntime(pinnable_bytes=0), host=0)
    assert list(pools.host.arrays(0, 0)) == []


def test_a_tickets_copies_end_where_an_extent_or_a_chunk_ends(config: ModelConfig) -> None:
    pools = make_pools(config, SimulatedRuntime())
    runs = [(0, 3, 4), (6, 20, 1)]
    for direction, order in ((Direction.OUT, 1), (Direction.IN, -1)):
        copies = [pair[::order] for pair in pools.copies(ticket(direction, runs))]
        assert [len(host) for _, host in copies] == [2, 2, 1]
        assert [device.nbytes for device, _ in copies] == [host.nbytes for _, host in copies]


def test_by_layer_a_ticket_has_a_copy_for_each_block_layer_and_side(config: ModelConfig) -> None:
    pools = make_pools(config, SimulatedRuntime())
    copies = list(pools.copies_by_layer(ticket(Direction.OUT, [(0, 3, 4)])))
    assert len(copies) == 4 * 2 * 2
    assert sum(host.nbytes for _, host in copies) == 4 * kv_bytes_per_block(config)
    assert all(device.nbytes == host.nbytes for device, host in copies)


def test_poisoned_blocks_are_nan_and_no_others(config: ModelConfig) -> None:
    runtime = SimulatedRuntime()
    pools = make_pools(config, runtime)
    fill_with_numbers(runtime, pools)
    with runtime.bound():
        stream = runtime.stream()
        pools.poison([Extent(DEVICE, 2, 3), Extent(HOST, 4, 2), Extent(DEVICE, 9, 1)], stream)
        stream.record().wait()
    for blocks, poisoned in ((device_blocks(runtime, pools), {2, 3, 4, 9}), (host_blocks(pools), {4, 5})):
        nan = np.isnan(blocks.reshape(len(blocks), -1))
        assert nan.all(axis=1).nonzero()[0].tolist() == nan.any(axis=1).nonzero()[0].tolist() == sorted(poisoned)


def test_a_device_that_is_too_small_is_reported(config: ModelConfig) -> None:
    with pytest.raises(DeviceMemoryError, match=r"simulated:0: .* asked for, 64 KiB of 64 KiB free"):
        make_pools(config, SimulatedRuntime(total_bytes=64 << 10))


def test_pinning_that_fails_after_some_chunks_reports_how_much_is_pinned(config: ModelConfig) -> None:
    block = kv_bytes_per_block(config)
    runtime = SimulatedRuntime(pinnable_bytes=12 * block)
    with runtime.bound():
        runtime.pinned(block)  # a probe succeeds
    with pytest.raises(PinnedMemoryError) as caught:
        make_pools(config, runtime)
    expected = (
        "a chunk of 5 blocks was refused; 184 KiB asked for, 80 KiB pinned so far, 8 KiB of the host's 96 KiB free"
    )
    assert expected in caught.value.message


def nth_copy_out(at: int) -> Failing:
    return Failing(lambda work: work.name == "copy-out", at, at + 1, error=MemoryError)


def test_each_chunk_is_tried_at_both_ends(config: ModelConfig) -> None:
    chunks_and_ends = [(chunk, block) for chunk in range(1, 6) for block in ("0", "2" if chunk == 5 else "4")]
    for number, (chunk, block) in enumerate(chunks_and_ends):
        with pytest.raises(PinnedMemoryError, match=rf"block {block} of \d in chunk {chunk} of 5 cannot be copied"):
            make_pools(config, SimulatedRuntime(faults=nth_copy_out(number)))
    make_pools(config, SimulatedRuntime(faults=nth_copy_out(len(chunks_and_ends))))


class Spoiler(Faults):
    """Flips a bit of the fourth copy out."""

    pool: DeviceArray
    copies = 0

    def begins(self, work: Work) -> None:
        self.copies += work.name == "copy-out"
        if self.copies == 4:
            memory_of(self.pool).view(np.uint8)[-1].flat[-1] ^= 1


def test_memory_that_does_not_keep_what_is_written_is_found(config: ModelConfig) -> None:
    spoiler = Spoiler()

    class Runtime(SimulatedRuntime):
        def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> DeviceArray:
            spoiler.pool = super().zeros(shape, dtype)
            return spoiler.pool

    with pytest.raises(PinnedMemoryError, match="block 4 of 5 in chunk 2 of 5 does not keep what is written to it"):
        make_pools(config, Runtime(faults=spoiler))


def test_a_device_lost_meanwhile_is_reported_as_lost(config: ModelConfig) -> None:
    with pytest.raises(DeviceLostError):
        make_pools(config, SimulatedRuntime(faults=losing_device(lambda work: work.is_copy)))


def test_a_copy_that_is_refused_is_reported_with_its_reason(config: ModelConfig) -> None:
    with pytest.raises(PinnedMemoryError, match="block 0 of 5 in chunk 1 of 5 cannot be copied: injected"):
        make_pools(config, SimulatedRuntime(faults=Failing(lambda work: work.is_copy, refused=True)))
