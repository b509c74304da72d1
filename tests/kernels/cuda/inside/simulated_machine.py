"""The simulator executes shuffles and barriers, and raises where a GPU would go wrong in silence."""

import numpy as np
import pytest
from numba import cuda
from numba.cuda.types import float32, int32

from kernels.cuda import reductions
from kernels.cuda.kernel import Bytes, Floats, Ints, Kernel
from kernels.cuda.simulated import simulator


class _Names:
    """Stands for ``cuda`` in this file, which is no kernel module: the simulator replaces the name in those alone."""

    def __getattr__(self, name: str) -> object:
        return getattr(reductions.cuda, name)


del cuda
cuda = _Names()


def launch(function: object, out: np.ndarray, threads: int = 64, seed: int = 0, blocks: int = 1) -> np.ndarray:
    kind = Floats if out.dtype == np.float32 else Ints
    simulator.launch(Kernel("test", function, (kind,), (threads, 1), 0), (blocks,), out, seed=seed)
    return out


def test_a_shuffle_brings_the_partners_value() -> None:
    def kernel(out: np.ndarray) -> None:
        thread = cuda.threadIdx.x
        out[thread] = cuda.shfl_xor_sync(0xFFFFFFFF, thread, 5)

    np.testing.assert_array_equal(launch(kernel, np.zeros(64, np.int32)), np.arange(64) ^ 5)


def test_a_barrier_makes_shared_memory_visible() -> None:
    def kernel(out: np.ndarray) -> None:
        shared, thread = cuda.shared.array(64, int32), cuda.threadIdx.x
        shared[thread] = thread
        cuda.syncthreads()
        out[thread] = shared[63 - thread]

    np.testing.assert_array_equal(launch(kernel, np.zeros(64, np.int32)), np.arange(64)[::-1])


def test_a_missing_barrier_shows_as_poison() -> None:
    def kernel(out: np.ndarray) -> None:
        shared, thread = cuda.shared.array(64, float32), cuda.threadIdx.x
        shared[thread] = thread
        out[thread] = shared[63 - thread]

    assert np.isnan(launch(kernel, np.zeros(64, np.float32))).any()


def test_local_memory_begins_as_poison() -> None:
    def kernel(out: np.ndarray) -> None:
        out[cuda.threadIdx.x] = cuda.local.array(4, float32)[0]

    assert np.isnan(launch(kernel, np.zeros(64, np.float32))).all()


def test_blocks_run_in_an_order_of_the_seed() -> None:
    def kernel(out: np.ndarray) -> None:
        out[0] = cuda.blockIdx.x

    last = {int(launch(kernel, np.zeros(1, np.int32), 1, seed, blocks=8)[0]) for seed in range(8)}
    assert len(last) > 1


def test_a_barrier_that_some_threads_miss_is_refused() -> None:
    def kernel(out: np.ndarray) -> None:
        if cuda.threadIdx.x < 16:
            cuda.syncthreads()

    with pytest.raises(simulator.DivergenceError):
        launch(kernel, np.zeros(1, np.int32))


def test_two_barriers_at_once_are_refused() -> None:
    def kernel(out: np.ndarray) -> None:
        if cuda.threadIdx.x < 32:
            cuda.syncthreads()
        else:
            cuda.syncthreads()

    with pytest.raises(simulator.DivergenceError, match="barrier"):
        launch(kernel, np.zeros(1, np.int32))


def test_a_shuffle_that_some_lanes_miss_is_refused() -> None:
    def kernel(out: np.ndarray) -> None:
        if cuda.threadIdx.x % 2:
            cuda.shfl_xor_sync(0xFFFFFFFF, 1, 1)

    with pytest.raises(simulator.DivergenceError, match="shuffle"):
        launch(kernel, np.zeros(1, np.int32))


@pytest.mark.parametrize("index", [-1, 4])
def test_an_access_out_of_bounds_is_refused(index: int) -> None:
    def kernel(out: np.ndarray) -> None:
        out[index] = 1

    with pytest.raises(IndexError, match="not among 4 elements"):
        launch(kernel, np.zeros(4, np.int32))


def test_vectors_that_begin_askew_are_refused() -> None:
    kernel = Kernel("test", lambda memory: None, (Bytes,), (32, 1), 0)
    with pytest.raises(ValueError, match="begins within 16 bytes"):
        simulator.launch(kernel, (1,), np.zeros(8, np.float32)[1:])


def test_additions_of_all_threads_add_up() -> None:
    def kernel(out: np.ndarray) -> None:
        shared = cuda.shared.array(1, int32)
        if cuda.threadIdx.x == 0:
            shared[0] = 2**31 - 1
        cuda.syncthreads()
        before = cuda.atomic.add(shared, 0, 1)
        cuda.syncthreads()
        out[cuda.threadIdx.x] = before - shared[0]

    assert set(launch(kernel, np.zeros(64, np.int32)).tolist()) == set(range(-64, 0))  # past the largest number


@pytest.mark.parametrize(("name", "expected"), [("max", 63), ("min", 0)])
def test_the_extreme_of_all_threads(name: str, expected: int) -> None:
    def kernel(out: np.ndarray) -> None:
        getattr(cuda.atomic, name)(out, 0, cuda.threadIdx.x)

    assert launch(kernel, np.full(1, 7, np.int32))[0] == expected


def test_arrays_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="not contiguous"):
        launch(lambda out: None, np.zeros((4, 4), np.int32)[:, :2])
