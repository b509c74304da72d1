"""Every kernel test runs with its work in one share and in three shares."""

import numba
import pytest


@pytest.fixture(params=[1, 3], autouse=True, ids=["one share", "three shares"])
def shares(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set how many shares the kernels split their work into, however many threads compute them."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: request.param)
