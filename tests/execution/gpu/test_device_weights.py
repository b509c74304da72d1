"""Weights on a simulated device: rounded right whatever is late, and only little of them on the host at a time."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from service.errors import DeviceMemoryError, ModelLoadError, PinnedMemoryError
from service.execution.gpu.simulated.faults import Delays, Failing, Faults, Work
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.gpu.supported import element_type
from service.execution.gpu.weights import BUFFER_ELEMENTS, BUFFERS, DeviceWeights, _Buffer
from service.execution.models.assemble import assemble
from service.execution.models.loading import load_model, open_model
from service.execution.models.safetensors_dir import SafetensorsDir
from service.execution.models.weights import ModelWeights

FAMILIES = Path(__file__).parents[2] / "data" / "families"
SMALL = 1000  # elements: matrices take several buffers, and no row is longer than one


def arrays(weights: ModelWeights) -> Iterable[Any]:
    """Return all arrays, in order."""
    yield weights.embedding
    for layer in weights.layers:
        for linear in (layer.qkv, layer.attention_out, layer.gate_up, layer.down):
            yield linear.weight
            if linear.bias is not None:
                yield linear.bias
        yield from (layer.attention_norm, layer.mlp_norm)
        yield from (norm for norm in (layer.q_norm, layer.k_norm) if norm is not None)
    yield weights.final_norm
    yield weights.output.weight


def fetched(runtime: SimulatedRuntime, array: Any) -> np.ndarray:
    """Return the contents of an array on the device."""
    with runtime.bound():
        stream, memory = runtime.stream(), runtime.pinned(array.nbytes).view(array.dtype).reshape(array.shape)
        stream.copy(array, memory)
        stream.record().wait()
    return memory


def load(path: Path, dtype: str, faults: Faults | None = None) -> tuple[SimulatedRuntime, list[np.ndarray]]:
    """Load a model through small buffers onto a device, and read it back."""
    runtime = SimulatedRuntime(faults=faults)
    loaded = open_model(path).load(DeviceWeights(runtime, element_type(dtype), buffer_elements=SMALL, buffers=3))
    return runtime, [fetched(runtime, array) for array in arrays(loaded.weights)]


def same_bytes(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("family", sorted(path.name for path in FAMILIES.iterdir()))
@pytest.mark.parametrize("file", ["", "model.gguf"])
def test_every_weight_is_the_hosts_rounded_to_nearest_even(family: str, file: str, dtype: str) -> None:
    path = FAMILIES / family / file
    _, found = load(path, dtype)
    expected = [array.astype(element_type(dtype)) for array in arrays(load_model(path).weights)]
    assert all(map(same_bytes, found, expected))
    assert len(found) == len(expected)


def test_late_copies_change_nothing(tiny_model_path: Path) -> None:
    _, late = load(tiny_model_path, "bfloat16", Delays(seed=1, longest_s=0.002))
    _, prompt = load(tiny_model_path, "bfloat16")
    assert all(map(same_bytes, late, prompt))


def test_a_buffer_that_is_not_waited_for_would_be_overwritten(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, right = load(tiny_model_path, "bfloat16")
    unheeding = _Buffer.take
    monkeypatch.setattr(_Buffer, "take", lambda buffer, shape: unheeding(_Buffer(buffer._memory), shape))
    _, wrong = load(tiny_model_path, "bfloat16", Delays(seed=1, longest_s=0.002))
    assert not all(map(same_bytes, right, wrong))


def test_the_host_pins_the_buffers_alone(tiny_model_path: Path) -> None:
    opened = open_model(tiny_model_path)
    runtime = SimulatedRuntime(pinnable_bytes=3 * SMALL * 2)
    opened.load(DeviceWeights(runtime, element_type("bfloat16"), buffer_elements=SMALL, buffers=3))
    assert opened.num_weights > 3 * SMALL * 10


def test_the_size_of_all_weights_is_known_before(tiny_model_path: Path) -> None:
    opened = open_model(tiny_model_path)
    runtime = SimulatedRuntime()
    opened.load(DeviceWeights(runtime, element_type("bfloat16")))
    assert runtime.info.total_bytes - runtime.free_bytes() == 2 * opened.num_weights


def test_tied_output_is_on_the_device_once(tiny_model_path: Path) -> None:
    loaded = open_model(tiny_model_path).load(DeviceWeights(SimulatedRuntime(), element_type("float16")))
    assert loaded.weights.output.weight is loaded.weights.embedding


class _AsTheyAre(SafetensorsDir):
    """Tensors that can only be read in the type that they are stored in."""

    def read(self, name: str, first: int, out: np.ndarray) -> None:
        assert out.dtype == ml_dtypes.bfloat16
        super().read(name, first, out)


def test_numbers_of_the_right_type_are_not_converted(tiny_model_path: Path, tmp_path: Path) -> None:
    opened = open_model(tiny_model_path)
    tensors = {}
    for name in opened.tensors.names():
        tensors[name] = np.empty(opened.tensors.shape(name), np.float32)
        opened.tensors.read(name, 0, tensors[name])
    rounded = {name: array.astype(ml_dtypes.bfloat16) for name, array in tensors.items()}
    save_file(rounded, tmp_path / "model.safetensors")
    runtime = SimulatedRuntime()
    destination = DeviceWeights(runtime, element_type("bfloat16"), buffer_elements=SMALL)
    weights = assemble(_AsTheyAre(tmp_path), opened.config, opened.tied, destination)
    assert same_bytes(fetched(runtime, weights.embedding), rounded["model.embed_tokens.weight"])


def test_a_weight_that_float16_does_not_have_is_refused(tiny_model_path: Path) -> None:
    opened = open_model(tiny_model_path)

    class Large(SafetensorsDir):
        def stored(self, name: str) -> str:
            return "float32"

        def read(self, name: str, first: int, out: np.ndarray) -> None:
            out.fill(-70000 if name == "model.norm.weight" else 0)

    destination = DeviceWeights(SimulatedRuntime(), element_type("float16"))
    with pytest.raises(ModelLoadError, match="a weight of 70000 is too large for float16"):
        assemble(Large(tiny_model_path), opened.config, opened.tied, destination)


def test_a_full_device_is_reported(tiny_model_path: Path) -> None:
    runtime = SimulatedRuntime(total_bytes=10_000)
    with pytest.raises(DeviceMemoryError, match="asked for"):
        open_model(tiny_model_path).load(DeviceWeights(runtime, element_type("bfloat16")))


def test_buffers_that_cannot_be_pinned_are_reported() -> None:
    with pytest.raises(PinnedMemoryError):
        DeviceWeights(SimulatedRuntime(pinnable_bytes=BUFFER_ELEMENTS * 2 * BUFFERS - 1), element_type("bfloat16"))


class _Counting(Faults):
    """Counts copies."""

    def __init__(self) -> None:
        self.copies = 0

    def submitted(self, work: Work) -> None:
        self.copies += work.is_copy


@pytest.mark.parametrize("is_last", [False, True])
def test_a_copy_that_fails_fails_the_load(tiny_model_path: Path, is_last: bool) -> None:
    counting = _Counting()
    runtime = SimulatedRuntime(faults=counting)
    open_model(tiny_model_path).load(DeviceWeights(runtime, element_type("bfloat16"), buffer_elements=SMALL, buffers=3))
    number = counting.copies - 1 if is_last else 0
    with pytest.raises(RuntimeError, match="injected"):
        load(tiny_model_path, "bfloat16", Failing(lambda work: work.is_copy, number, number + 1))
