"""Comparisons as tables of text."""

from collections.abc import Mapping, Sequence

from clients.report import Run
from clients.reporting.bootstrap import CONFIDENCE
from clients.reporting.compare import Change, Comparison, Kind
from clients.reporting.tables import ABSENT, TextTable, milliseconds, number


def comparison_tables(comparisons: Sequence[Comparison]) -> list[TextTable]:
    """One table a comparison."""
    return [_table(one) for one in comparisons]


def differing_settings(runs: Mapping[str, Run]) -> TextTable:
    """What was set differently, so that nobody compares what cannot be compared."""
    known = [
        {"target": run.target, "protocol": run.protocol, "model": run.model, **run.settings} for run in runs.values()
    ]
    names = list(dict.fromkeys(name for settings in known for name in settings))
    rows = [(name, *(str(settings.get(name, ABSENT)) for settings in known)) for name in names]
    differing = tuple(row for row in rows if len(set(row[1:])) > 1)
    return TextTable("Settings that differ", ("", *runs), differing)


def _table(of: Comparison) -> TextTable:
    rows = tuple(_row(change) for change in of.changes)
    columns = ("", of.first, of.name, "change", f"{100 * CONFIDENCE:g} % interval", "")
    return TextTable(f"{of.name} against {of.first}", columns, rows, _note(of))


def _note(of: Comparison) -> str:
    how = "the same conversations, resampled in pairs" if of.paired else "different conversations, resampled apart"
    return (
        f"Intervals by bootstrap of whole conversations ({of.conversations[0]:,} and {of.conversations[1]:,}): {how}. "
        "They tell what other conversations would give, not what another run would. Better or worse: the interval "
        "excludes no change; each figure is judged alone, so one in twenty looks changed by chance. Rates: one window a run, so no interval."
    )


def _row(change: Change) -> tuple[str, ...]:
    verdict = ("better" if change.better else "worse") if change.significant else ""
    name = change.figure.name + (", ms" if change.figure.unit == "s" else "")
    bounds = (change.interval.low, change.interval.high) if change.interval else ()
    between = " to ".join(_changed(change, bound) for bound in bounds) or ABSENT
    return (
        name,
        _value(change, change.first),
        _value(change, change.value),
        _changed(change, change.change),
        between,
        verdict,
    )


def _value(change: Change, value: float | None) -> str:
    if value is None:
        return ABSENT
    if change.figure.unit == "s":
        return milliseconds(value)
    return number(value) if change.figure.unit else f"{100 * value:.1f} %"


def _changed(change: Change, value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"x{value:.3f}" if change.figure.kind is Kind.RATIO else f"{100 * value:+.1f} pp"
