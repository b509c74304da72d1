"""Files of weights take no memory once the weights are loaded."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from service.execution.models.loading import OpenedModel, open_model
from service.execution.models.packed_weights import PackedWeights
from tests.gguf_models import write_model

MAPPINGS = Path("/proc/self/smaps")


def resident_bytes(path: Path) -> int:
    """Return how much of a file's mappings is in this process' memory."""
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", MAPPINGS.read_text(), flags=re.MULTILINE)
    sizes = [re.search(r"^Rss: +(\d+) kB$", each, re.MULTILINE) for each in mappings if f" {path}\n" in each]
    assert sizes
    return sum(1024 * int(size[1]) for size in sizes if size is not None)


def resident_after_loading(opened: OpenedModel, file: Path) -> tuple[int, int]:
    """Return how much is resident before the weights are loaded, with all of it read, and after."""
    for name in opened.tensors.names():
        shape = opened.tensors.shape(name)
        if len(shape) == 2:
            opened.tensors.raw(name, 0, shape[0]).sum()
    before = resident_bytes(file)
    opened.load(PackedWeights("auto"))
    return before, resident_bytes(file)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what of a mapping is resident")
def test_pages_of_a_gguf_file_are_given_back(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "Q8_0")
    before, after = resident_after_loading(open_model(path), path)
    assert before >= path.stat().st_size // 2
    assert after == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what of a mapping is resident")
def test_pages_of_a_safetensors_file_are_given_back(tiny_model_path: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_model_path, tmp_path / "model"))
    path = directory / "model.safetensors"
    before, after = resident_after_loading(open_model(directory), path)
    assert before >= path.stat().st_size // 2
    assert after == 0
