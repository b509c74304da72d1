"""Compiled code is loaded before the server is ready, not while a step waits for the first copy."""

from pathlib import Path

from service.cli.serve import build
from service.config import parse
from service.execution import copier


def test_the_loop_of_copies_by_layer_has_run_before_the_first_copy(tiny_model_path: Path, monkeypatch):
    called = []
    monkeypatch.setattr(copier, "copy_by_layer", lambda *arguments: called.append(arguments) or 0)
    build(parse(["--model", str(tiny_model_path), "--preset", "vllm-0.3.3", "--device-kv", "512KiB"]))
    ((source, _, _, _, num_blocks),) = called
    assert (source.ndim, num_blocks) == (6, 0)
