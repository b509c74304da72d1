"""The shapes that GPUs are measured with have as many weights as the published models."""

import numpy as np
import pytest

from benchmarks.gpu.random_weights import ModelShape, RandomTensors
from benchmarks.gpu.shapes import LLAMA_3_8B, QWEN_2_5_32B
from service.execution.models.assemble import num_weights


@pytest.mark.parametrize(("shape", "weights"), [(LLAMA_3_8B, 8_030_261_248), (QWEN_2_5_32B, 32_763_876_352)])
def test_weights_are_as_many_as_published(shape: ModelShape, weights: int) -> None:
    assert num_weights(RandomTensors(shape, np.dtype(np.float16)), shape.tied) == weights
