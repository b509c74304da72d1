"""Matrix products by cuBLAS, called through ctypes: unlike CuPy's wrappers, these calls may be captured into a graph.

A `Cublas` is one handle on one stream, with a workspace that its caller allocates: it allocates nothing and waits for
nothing, so what was captured can be replayed. One thread at a time calls it, inside the device's context; stream and
workspace outlive it and its graphs. `gemm` derives the call for a product from shapes and strides alone.
"""

import ctypes
from ctypes import c_int, c_size_t, c_void_p
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Array = Any  # with shape, dtype, strides, and its address at data.ptr, as CuPy has them

WORKSPACE_BYTES = 32 << 20  # what cuBLAS wants on Hopper; 4 MiB would do on older devices

# cublas_api.h, library_types.h
_NORMAL, _TRANSPOSED = 0, 1
_TYPES = {"float32": 0, "float16": 2, "bfloat16": 14}
_COMPUTE_32F, _COMPUTE_32F_PEDANTIC = 68, 69
_FULL_PRECISION_REDUCTIONS = 16  # what several blocks sum stays float32 until it is complete
_DEFAULT_ALGORITHM = -1
ALLOC_FAILED = 3
_STATUS = {
    1: "NOT_INITIALIZED",
    ALLOC_FAILED: "ALLOC_FAILED",
    7: "INVALID_VALUE",
    8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR",
    13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR",
    15: "NOT_SUPPORTED",
    16: "LICENSE_ERROR",
}
_MATRIX = [c_void_p, c_int, c_int]  # address, `Operand`
_SIGNATURES: dict[str, list[Any]] = {
    "cublasCreate_v2": [c_void_p],
    "cublasSetStream_v2": [c_void_p, c_void_p],
    "cublasSetWorkspace_v2": [c_void_p, c_void_p, c_size_t],
    "cublasSetMathMode": [c_void_p, c_int],
    "cublasGemmEx": [c_void_p, *[c_int] * 5, c_void_p, *_MATRIX, *_MATRIX, c_void_p, *_MATRIX, c_int, c_int],
}


class CublasError(RuntimeError):
    """cuBLAS is missing (``status`` is None), or refused a call with ``status``."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Multiply(Protocol):
    """Multiplies matrices on the stream that it stands for."""

    def __call__(self, x: Array, weight: Array, out: Array, *, accumulate: bool) -> None:
        """``out = x @ weight.T``, added to what ``out`` holds if ``accumulate``; rounded once, from float32 sums.

        x [tokens, in] and weight [out, in] of one element type; out [tokens, out] of that type or float32.
        """


class Operand(NamedTuple):
    """A matrix stored by columns; leading: elements from one column to the next."""

    type: int
    leading: int


@dataclass(frozen=True, slots=True)
class Gemm:
    """A product as cublasGemmEx takes it: ``c[m, n] = op(a)[m, k] @ op(b)[k, n]``, all stored by columns."""

    operation_a: int
    operation_b: int
    m: int
    n: int
    k: int
    a: Operand
    b: Operand
    c: Operand
    compute: int


def gemm(x: Array, weight: Array, out: Array) -> Gemm:
    """Return the call for ``out = x @ weight.T`` of matrices with contiguous rows.

    In cuBLAS's columns it is ``out.T = weight @ x.T``: rows in memory are columns there, so x already is x.T, and
    weight has to be transposed back. float32 is never multiplied as TF32. Raises ValueError if the matrices do not fit.
    """
    (tokens, inner), (outputs, weight_inner) = x.shape, weight.shape
    types = [str(array.dtype) for array in (x, weight, out)]
    if inner != weight_inner or out.shape != (tokens, outputs):
        raise ValueError(f"{_describe(x, weight, out)}: the shapes do not fit")
    if types[0] not in _TYPES or types[1] != types[0] or types[2] not in (types[0], "float32"):
        raise ValueError(f"{_describe(x, weight, out)}: there is no such product")
    a, b, c = (Operand(_TYPES[str(array.dtype)], _leading(array)) for array in (weight, x, out))
    compute = _COMPUTE_32F_PEDANTIC if types[0] == "float32" else _COMPUTE_32F
    return Gemm(_TRANSPOSED, _NORMAL, outputs, tokens, inner, a, b, c, compute)


def _leading(matrix: Array) -> int:
    """Return the elements from row to row; a single row has no such number, but cuBLAS wants one that is possible."""
    (rows, columns), item = matrix.shape, matrix.dtype.itemsize
    if columns > 1 and matrix.strides[1] != item:
        raise ValueError(f"a matrix {matrix.shape} with strides {matrix.strides}: its rows are not contiguous")
    leading: int = matrix.strides[0] // item if rows > 1 else columns
    if rows > 1 and (leading < columns or matrix.strides[0] % item):
        raise ValueError(f"a matrix {matrix.shape} with strides {matrix.strides}: its rows overlap")
    return leading


class Cublas:
    """A `Multiply` on ``stream``; stream and workspace are addresses, the workspace 256-byte aligned."""

    def __init__(self, library: Any, stream: int, workspace: int, workspace_bytes: int) -> None:
        self._library = library
        for name, kinds in _SIGNATURES.items():
            getattr(library, name).argtypes = kinds
        self._handle = c_void_p()
        self._one, self._zero = ctypes.c_float(1), ctypes.c_float(0)
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        self._call("cublasSetStream_v2", self._handle, stream)
        # The workspace comes after the stream, because setting a stream takes the workspace away.
        self._call("cublasSetWorkspace_v2", self._handle, workspace, workspace_bytes)
        self._call("cublasSetMathMode", self._handle, _FULL_PRECISION_REDUCTIONS)

    def __call__(self, x: Array, weight: Array, out: Array, *, accumulate: bool) -> None:
        """See `Multiply`. Raises ValueError for matrices that do not fit, CublasError if cuBLAS refuses."""
        call = gemm(x, weight, out)
        add = self._one if accumulate else self._zero
        self._call(
            "cublasGemmEx", self._handle, call.operation_a, call.operation_b, call.m, call.n, call.k,
            ctypes.byref(self._one), weight.data.ptr, *call.a, x.data.ptr, *call.b,
            ctypes.byref(add), out.data.ptr, *call.c, call.compute, _DEFAULT_ALGORITHM, matrices=(x, weight, out),
        )  # fmt: skip

    def _call(self, name: str, *arguments: Any, matrices: tuple[Array, ...] = ()) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            about = f" for {_describe(*matrices)}" if matrices else ""
            raise CublasError(f"{name}{about}: {_STATUS.get(status, 'status')} ({status})", status)


def load() -> ctypes.CDLL:
    """Load CUDA's cuBLAS, wherever it was installed. Raises CublasError."""
    try:
        from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib  # noqa: PLC0415
    except ImportError as error:
        raise CublasError("cuBLAS cannot be located without cuda-pathfinder: install fastswitch[gpu]") from error
    try:
        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except (DynamicLibNotFoundError, OSError) as error:
        raise CublasError(f"cuBLAS was not found: install fastswitch[gpu]; {error}") from error


def _describe(x: Array, weight: Array, out: Array) -> str:
    named = zip(("x", "weight", "out"), (x, weight, out), strict=True)
    return ", ".join(f"{name} {list(array.shape)} {array.dtype}" for name, array in named)
