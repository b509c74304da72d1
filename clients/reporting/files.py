"""A report into a file of the kind that its name's ending says."""

from pathlib import Path

from clients.report import Run, write_run
from clients.reporting.csv_file import write_csv
from clients.reporting.html import write_html
from clients.reporting.slo import Slo
from clients.reporting.statistics import summarise

ENDINGS = (".json", ".csv", ".html")


def write_report(run: Run, path: Path, slo: Slo | None = None) -> None:
    """Write ``.json`` (the whole run), ``.csv`` (a line a turn) or ``.html`` (figures and plots).

    Raises `OSError`, ValueError for another ending, and `PlottingMissingError` where a page needs matplotlib.
    """
    match path.suffix:
        case ".json":
            write_run(run, path)
        case ".csv":
            write_csv(run, path)
        case ".html":
            write_html(summarise(run, slo), path)
        case _:
            raise ValueError(f"{path}: a report's name ends in one of {', '.join(ENDINGS)}")
