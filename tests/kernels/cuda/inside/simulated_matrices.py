"""The simulator's instructions that fill and multiply fragments do what the PTX ISA says of the device's."""

import ml_dtypes
import numpy as np
import pytest
from numba import cuda
from numba.cuda.types import uint32

from kernels.cuda import reductions, words
from kernels.cuda.kernel import Bytes, Floats, Kernel
from kernels.cuda.simulated import simulator


class _Names:
    """Stands for ``cuda`` in this file, which is no kernel module: the simulator replaces the name in those alone."""

    def __getattr__(self, name: str) -> object:
        return getattr(reductions.cuda, name)


del cuda
cuda = _Names()


def launch(function: object, *arrays: np.ndarray) -> None:
    kinds = tuple(Floats if array.dtype == np.float32 else Bytes for array in arrays)
    simulator.launch(Kernel("test", function, kinds, (32, 1), 0), (1,), *arrays)


def place_a(lane: int, i: int) -> tuple[int, int]:
    """Return row and column of element i of A's fragment ("Matrix Fragments for mma.m16n8k16")."""
    group, number = lane >> 2, lane % 4
    return group + (0 if i < 2 or 4 <= i < 6 else 8), number * 2 + (i & 1) + (8 if i >= 4 else 0)


def place_b(lane: int, i: int) -> tuple[int, int]:
    group, number = lane >> 2, lane % 4
    return number * 2 + (i & 1) + (8 if i >= 2 else 0), group


def place_c(lane: int, i: int) -> tuple[int, int]:
    group, number = lane >> 2, lane % 4
    return group + (8 if i >= 2 else 0), number * 2 + (i & 1)


def fragments(matrix: np.ndarray, place: object, count: int) -> np.ndarray:
    """[lane, element]"""
    return np.array([[matrix[place(lane, i)] for i in range(count)] for lane in range(32)], matrix.dtype)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_product_of_fragments_is_the_matrices(name: str) -> None:
    multiply = {"bfloat16": words.multiply_bf16, "float16": words.multiply_f16}[name]

    def kernel(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
        lane = cuda.threadIdx.x
        left, right = [a[4 * lane + i] for i in range(4)], [b[2 * lane + i] for i in range(2)]
        sums = multiply(*left, *right, *(c[4 * lane + i] for i in range(4)))
        for i in range(4):
            c[4 * lane + i] = sums[i]

    rng, dtype = np.random.default_rng(0), {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}[name]
    a, b = rng.standard_normal((16, 16)).astype(dtype), rng.standard_normal((16, 8)).astype(dtype)
    c = rng.standard_normal((16, 8), np.float32)
    expected, sums = a.astype(np.float64) @ b.astype(np.float64) + c, fragments(c, place_c, 4)
    launch(kernel, fragments(a, place_a, 8).view(np.uint32), fragments(b, place_b, 4).view(np.uint32), sums)
    np.testing.assert_allclose(sums, fragments(expected, place_c, 4), atol=1e-5)


@pytest.mark.parametrize("transposed", [False, True])
def test_four_matrices_come_by_rows_that_lanes_name(transposed: bool) -> None:
    load = words.load_matrices_transposed if transposed else words.load_matrices
    order = np.random.default_rng(0).permutation(32)

    def kernel(halves: np.ndarray, out: np.ndarray) -> None:
        shared, lane = cuda.shared.array(32 * 4, uint32, alignment=16), cuda.threadIdx.x
        for i in range(4):
            shared[4 * int(order[lane]) + i] = halves[4 * lane + i]
        cuda.syncthreads()
        for i, word in enumerate(load(shared, int(order[lane]))):
            out[4 * lane + i] = word

    matrices, out = np.arange(256, dtype=np.uint16).reshape(4, 8, 8), np.zeros((32, 4, 2), np.uint16)
    launch(kernel, matrices.view(np.uint32), out.view(np.uint32))
    for lane in range(32):
        for number, matrix in enumerate(matrices):
            row = (matrix.T if transposed else matrix)[lane // 4]
            np.testing.assert_array_equal(out[lane, number], row[2 * (lane % 4) : 2 * (lane % 4) + 2])


def copied(wait: bool, valid: bool = True) -> np.ndarray:
    """Return what a thread sees of the four words that it had copied to shared memory."""

    def kernel(source: np.ndarray, out: np.ndarray) -> None:
        shared, thread = cuda.shared.array(32 * 4, uint32, alignment=16), cuda.threadIdx.x
        for i in range(4):
            shared[4 * thread + i] = 7
        words.copy_16_async(shared, thread, source, thread if valid else 10**6, valid)
        if wait:
            words.wait_for_copies()
        for i in range(4):
            out[4 * thread + i] = shared[4 * thread + i]

    out = np.zeros(128, np.uint32)
    launch(kernel, np.arange(128, dtype=np.uint32), out)
    return out


def test_a_copy_is_there_after_the_wait() -> None:
    np.testing.assert_array_equal(copied(wait=True), np.arange(128))


def test_a_copy_that_is_not_waited_for_shows_as_poison() -> None:
    assert (copied(wait=False) == 0xFFFFFFFF).all()


def test_a_copy_that_is_not_valid_reads_nothing_and_leaves_zeros() -> None:
    np.testing.assert_array_equal(copied(wait=True, valid=False), np.zeros(128))


def test_a_vector_out_of_bounds_is_refused() -> None:
    def kernel(out: np.ndarray) -> None:
        words.load_matrices(cuda.shared.array(16, uint32, alignment=16), cuda.threadIdx.x)

    with pytest.raises(IndexError, match="4 is not among 4 vectors"):
        launch(kernel, np.zeros(1, np.float32))


def test_a_product_that_some_lanes_miss_is_refused() -> None:
    def kernel(out: np.ndarray) -> None:
        if cuda.threadIdx.x % 2:
            words.multiply_bf16(*[np.uint32(0)] * 6, *[np.float32(0)] * 4)

    with pytest.raises(simulator.DivergenceError, match="mma"):
        launch(kernel, np.zeros(1, np.float32))
