"""Which models the GPU's kernels compute: told when a model is opened, not by the first step that fails."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from service.errors import ModelLoadError
from service.execution.models.architecture import ModelConfig

VECTOR_BYTES = 16  # kernels move so many at a time, and rows are whole vectors
MAX_HEAD_DIM = 128
MAX_GROUP = 8  # query heads of a KV head: attention keeps all their sums in registers, then in shared memory


def require_supported(config: ModelConfig, dtype: np.dtype[Any]) -> None:
    """Raises `ModelLoadError` for shapes that there is no kernel for."""
    for problem in _problems(config, VECTOR_BYTES // dtype.itemsize):
        raise ModelLoadError(f"GPUs cannot serve it in {dtype.name}: {problem}; --device cpu can")


def _problems(config: ModelConfig, vector: int) -> Iterator[str]:
    if config.head_dim % (2 * vector) or config.head_dim > MAX_HEAD_DIM:
        yield f"heads of {config.head_dim} elements are no multiple of {2 * vector} up to {MAX_HEAD_DIM}"
    if config.num_heads > MAX_GROUP * config.num_kv_heads:
        yield f"{config.num_heads} query heads share {config.num_kv_heads} KV heads, more than {MAX_GROUP} one"
    for name in ("hidden_size", "intermediate_size"):
        if getattr(config, name) % vector:
            yield f"{name} {getattr(config, name)} is no multiple of {vector}"
