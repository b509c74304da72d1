"""The element types and models that the GPU's kernels compute: checked when a model is opened, not by its first step.

NumPy knows bfloat16 only through the package ml_dtypes, which comes with CuPy's extra.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from service.errors import ConfigError, ModelLoadError
from service.execution.models.architecture import ModelConfig

ELEMENT_TYPES = ("bfloat16", "float16", "float32")
VECTOR_BYTES = 16  # kernels move so many at a time, and rows are whole vectors
MAX_HEAD_DIM = 128
MAX_GROUP = 8  # query heads of a KV head: attention keeps all their sums in registers, then in shared memory


def element_type(name: str) -> np.dtype[Any]:
    """Return the NumPy type of a name in `ELEMENT_TYPES`. Raises `ConfigError` if ml_dtypes is not installed."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes  # noqa: PLC0415 - needed on GPUs alone
    except ImportError as error:
        raise ConfigError("bfloat16 needs the package ml-dtypes: install fastswitch[gpu]") from error
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def require_supported(config: ModelConfig, dtype: np.dtype[Any]) -> None:
    """Raise `ModelLoadError` for a shape that no kernel computes."""
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
