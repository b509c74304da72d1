"""Rotary position embedding: the angle by which each pair of dimensions turns from one position to the next.

Loaders compute the frequencies once, with any scaling, so the forward pass knows nothing of scaling schemes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelLoadError

_MAX_HEAD_DIM = 1024


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Llama 3's frequency scaling (Hugging Face ``rope_type: llama3``); GGUF files carry its result as factors."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def factors(self, frequencies: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return divisors of ``frequencies``: 1 for short waves, ``factor`` for long ones, a smooth blend between."""
        wavelength = 2 * math.pi / frequencies
        blend = self.original_max_position_embeddings / wavelength - self.low_freq_factor
        blend = np.clip(blend / (self.high_freq_factor - self.low_freq_factor), 0, 1)
        return np.asarray(1 / ((1 - blend) / self.factor + blend), dtype=np.float32)


def inverse_frequencies(
    head_dim: int, theta: float, scaling: Llama3Scaling | NDArray[np.float32] | None = None
) -> tuple[float, ...]:
    """Return radians per position for each of ``head_dim / 2`` pairs; ``scaling`` may be divisors [head_dim / 2].

    Raises `ModelLoadError` for a head that no model has, before a damaged file makes this allocate gigabytes.
    """
    if not 0 < head_dim <= _MAX_HEAD_DIM or head_dim % 2:
        raise ModelLoadError(f"heads of {head_dim} dimensions are not supported")
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = (1 / np.power(np.float32(theta), exponents)).astype(np.float32)
    if scaling is not None:
        factors = scaling.factors(frequencies) if isinstance(scaling, Llama3Scaling) else scaling
        frequencies = frequencies / factors
    return tuple(frequencies.astype(np.float32).tolist())
