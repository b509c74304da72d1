"""What the suite needs of a machine, asked before anything that needs it is imported."""

from importlib.util import find_spec

import numpy as np

ANYWHERE = {
    "numba": "numba",
    "structlog": "structlog",
    "tokenizers": "tokenizers",  # by the engine, which the suite feeds with numbers
}
ON_A_GPU = {
    "cupy": "cupy-cuda13x",
    "numba_cuda": "numba-cuda",
    "cuda.bindings": "cuda-bindings",
    "cuda.pathfinder": "cuda-pathfinder",
    "ml_dtypes": "ml-dtypes",
}
# numba-cuda 0.30 says the old names, which NumPy 2.5 has removed. The project itself asks for an older NumPy.
RENAMED = {"row_stack": "vstack", "in1d": "isin", "trapz": "trapezoid"}


def missing(simulated: bool) -> list[str]:
    """Packages that are not installed, as pip knows them."""
    needed = ANYWHERE if simulated else ANYWHERE | ON_A_GPU
    return [package for module, package in needed.items() if not _is_there(module)]


def restore_numpy_names() -> None:
    """Before numba-cuda compiles anything."""
    for old, new in RENAMED.items():
        if not hasattr(np, old):
            setattr(np, old, getattr(np, new))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False
