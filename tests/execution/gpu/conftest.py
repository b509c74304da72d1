"""The tiny model, on the host."""

from pathlib import Path

import pytest

from service.execution.models.architecture import ModelConfig
from service.execution.models.loading import load_model
from service.execution.models.weights import ModelWeights


@pytest.fixture(scope="package")
def tiny(tiny_model_path: Path) -> tuple[ModelConfig, ModelWeights]:
    """Three layers with random weights, which answer with many different tokens."""
    loaded = load_model(tiny_model_path)
    return loaded.config, loaded.weights
