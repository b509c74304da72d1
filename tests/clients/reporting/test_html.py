"""The page is complete, self-contained, small, and safe against what users write."""

import builtins
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from clients.report import Outcome, Run, TurnRecord
from clients.reporting.figure import PlottingMissingError
from clients.reporting.html import page, write_html
from clients.reporting.slo import Slo
from clients.reporting.statistics import summarise

RunMaker = Callable[..., Run]
TurnMaker = Callable[..., TurnRecord]

PLOTS = {"cdf-ttft", "cdf-tbt", "cdf-e2e", "ttft-over-time", "service", "in-flight"}
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Parses a page, and fails if an element is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def text(synthetic: RunMaker) -> str:
    return page(summarise(synthetic(), Slo(0.5, 0.1)))


def test_the_page_has_every_plot_with_something_drawn(text: str) -> None:
    assert set(Page(text).ids) >= PLOTS
    for name in PLOTS:
        (svg,) = re.findall(rf'<figure id="{name}">.*?(<svg.*?</svg>)', text, re.DOTALL)
        assert "var(--series-0)" in svg, name


def test_the_page_fetches_nothing(text: str) -> None:
    found = Page(text)
    links = [value for _, name, value in found.attributes if name in {"href", "src", "xlink:href", "srcset", "data"}]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not {tag for tag, _, _ in found.attributes} & {"script", "link", "iframe", "img", "object"}
    assert not re.search(r"@import|url\((?!#)", text)


def test_what_is_referred_to_is_there_once(text: str) -> None:
    ids = Page(text).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text)) <= set(ids)


def test_the_page_is_written_to_its_file(synthetic: RunMaker, text: str, tmp_path: Path) -> None:
    write_html(summarise(synthetic(), Slo(0.5, 0.1)), tmp_path / "run.html")
    assert (tmp_path / "run.html").read_text(encoding="utf-8") == text


def test_a_long_run_makes_no_long_page(synthetic: RunMaker) -> None:
    summary = summarise(synthetic(conversations=1500, turns=4))
    assert summary.turns > 5000
    assert len(page(summary).encode()) < 1_000_000


def test_the_same_run_makes_the_same_page(synthetic: RunMaker, text: str) -> None:
    assert page(summarise(synthetic(), Slo(0.5, 0.1))) == text


def test_names_are_shown_and_not_obeyed(turn: TurnMaker, run_of: RunMaker) -> None:
    evil = '_<script>alert("1")</script>$\\frac{1$ & %s {{ 1 }}'
    turns = turn([1.0, 2.0], tenant=evil), turn([1.5, 2.0], tenant="b"), turn(outcome=Outcome.ERROR, error=evil)
    found = Page(page(summarise(run_of(*turns, model=evil, target=evil, settings={evil: evil}))))
    assert "script" not in {tag for tag, _, _ in found.attributes}
    assert found.words.count(evil) >= 5


@pytest.mark.parametrize("records", [[], [{}], [{"pieces": [0.0]}], [{"pieces": [1.0]}], [{"outcome": Outcome.ERROR}]])
def test_a_run_with_hardly_anything_still_has_a_page(
    turn: TurnMaker, run_of: RunMaker, records: list[dict[str, Any]]
) -> None:
    run = run_of(*(turn(**fields) for fields in records), interrupted=True, saturated_at_s=0.5)
    assert "interrupted" in Page(page(summarise(run, Slo(0.5, 0.1)))).words


def test_without_matplotlib_the_error_says_what_to_install(
    synthetic: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PlottingMissingError, match=r"fastswitch\[load\]"):
        page(summarise(synthetic(conversations=12)))
