"""Hypothesis profiles and the tiny model that every package's tests may use."""

import os
from pathlib import Path

import pytest
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
