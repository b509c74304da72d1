"""Element types by name. NumPy knows bfloat16 only through the package ml_dtypes, which comes with CuPy's extra."""

from typing import Any

import numpy as np

from service.errors import ConfigError

ELEMENT_TYPES = ("bfloat16", "float16", "float32")


def element_type(name: str) -> np.dtype[Any]:
    """The NumPy type of a name of `ELEMENT_TYPES`. Raises `ConfigError` if ml_dtypes is not installed."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes  # noqa: PLC0415 - needed on GPUs alone
    except ImportError as error:
        raise ConfigError("bfloat16 needs the package ml-dtypes: install fastswitch[gpu]") from error
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16
