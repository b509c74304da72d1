"""What a step's kernels compute does not depend on Numba's threads, so their tests run once."""

import pytest


@pytest.fixture(autouse=True)
def shares() -> None:
    """Replace the fixture that runs each test of the other kernels in one share and in three."""
