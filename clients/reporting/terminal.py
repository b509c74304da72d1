"""Prints a run's figures on a terminal."""

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients.reporting.statistics import Summary
from clients.reporting.tables import TextTable, notices, tables


def print_summary(summary: Summary, console: Console) -> None:
    """Print all tables of ``summary``."""
    for notice in notices(summary):
        console.print(Text(notice, style="yellow"))
    print_tables(tables(summary), console)


def print_tables(made: Iterable[TextTable], console: Console) -> None:
    """Print the tables that have lines."""
    for table in made:
        if table.rows:
            console.print(_rich(table))
            console.print(Text(f"{table.note}\n" if table.note else "", style="dim"))


def _rich(table: TextTable) -> Table:
    made = Table(
        title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=table.headed
    )
    for index, column in enumerate(table.columns):
        made.add_column(
            column, justify="right" if index and table.headed else "left", no_wrap=not index, overflow="fold"
        )
    for row in table.rows:
        made.add_row(*(Text(cell) for cell in row))
    return made
