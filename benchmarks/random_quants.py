"""Random weights of a quantised type in any model's shapes, for benchmarks and tests, which need only its sizes."""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.random_weights import ModelShape, RandomTensors
from kernels.cpu.step.formats import FORMATS
from kernels.cpu.step.formats.format import Format, Quantised

TABLE = 65521  # blocks; a prime, so that no two rows of a matrix begin at the same one

# Where a block has float16 scales, and how large what they multiply is on average, if its bits are random.
_SCALES = {
    "Q4_0": {0: 4.6},
    "Q4_1": {0: 8.8, 2: 1},
    "Q8_0": {0: 74},
    "Q4_K": {0: 37 * 8.8, 2: 37},
    "Q6_K": {208: 74 * 18.5},
}


def random_blocks(kind: Format, count: int, columns: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return blocks of a file, uint8 [count, bytes of a block], whose weights have a variance of about 1 / columns.

    Quants are random bits, and scales have either sign.
    """
    raw = rng.integers(0, 256, (count, kind.file_bytes), np.uint8)
    for at, size in _SCALES[kind.name].items():
        scales = (rng.standard_normal(count, np.float32) / (size * np.sqrt(columns))).astype(np.float16)
        raw[:, at : at + 2] = scales[:, None].view(np.uint8)
    return raw


class RandomQuants(RandomTensors):
    """A `TensorSource` whose matrices have the type ``name``. Rows are whole blocks, copied from one table."""

    def __init__(self, shape: ModelShape, name: str, seed: int = 0) -> None:
        super().__init__(shape, np.dtype(np.float32), seed)
        kind, rng = FORMATS[name], np.random.default_rng(seed)
        assert isinstance(kind, Quantised)
        self._kind = kind
        widths = {size[1] for size in self._shapes.values() if len(size) == 2}
        self._blocks = {width: random_blocks(kind, TABLE, width, rng) for width in widths}

    def stored(self, name: str) -> str:
        """Return the type of a matrix; vectors are float32."""
        return self._kind.name if len(self.shape(name)) == 2 else super().stored(name)

    def raw(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """Return rows of a matrix."""
        columns = self.shape(name)[1]
        per_row = columns // self._kind.columns
        begin = crc32(name.encode()) + first * per_row
        return self._blocks[columns][np.arange(begin, begin + count * per_row) % TABLE].reshape(count, -1)

    def read(self, name: str, first: int, out: NDArray[np.float32]) -> None:
        """Decode rows of a matrix, or write a vector."""
        if len(self.shape(name)) == 2:
            out[:] = self._kind.decode(self.raw(name, first, len(out))).dequantised()
        else:
            super().read(name, first, out)
