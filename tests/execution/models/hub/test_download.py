"""Models come by name from a hub: what is downloaded, what is refused, and what goes on after a failure.

Each download is a process of its own, because the package reads its environment when it is imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.execution.models.hub.conftest import COMMIT, Hub

SCRIPT = """
import sys
from service.errors import ModelLoadError
from service.execution.models.hub.download import download
from service.execution.models.hub.name import hub_name
from service.telemetry.start_progress import Unwatched
try:
    print(download(hub_name(sys.argv[1]), Unwatched()))
except ModelLoadError as error:
    sys.exit(error.message)
"""
FAMILIES = Path(__file__).parents[3] / "data" / "families"
NEEDED = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}

Fetch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Fetch:
    """Downloads a model by name into a cache of the test's own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}

    def run(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
        asked = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), **environment}
        command = [sys.executable, "-c", SCRIPT, name]
        return subprocess.run(command, capture_output=True, text=True, env={**inherited, **asked}, check=False)

    return run


def fetched(result: subprocess.CompletedProcess[str]) -> Path:
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.splitlines()[-1])


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_a_directory_is_downloaded_without_what_is_not_needed(hub: Hub, fetch: Fetch, tiny_model_path: Path) -> None:
    model = hub.add("org/tiny", tiny_model_path)
    model.files |= {"README.md": b"#", "pytorch_model.bin": b"0" * 1000, "onnx/model.onnx": b"0"}
    directory = fetched(fetch("org/tiny"))
    assert hub.names_sent == NEEDED
    assert all((directory / name).read_bytes() == model.files[name] for name in NEEDED)


def test_what_the_cache_has_is_not_downloaded_again(hub: Hub, fetch: Fetch, tiny_model_path: Path) -> None:
    hub.add("org/tiny", tiny_model_path)
    first = fetched(fetch("org/tiny"))
    hub.sent.clear()
    assert fetched(fetch("org/tiny")) == first
    assert hub.sent == []


def test_every_file_of_an_index_comes(hub: Hub, fetch: Fetch) -> None:
    hub.add("org/shards", FAMILIES / "llama2")
    directory = fetched(fetch("org/shards"))
    assert len(list(directory.glob("model-*-of-00003.safetensors"))) == 3
    assert not {"model.gguf", "reference.npz"} & hub.names_sent


def test_a_gguf_file_comes_alone(hub: Hub, fetch: Fetch) -> None:
    content = (FAMILIES / "qwen3" / "model.gguf").read_bytes()
    hub.put("org/files", {"m-Q8_0.gguf": content, "m-Q2_K.gguf": b"0"}, architecture="qwen3")
    assert fetched(fetch("org/files")).read_bytes() == content
    assert hub.names_sent == {"m-Q8_0.gguf"}


def test_a_broken_connection_is_gone_on_from(hub: Hub, fetch: Fetch) -> None:
    content = bytes(range(256)) * (24 << 12)  # the package stores 10 MiB at a time
    model = hub.put("org/big", {"big.gguf": content})
    model.breaks["big.gguf"] = 1
    result = fetch("org/big")
    assert fetched(result).read_bytes() == content
    assert "24 MiB" in result.stdout
    (_, whole), (_, rest) = hub.sent
    assert (whole, rest) == (None, f"bytes={10 << 20}-")


def test_a_missing_file_is_named_with_those_there_are(hub: Hub, fetch: Fetch) -> None:
    hub.put("org/files", {"m-Q8_0.gguf": b"0", "m-Q2_K.gguf": b"0"})
    line = refusal(fetch("org/files:m-Q9.gguf"))
    assert "m-Q9.gguf" in line
    assert "there are m-Q2_K.gguf, m-Q8_0.gguf" in line
    assert hub.sent == []


def test_a_directory_that_lacks_a_file_is_refused_before_its_weights_come(
    hub: Hub, fetch: Fetch, tiny_model_path: Path
) -> None:
    hub.add("org/tiny", tiny_model_path, "config.json", "model.safetensors")
    assert refusal(fetch("org/tiny")) == "org/tiny: tokenizer.json is missing"
    assert hub.names_sent == {"config.json"}


@pytest.mark.parametrize(
    ("files", "architecture"),
    [
        ({"config.json": json.dumps({"model_type": "gpt2"}).encode(), "model.safetensors": b"0"}, None),
        ({"m-Q8_0.gguf": b"0"}, "gpt2"),
    ],
    ids=["directory", "gguf"],
)
def test_a_family_that_is_not_served_is_refused_before_its_weights_come(
    hub: Hub, fetch: Fetch, files: dict[str, bytes], architecture: str | None
) -> None:
    hub.put("org/other", files, architecture=architecture)
    line = refusal(fetch("org/other"))
    assert "'gpt2' is not supported, only llama" in line
    assert "snapshots" not in line
    assert "qwen3" in line
    assert hub.names_sent <= {"config.json"}


def test_a_private_model_needs_a_token(hub: Hub, fetch: Fetch, tiny_model_path: Path) -> None:
    hub.add("org/private", tiny_model_path, token="hf_right")
    assert "private and no HF_TOKEN is set" in refusal(fetch("org/private"))
    assert "HF_TOKEN may not read it" in refusal(fetch("org/private", HF_TOKEN="hf_wrong"))
    assert fetched(fetch("org/private", HF_TOKEN="hf_right")).is_dir()


def test_terms_must_be_accepted_where_the_line_says(hub: Hub, fetch: Fetch, tiny_model_path: Path) -> None:
    hub.add("org/gated", tiny_model_path, token="hf_right", gated=True)
    assert f"accept its terms at {hub.url}/org/gated" in refusal(fetch("org/gated"))


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: Hub, fetch: Fetch, tiny_model_path: Path) -> None:
    hub.add("org/tiny", tiny_model_path)
    assert fetched(fetch("org/tiny@v1")) == fetched(fetch(f"org/tiny@{COMMIT}"))
    assert "it has no revision v9" in refusal(fetch("org/tiny@v9"))


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_the_hub_the_cache_serves(
    hub: Hub, fetch: Fetch, tiny_model_path: Path, environment: dict[str, str]
) -> None:
    hub.add("org/tiny", tiny_model_path)
    hub.add("org/file", FAMILIES / "qwen3", "model.gguf")
    online = [fetched(fetch(name)) for name in ("org/tiny", "org/file")]
    assert [fetched(fetch(name, **environment)) for name in ("org/tiny", "org/file")] == online


def test_without_the_hub_and_the_cache_a_line_says_so(hub: Hub, fetch: Fetch) -> None:
    assert "unset HF_HUB_OFFLINE" in refusal(fetch("org/tiny", HF_HUB_OFFLINE="1"))
    assert "no connection to http://127.0.0.1:9" in refusal(fetch("org/tiny", HF_ENDPOINT="http://127.0.0.1:9"))


def test_a_cache_that_lacks_the_weights_is_no_model(hub: Hub, fetch: Fetch, tiny_model_path: Path) -> None:
    hub.add("org/tiny", tiny_model_path)
    (fetched(fetch("org/tiny")) / "model.safetensors").unlink()
    line = refusal(fetch("org/tiny", HF_HUB_OFFLINE="1"))
    assert line.startswith("org/tiny: ")
