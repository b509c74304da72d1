"""The packages that the suite needs, checked before anything that needs them is imported."""

from importlib.util import find_spec

import numpy as np

ANYWHERE = {
    "numba": "numba",
    "structlog": "structlog",
    "tokenizers": "tokenizers",  # imported by the engine, though the suite gives it token ids
}
ON_A_GPU = {
    "cupy": "cupy-cuda13x",
    "numba_cuda": "numba-cuda",
    "cuda.bindings": "cuda-bindings",
    "cuda.pathfinder": "cuda-pathfinder",
    "ml_dtypes": "ml-dtypes",
}
# numba-cuda 0.30 uses the old names, which NumPy 2.5 has removed. The project itself asks for an older NumPy.
RENAMED = {"row_stack": "vstack", "in1d": "isin", "trapz": "trapezoid"}


def missing(simulated: bool) -> list[str]:
    """Return pip's names of the packages that are not installed."""
    needed = ANYWHERE if simulated else ANYWHERE | ON_A_GPU
    return [package for module, package in needed.items() if not _is_installed(module)]


def restore_numpy_names() -> None:
    """Restore names that numba-cuda uses; call it before anything is compiled."""
    for old, new in RENAMED.items():
        if not hasattr(np, old):
            setattr(np, old, getattr(np, new))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
