"""PTX that was compiled once is found again, until anything that it depends on has changed."""

from pathlib import Path

import pytest

from kernels.cuda import logits, ptx_cache
from kernels.cuda.kernel import Kernel


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the kernels that were compiled."""
    names = []

    def to_ptx(kernel: Kernel, architecture: tuple[int, int]) -> str:
        names.append(kernel.name)
        return f"{kernel.name} for {architecture}"

    monkeypatch.setattr(ptx_cache, "to_ptx", to_ptx)
    return names


def test_a_kernel_is_compiled_once_for_an_architecture(tmp_path: Path, compiled: list[str]) -> None:
    for architecture in ((8, 0), (9, 0), (9, 0)):
        text = ptx_cache.cached_ptx(logits.penalize(), architecture, tmp_path / "ptx")
        assert text == f"penalize for {architecture}"
    assert compiled == ["penalize", "penalize"]
    assert len(list((tmp_path / "ptx").iterdir())) == 2


def test_other_sources_are_compiled_anew(tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for fingerprint in ("old", "new"):
        monkeypatch.setattr(ptx_cache, "fingerprint", lambda fingerprint=fingerprint: fingerprint)
        ptx_cache.cached_ptx(logits.penalize(), (9, 0), tmp_path)
    assert compiled == ["penalize", "penalize"]


def test_a_folder_that_cannot_be_written_to_only_costs_time(tmp_path: Path, compiled: list[str]) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert ptx_cache.cached_ptx(logits.penalize(), (9, 0), tmp_path / "file" / "ptx")
    assert compiled == ["penalize", "penalize"]
