"""The pages that are written from the code are current."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)  # as if it were run from there
        return importlib.import_module("generate")


@pytest.mark.parametrize("page", ["settings", "metrics", "api", "wire"])
def test_the_page_is_current(generate: ModuleType, page: str) -> None:
    written = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert written == getattr(generate, f"{page}_page")(), "run: python docs/generate.py"
