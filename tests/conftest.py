"""Hypothesis profiles, what every package's tests may use, and what tests leave behind."""

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web_app
from hypothesis import HealthCheck, settings

_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "default", max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=_CALM
)
settings.register_profile("full", max_examples=1000, stateful_step_count=50, deadline=None, suppress_health_check=_CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def tiny_model_path() -> Path:
    """A chat model of a few thousand random weights, as a Hugging Face directory."""
    return Path(__file__).parent / "data" / "tiny"


@pytest.fixture
def closed_url() -> Iterator[str]:
    """An address where nobody listens, nor will as long as the test runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture(autouse=True)
def no_served_models() -> Iterator[None]:
    """Let go of applications, and so of their models and KV: a cache of aiohttp's holds the last thousand."""
    yield
    web_app._cached_build_middleware.cache_clear()


_LEFT_OUT = pytest.StashKey[int]()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what this run leaves out."""
    stash = items[0].config.stash
    stash[_LEFT_OUT] = stash.get(_LEFT_OUT, 0) + len(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells its controller."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker collects everything, so each has the whole count."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests did not run, for pytest-xdist does not."""
    if left_out := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(f"{left_out} tests left out by -m {config.option.markexpr!r}")
