"""What a model's name means, and what is a path."""

from pathlib import Path

import pytest

from service.errors import ModelLoadError
from service.execution.models.hub.gguf_choice import choose_gguf
from service.execution.models.hub.name import HubName, hub_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org/name")),
        ("org/name:file.gguf", HubName("org/name", "file.gguf")),
        ("org/name:folder/file.gguf", HubName("org/name", "folder/file.gguf")),
        ("Qwen/Qwen2.5-0.5B@v1", HubName("Qwen/Qwen2.5-0.5B", None, "v1")),
        ("org/name:Q8_0@refs/pr/1", HubName("org/name", "Q8_0", "refs/pr/1")),
    ],
)
def test_a_name_is_read_and_written_alike(text: str, name: HubName) -> None:
    assert hub_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    ["model.gguf", "models/model.gguf", "/org/name", "./org/name", "../name", "a/b/c", "name", "org/name:", "org/", ""],
)
def test_anything_else_is_a_path(text: str) -> None:
    assert hub_name(text) is None


def test_what_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_name("org/name") is None
    assert hub_name("org/other") is not None


FILES = ("README.md", "m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-f16.gguf")


@pytest.mark.parametrize(
    ("asked", "files", "chosen"),
    [
        (None, FILES, "m-Q4_K_M.gguf"),
        (None, ("m-Q2_K.gguf", "m-Q8_0.gguf"), "m-Q8_0.gguf"),
        (None, ("only.gguf", "imatrix.gguf"), "only.gguf"),
        (None, ("sub/m-q4_k_m.gguf", "m-Q2_K.gguf"), "sub/m-q4_k_m.gguf"),
        ("m-Q2_K.gguf", FILES, "m-Q2_K.gguf"),
        ("q8_0", FILES, "m-Q8_0.gguf"),
    ],
)
def test_one_gguf_file_is_chosen(asked: str | None, files: tuple[str, ...], chosen: str) -> None:
    assert choose_gguf(HubName("org/name", asked), files) == chosen


@pytest.mark.parametrize(
    ("asked", "files", "complaint"),
    [
        (None, ("a.gguf", "b.gguf"), "as org/name:a.gguf; there are a.gguf, b.gguf"),
        ("c.gguf", ("a.gguf", "b.gguf"), "0 of its files are c.gguf"),
        ("Q8_0", ("a-Q8_0.gguf", "b-Q8_0.gguf"), "2 of its files are Q8_0"),
        (None, tuple(f"{number}.gguf" for number in range(10)), "and 2 more"),
        (None, ("pytorch_model.bin", "config.json"), "neither a GGUF file nor config.json with safetensors"),
        ("m-00001-of-00002.gguf", ("m-00001-of-00002.gguf",), "one of several parts"),
    ],
)
def test_what_cannot_be_chosen_says_what_there_is(asked: str | None, files: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ModelLoadError, match=complaint):
        choose_gguf(HubName("org/name", asked), files)
