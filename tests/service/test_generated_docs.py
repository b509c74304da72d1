"""Pages that are written from the code are what the code says now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("file", "page"), [("settings.md", "settings_page"), ("metrics.md", "metrics_page")])
def test_the_page_is_current(generate: ModuleType, file: str, page: str) -> None:
    assert (DOCS / file).read_text(encoding="utf-8") == getattr(generate, page)(), "run: python docs/generate.py"
