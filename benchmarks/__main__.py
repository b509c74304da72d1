"""Run benchmarks by name, all of them by default."""

import argparse
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from benchmarks import allocator, core, serving
from benchmarks.record import Figures, commit, store

BENCHMARKS: dict[str, Callable[[], Figures]] = {
    "allocator": allocator.measure,
    "core": core.measure,
    "serving": serving.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME", help=", ".join(BENCHMARKS))
    console = Console()
    commit()
    for name in parser.parse_args().names or BENCHMARKS:
        figures = BENCHMARKS[name]()
        table = Table("figure", "value", title=name)
        for figure, value in figures.items():
            table.add_row(figure, f"{value:,.3f}" if isinstance(value, float) else str(value))
        console.print(table)
        console.print(f"stored in {store(name, figures)}")


if __name__ == "__main__":
    main()
