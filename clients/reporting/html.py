"""A run's figures and plots as one self-contained page, with the definition of each figure."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from clients.files import replace_file
from clients.reporting.plots import plots
from clients.reporting.statistics import Summary
from clients.reporting.tables import headlines, notices, tables

DEFINITIONS = {  # docs/load_report.md states the same
    "due": "When the workload scheduled the turn. Latencies count from here, however late the client sent it.",
    "measured": "All turns except the warm-up's, from when the first was due to when the last ended.",
    "TTFT": "From when the turn was due to the first piece of its answer; turns with an error are left out.",
    "TBT": "Each gap between two pieces of an answer (an SSE chunk, a token frame), over all turns without an error.",
    "E2E": "From when the turn was due to its end; only turns that ended well.",
    "longest stall": "A turn's longest gap between pieces; max is the run's.",
    "percentile": "NumPy's default, linear between ranks. Marked ~ when fewer than 5 samples are expected above it.",
    "requests/s": "Turns that ended well, over the measured time.",
    "output tokens/s": "Tokens that came, of turns ended well or not, over the measured time; by the server's count, "
    "else one a piece.",
    "goodput": "Turns a second that ended well within the SLO: TTFT at most ttft, and the 99th percentile of the "
    "turn's own gaps at most tbt. The share is of all turns except those that the client ended; an error misses.",
    "service": "1 for a prompt token that was not reused, 2 for a token of the answer, over the tenant's weight.",
    "Jain's index": "(sum x)^2 / (n sum x^2) over the tenants' service: 1 if all are alike, 1/n if one has everything.",
    "while all wanted": "The same, counting only service at times when every tenant had a turn open (due, not ended).",
    "sent late": "From due to sent: how late the client itself was, or how long the turn waited because of "
    "--max-concurrency. It is part of the latencies.",
    "saturated": "When the client saw the server fall behind for good. Later latencies grow with the run's length.",
    "tokens in flight": "Prompt tokens and tokens of the answer so far, of all turns sent and not ended.",
    "as the server reports": "Sums over the turns for which the server reports the figure, in usage and in the chat "
    "stream's done frames.",
}


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
