"""docs/load_report.md says what the code does."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from clients.report import Run, TurnRecord
from clients.reporting.csv_file import MEASURED
from clients.reporting.html import DEFINITIONS

TEXT = (Path(__file__).parents[3] / "docs" / "load_report.md").read_text()
NAMED = set(re.findall(r"`([a-z0-9_]+)`", TEXT))


@pytest.mark.parametrize("figure", DEFINITIONS)
def test_every_figure_is_defined_as_on_the_page(figure: str) -> None:
    assert f"| {figure} | {DEFINITIONS[figure]} |" in TEXT.splitlines()


def test_every_field_and_column_is_described() -> None:
    assert {field.name for kind in (Run, TurnRecord) for field in fields(kind)} | set(MEASURED) <= NAMED
