"""Comparisons as tables of text."""

from collections.abc import Mapping, Sequence

from clients.report import Run
from clients.reporting.compare.bootstrap import CONFIDENCE, Interval
from clients.reporting.compare.comparison import Change, Comparison, Kind
from clients.reporting.tables import ABSENT, TextTable, milliseconds, number


def comparison_tables(comparisons: Sequence[Comparison]) -> list[TextTable]:
    """Return one table a comparison."""
    return [_table(one) for one in comparisons]


def differing_settings(runs: Mapping[str, Run]) -> TextTable:
    """Return the settings that differ, so that readers notice runs that cannot be compared."""
    known = [
        {"target": run.target, "protocol": run.protocol, "model": run.model, **run.settings} for run in runs.values()
    ]
    names = list(dict.fromkeys(name for settings in known for name in settings))
    rows = [(name, *(str(settings.get(name, ABSENT)) for settings in known)) for name in names]
    differing = tuple(row for row in rows if len(set(row[1:])) > 1)
    return TextTable("Settings that differ", ("", *runs), differing)


def _table(one: Comparison) -> TextTable:
    rows = tuple(_row(change) for change in one.changes)
    columns = ("", one.first, one.name, "change", f"{100 * CONFIDENCE:g} % interval", "")
    return TextTable(f"{one.name} against {one.first}", columns, rows, _note(one))


def _note(one: Comparison) -> str:
    how = "the same conversations, resampled in pairs" if one.paired else "different conversations, resampled apart"
    first, other = one.conversations
    return (
        f"Latencies in ms. Intervals by bootstrap of whole conversations ({first:,} and {other:,}): {how}. They say "
        "what other conversations would show, not what another run would. Better or worse: the interval excludes no "
        "change; each figure is judged alone, so one in twenty looks changed by chance. Rates have no interval."
    )


def _row(change: Change) -> tuple[str, ...]:
    verdict = ("better" if change.better else "worse") if change.significant else ""
    between = _between(change, change.interval) if change.interval else ABSENT
    values = (_value(change, change.first), _value(change, change.value))
    return (change.figure.name, *values, _changed(change), between, verdict)


def _value(change: Change, value: float | None) -> str:
    if value is None:
        return ABSENT
    if change.figure.unit == "s":
        return milliseconds(value)
    return number(value) if change.figure.unit else f"{100 * value:.1f} %"


def _changed(change: Change) -> str:
    if change.change is None:
        return ABSENT
    return f"x{change.change:.3f}" if change.figure.kind is Kind.RATIO else f"{100 * change.change:+.1f} pp"


def _between(change: Change, bounds: Interval) -> str:
    if change.figure.kind is Kind.RATIO:
        return f"{bounds.low:.3f} to {bounds.high:.3f}"
    return f"{100 * bounds.low:+.1f} to {100 * bounds.high:+.1f}"
