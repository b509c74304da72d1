"""A run's figures and plots as one page that needs nothing else."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from clients.files import replace_file
from clients.reporting.definitions import DEFINITIONS
from clients.reporting.plots import plots
from clients.reporting.statistics import Summary
from clients.reporting.tables import headlines, notices, tables


def write_html(summary: Summary, path: Path) -> None:
    """Write the page, whole or not at all. Raises `PlottingMissingError` and `OSError`."""
    replace_file(path, page(summary).encode())


def page(summary: Summary) -> str:
    """Return the page. Raises `PlottingMissingError`."""
    run = summary.run
    return render(
        title=f"Load test of {run.model}",
        subtitle=f"{run.target} · {run.protocol} · {run.started_at}",
        notices=notices(summary),
        headlines=headlines(summary),
        plots=plots(summary),
        tables=tables(summary),
        settings=run.settings,
    )


def render(**content: object) -> str:
    """Fill the template; whatever a user wrote is escaped."""
    environment = Environment(
        loader=PackageLoader("clients.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(definitions=DEFINITIONS, **content)
