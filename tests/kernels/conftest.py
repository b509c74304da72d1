"""Every kernel test runs with its work in one share and in three."""

import numba
import pytest


@pytest.fixture(params=[1, 3], autouse=True, ids=["one share", "three shares"])
def shares(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many shares the kernels cut their work into, however many threads there are to compute them."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: request.param)
