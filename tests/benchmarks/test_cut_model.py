"""The cut model has the first layers of the packaged one, unchanged."""

from pathlib import Path

import numpy as np

from benchmarks.gpu.cut_model import cut
from service.execution.models.loading import default_model_path, open_model

LAYERS = 2


def test_the_first_layers_are_unchanged(tmp_path: Path) -> None:
    cut(default_model_path(), tmp_path / "cut.gguf", LAYERS)
    whole, part = open_model(), open_model(tmp_path / "cut.gguf")
    assert (part.config.num_layers, whole.config.num_layers) == (LAYERS, 30)
    kept = [name for name in whole.tensors.names() if "layers." not in name or int(name.split(".")[2]) < LAYERS]
    assert sorted(part.tensors.names()) == sorted(kept)
    for name in ("model.layers.1.mlp.down_proj.weight", "model.norm.weight"):
        ours, theirs = (np.empty(whole.tensors.shape(name), np.float32) for _ in range(2))
        part.tensors.read(name, 0, ours)
        whole.tensors.read(name, 0, theirs)
        assert np.array_equal(ours, theirs)
    text = "Once upon a time"
    assert part.tokenizer.encode(text) == whole.tokenizer.encode(text)
