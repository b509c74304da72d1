"""Weights as files store them, of random numbers, and what packed ones mean."""

import gguf
import ml_dtypes
import numpy as np
from gguf import GGMLQuantizationType as Quantization

from benchmarks.random_quants import random_blocks
from kernels.cpu.step.formats import FORMATS
from kernels.cpu.step.formats.format import Quantised

KINDS = {"bfloat16": Quantization.BF16, "float16": Quantization.F16, "float32": Quantization.F32}


def quantization(name: str) -> Quantization:
    """Return the package's member for a type, by the name that loaders give it."""
    return KINDS[name] if name in KINDS else Quantization[name]


def random_rows(name: str, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Return rows of a file, uint8 [rows, bytes of a row], with a variance of about 1 / columns."""
    if name in ("bfloat16", "float16"):
        values = rng.standard_normal((rows, columns), np.float32) / np.sqrt(columns)
        return values.astype(ml_dtypes.bfloat16 if name == "bfloat16" else np.float16).view(np.uint8)
    format_ = FORMATS[name]
    return random_blocks(format_, rows * columns // format_.columns, columns, rng).reshape(rows, -1)


def meant(name: str, raw: np.ndarray) -> np.ndarray:
    """Return the float32 that rows of a file stand for, by the package `gguf`."""
    return gguf.dequantize(raw.view(np.float16) if name == "float16" else raw, quantization(name))


def unpacked(name: str, packed: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the float32 [rows, columns] that packed groups stand for, found by the layout, element by element."""
    row, column = np.arange(rows)[:, None], np.arange(columns)[None]
    groups, lane = packed[row[:, 0] // 16], row % 16
    format_ = FORMATS[name]
    if not isinstance(format_, Quantised):
        bits = _wide(groups, 2 * (16 * column + lane))
        return (bits << 16).view(np.float32) if name == "bfloat16" else bits.astype(np.uint16).view(np.float16) * 1.0
    section = -(-columns // format_.columns * format_.scale_bytes // 64) * 64
    at = section + column // 32 * format_.quant_bytes
    scales = column // format_.columns * format_.scale_bytes
    quants = _quants(name, groups, at, column % 32, lane).astype(np.float32) - np.float32(format_.offset)
    return _scaled(name, quants, groups, scales, column, lane)


def _quants(name: str, groups: np.ndarray, at: np.ndarray, column: np.ndarray, lane: np.ndarray) -> np.ndarray:
    if name == "Q8_0":
        return _byte(groups, at + 64 * (column // 4) + 4 * lane + column % 4)
    low = _byte(groups, at + 64 * (column // 8) + 4 * lane + column % 4) >> (4 * (column // 4 % 2)) & 15
    if name != "Q6_K":
        return low
    pairs = _byte(groups, at + 256 + 64 * (column // 16) + 4 * lane + column % 4)
    return low | (pairs >> (2 * (column % 16 // 4)) & 3) << 4


def _scaled(
    name: str, quants: np.ndarray, groups: np.ndarray, scales: np.ndarray, column: np.ndarray, lane: np.ndarray
) -> np.ndarray:
    d = _half(groups, scales + 2 * lane)
    if name in ("Q4_0", "Q8_0"):
        return quants * d
    if name == "Q4_1":
        return quants * d + _half(groups, scales + 32 + 2 * lane)
    if name == "Q6_K":
        return quants * (d * _byte(groups, scales + 64 + 16 * (column % 256 // 16) + lane).astype(np.int8))
    sub = scales + 64 + 32 * (column % 256 // 32) + lane
    minimum = _half(groups, scales + 32 + 2 * lane) * _byte(groups, sub + 16).astype(np.float32)
    return quants * (d * _byte(groups, sub).astype(np.float32)) - minimum


def _byte(groups: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the bytes at [rows, columns] of each row's group [rows, bytes]."""
    return np.take_along_axis(groups, at, axis=1).astype(np.uint32)


def _wide(groups: np.ndarray, at: np.ndarray) -> np.ndarray:
    return _byte(groups, at) | _byte(groups, at + 1) << 8


def _half(groups: np.ndarray, at: np.ndarray) -> np.ndarray:
    return _wide(groups, at).astype(np.uint16).view(np.float16).astype(np.float32)
