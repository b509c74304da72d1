"""Products become the right calls of cuBLAS: a model of cuBLAS in NumPy computes what is called."""

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from kernels import reference
from kernels.cuda import matrices
from kernels.cuda.matrices import Cublas, CublasError, gemm

DTYPES = {0: np.dtype(np.float32), 2: np.dtype(np.float16)}
SHAPES = [(1, 5, 3), (4, 5, 3), (3, 1, 7), (2, 6, 1), (1, 1, 1), (17, 33, 64)]  # tokens, outputs, inner
PEDANTIC, FULL_REDUCTIONS = 69, 16


class DeviceArray:
    """A NumPy array as CuPy would show it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.strides = array, array.shape, array.dtype, array.strides
        self.data = SimpleNamespace(ptr=array.ctypes.data)


def columns(address: int, kind: int, rows: int, count: int, leading: int) -> np.ndarray:
    """Return the matrix [rows, count] whose columns are ``leading`` elements apart."""
    dtype = DTYPES[kind]
    assert leading >= rows
    size = leading * (count - 1) + rows
    flat = np.frombuffer((ctypes.c_char * (size * dtype.itemsize)).from_address(address), dtype)
    return as_strided(flat, (rows, count), (dtype.itemsize, dtype.itemsize * leading))


class ModelOfCublas:
    """The functions of cublas_api.h that are used, on the host's memory; ``answers`` overrides a function's status."""

    def __init__(self, **answers: int) -> None:
        self.calls: list[tuple] = []
        for name, kinds in matrices._SIGNATURES.items():
            act = self.multiply if name == "cublasGemmEx" else lambda *_: None
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(self.function(name, act, answers.get(name, 0))))

    def function(self, name: str, act: object, answer: int) -> object:
        def call(*arguments: object) -> int:
            self.calls.append((name, *arguments))
            act(*arguments)
            return answer

        return call

    @staticmethod
    def multiply(
        _handle: int, op_a: int, op_b: int, m: int, n: int, k: int, alpha: int, a: int, a_type: int, a_leading: int,
        b: int, b_type: int, b_leading: int, beta: int, c: int, c_type: int, c_leading: int, *_how: int,
    ) -> None:  # fmt: skip
        left = columns(a or 0, a_type, *((m, k), (k, m))[op_a], a_leading)
        right = columns(b or 0, b_type, *((k, n), (n, k))[op_b], b_leading)
        out = columns(c or 0, c_type, m, n, c_leading)
        left, right = (x.T if op else x for x, op in ((left, op_a), (right, op_b)))
        one, other = (ctypes.c_float.from_address(address).value for address in (alpha, beta))
        out[...] = one * (left.astype(np.float32) @ right.astype(np.float32)) + (other * out if other else 0)


@pytest.fixture
def model() -> ModelOfCublas:
    return ModelOfCublas()


def random(dtype: type, *shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape, dtype=np.float32).astype(dtype)


def multiply(model: ModelOfCublas, x: np.ndarray, weight: np.ndarray, out: np.ndarray, accumulate: bool) -> None:
    Cublas(model, 1, 2, 3)(*(DeviceArray(array) for array in (x, weight, out)), accumulate=accumulate)


@pytest.mark.parametrize(("tokens", "outputs", "inner"), SHAPES)
@pytest.mark.parametrize("dtypes", [(np.float32, np.float32), (np.float16, np.float16), (np.float16, np.float32)])
def test_the_call_is_the_product(
    model: ModelOfCublas, tokens: int, outputs: int, inner: int, dtypes: tuple[type, type]
) -> None:
    x, weight = random(dtypes[0], tokens, inner), random(dtypes[0], outputs, inner)
    out, expected = np.full((tokens, outputs), np.nan, dtypes[1]), np.empty((tokens, outputs), np.float32)
    reference.linear(x.astype(np.float32), weight.astype(np.float32), None, expected)
    multiply(model, x, weight, out, accumulate=False)
    np.testing.assert_allclose(out, expected.astype(dtypes[1]), rtol=2e-3, atol=1e-4)


def test_it_adds_to_what_is_there(model: ModelOfCublas) -> None:
    x, weight, out = random(np.float32, 3, 8), random(np.float32, 5, 8), random(np.float32, 3, 5)
    expected = x @ weight.T + out
    multiply(model, x, weight, out, accumulate=True)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_rows_may_stand_apart_and_what_lies_between_is_left(model: ModelOfCublas) -> None:
    x, weight, out = random(np.float32, 3, 20)[:, 4:12], random(np.float32, 5, 9)[:, :8], random(np.float32, 3, 11)
    before = out.copy()
    multiply(model, x, weight, out[:, 2:7], accumulate=False)
    before[:, 2:7] = x @ weight.T
    np.testing.assert_allclose(out, before, rtol=1e-5, atol=1e-6)


def test_float32_is_never_tf32_and_sums_are_never_half(model: ModelOfCublas) -> None:
    x, out = np.ones((2, 2), np.float32), np.empty((2, 2), np.float32)
    multiply(model, x, x, out, accumulate=False)
    assert ("cublasSetMathMode", None, FULL_REDUCTIONS) in model.calls
    assert model.calls[-1][-2] == PEDANTIC


def test_the_workspace_is_given_after_the_stream(model: ModelOfCublas) -> None:
    """Setting the stream takes the workspace away."""
    Cublas(model, 70, 80, 90)
    calls = [call for call in model.calls if call[0] in ("cublasSetStream_v2", "cublasSetWorkspace_v2")]
    assert calls == [("cublasSetStream_v2", None, 70), ("cublasSetWorkspace_v2", None, 80, 90)]


def test_a_refusal_says_what_was_asked() -> None:
    x, out = np.ones((2, 4), np.float16), np.empty((2, 2), np.float16)
    refusing = ModelOfCublas(cublasGemmEx=13)
    with pytest.raises(CublasError, match=r"x \[2, 4\] float16, .*: EXECUTION_FAILED \(13\)") as caught:
        multiply(refusing, x, x, out, accumulate=False)
    assert caught.value.status == 13


def test_a_refused_handle_is_an_error() -> None:
    with pytest.raises(CublasError, match=r"cublasCreate_v2: ALLOC_FAILED \(3\)"):
        Cublas(ModelOfCublas(cublasCreate_v2=3), 1, 2, 3)


@pytest.mark.parametrize(
    ("x", "weight", "out", "message"),
    [
        (np.ones((2, 4)), np.ones((3, 4)), np.ones((2, 3)), "no such product"),
        (np.ones((2, 4), np.float32), np.ones((3, 4), np.float16), np.ones((2, 3), np.float32), "no such product"),
        (np.ones((2, 4), np.float32), np.ones((3, 4), np.float32), np.ones((2, 3), np.float16), "no such product"),
        (np.ones((2, 4), np.float32), np.ones((3, 5), np.float32), np.ones((2, 3), np.float32), "do not fit"),
        (np.ones((2, 4), np.float32), np.ones((3, 4), np.float32), np.ones((3, 2), np.float32), "do not fit"),
        (np.ones((4, 2), np.float32).T, np.ones((3, 4), np.float32), np.ones((2, 3), np.float32), "not contiguous"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(x: np.ndarray, weight: np.ndarray, out: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gemm(x, weight, out)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(CublasError, match=r"fastswitch\[gpu\]"):
        matrices.load()
