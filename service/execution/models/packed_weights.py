"""Weights as the file has them, packed for the kernels of `kernels.cpu.step`; only what is no matrix becomes float32.

Types that these kernels do not know become bfloat16.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.cpu.step.formats import FORMATS
from kernels.cpu.step.formats.bfloat16 import BFloat16
from kernels.cpu.step.formats.format import GROUP
from service.execution.memory import Array
from service.execution.models.assemble import Piece, Tensor
from service.execution.models.dense_weights import HostWeights
from service.execution.models.weights import Matrix, PackedLinear, PackedMatrix, PackedRows

PIECE = 1 << 20  # numbers that a thread packs at a time
CHUNK = 64 << 20  # bytes
PAGE = 4096

_BFLOAT16 = BFloat16()


class PackedWeights:
    """A `Destination` of packed matrices; ``dtype`` is ``auto``, as the file has them, or one type for all of them."""

    def __init__(self, dtype: Literal["auto", "bfloat16"]) -> None:
        self._dtype = dtype
        self._memory = _Memory()
        self._dense = HostWeights()

    def vector(self, tensors: Sequence[Tensor]) -> tuple[Array, list[Piece]]:
        """Allocate float32."""
        return self._dense.vector(tensors)

    def matrix(self, tensors: Sequence[Tensor]) -> tuple[PackedMatrix, list[Piece]]:
        """Allocate neighbours of one type as one part, if each begins a group."""
        parts: list[PackedRows] = []
        pieces: list[Piece] = []
        first, columns = 0, tensors[0].shape[1]
        for name, some in self._runs(tensors):
            rows = sum(tensor.shape[0] for tensor in some)
            groups = self._memory.zeros(-(-rows // GROUP), FORMATS[name].group_bytes(columns))
            parts.append(PackedRows(name, first, rows, groups))
            pieces += _pieces(name, some, groups)
            first += rows
        return PackedMatrix(columns, tuple(parts)), pieces

    def linear(self, weight: Matrix, bias: Array | None) -> PackedLinear:
        """Return the layer."""
        return PackedLinear(weight, bias)

    def num_bytes(self, tensor: Tensor) -> int:
        """See `Destination`."""
        if len(tensor.shape) != 2:
            return self._dense.num_bytes(tensor)
        rows, columns = tensor.shape
        return -(-rows // GROUP) * FORMATS[self._format(tensor)].group_bytes(columns)

    def finish(self) -> None:
        """Do nothing: pieces pack into their places."""

    def _runs(self, tensors: Sequence[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
        """Yield which tensors make a part, with the name of its format."""
        names = [self._format(tensor) for tensor in tensors]
        start = 0
        for end in range(1, len(tensors) + 1):
            ends = end == len(tensors) or names[end] != names[start] or tensors[end - 1].shape[0] % GROUP
            if ends:
                yield names[start], list(tensors[start:end])
                start = end

    def _format(self, tensor: Tensor) -> str:
        return tensor.stored if self._dtype == "auto" and tensor.stored in FORMATS else _BFLOAT16.name


def _pieces(name: str, tensors: list[Tensor], groups: NDArray[np.uint8]) -> Iterator[Piece]:
    """Yield whole groups at a time; ``groups`` [groups, group_bytes] are those of all tensors."""
    start = 0
    for tensor in tensors:
        rows, columns = tensor.shape
        step = max(1, PIECE // (columns * GROUP)) * GROUP
        for first in range(0, rows, step):
            count = min(step, rows - first)
            begin, end = start + first // GROUP, start + -(-(first + count) // GROUP)
            yield Piece(count * columns, partial(_pack, name, tensor, first, count, groups[begin:end]))
        start += rows // GROUP


def _pack(name: str, tensor: Tensor, first: int, count: int, groups: NDArray[np.uint8]) -> None:
    if tensor.stored == name:
        FORMATS[name].pack(tensor.raw(first, count), groups)
        return
    values = np.empty((count, tensor.shape[1]), np.float32)
    tensor.read(first, values)
    _BFLOAT16.pack(_BFLOAT16.round(values), groups)


class _Memory:
    """Memory of zeros at page boundaries, taken from few large arrays, for which NumPy asks the system for huge pages.

    A decode of SmolLM2 alone gains about a tenth by these, and most of its matrices are smaller than one.
    """

    def __init__(self) -> None:
        self._rest = np.empty(0, np.uint8)

    def zeros(self, groups: int, group_bytes: int) -> NDArray[np.uint8]:
        """Return an array [groups, group_bytes]. Raises MemoryError."""
        size = groups * group_bytes
        pages = -(-size // PAGE) * PAGE
        if pages > len(self._rest):
            chunk = np.zeros(max(pages, CHUNK) + PAGE, np.uint8)  # touched by whoever writes it
            self._rest = chunk[-chunk.ctypes.data % PAGE :]
        taken, self._rest = self._rest[:size], self._rest[pages:]
        return taken.reshape(groups, group_bytes)
