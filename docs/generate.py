"""Writes docs/settings.md and docs/metrics.md from the code: ``python docs/generate.py``. A test keeps them current."""

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Metric
from pydantic_core import PydanticUndefined

from service.config import ENV_PREFIX, ServeSettings
from service.metrics import Metrics

DOCS = Path(__file__).parent

SETTINGS_HEAD = f"""\
# Settings of `fastswitch serve`

Each setting is a flag, an environment variable with the prefix `{ENV_PREFIX}`, and a key of the TOML file that
`--config` (or `{ENV_PREFIX}CONFIG`) names. A flag wins over the environment, the environment over the file, the file
over the default. An unknown flag or key is an error, and so is a value out of range: one line, exit code 2.

In Kubernetes set `enableServiceLinks: false`: a service called `fastswitch` would otherwise set `{ENV_PREFIX}PORT` to
an address.

This file is written by `python docs/generate.py`.

| Flag | Variable | TOML key | Default | What it is |
|---|---|---|---|---|
"""

METRICS_HEAD = """\
# Metrics

`GET /metrics` answers in Prometheus' text format. Histograms also have `_bucket`, `_sum` and `_count`. No label ever
holds what a user wrote.

This file is written by `python docs/generate.py`.

| Name | Type | Labels | What it is |
|---|---|---|---|
"""


def settings_page() -> str:
    """The table of settings."""
    return SETTINGS_HEAD + "".join(_setting_line(name) for name in ServeSettings.model_fields)


def metrics_page() -> str:
    """The catalogue of metrics."""
    metrics = Metrics()
    metrics.http_answered("/health", "GET", 200)  # labels show in samples only
    metrics.tenants.meter("name")
    metrics.tenants.limited("name", "code")
    return METRICS_HEAD + "".join(_metric_line(metric) for metric in metrics.registry.collect())


def _setting_line(name: str) -> str:
    field = ServeSettings.model_fields[name]
    default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
    flag = f"--{name.replace('_', '-')}"
    return _row(f"`{flag}`", f"`{ENV_PREFIX}{name.upper()}`", f"`{name}`", default, field.description or "")


def _metric_line(metric: Metric) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    labels = sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
    return _row(f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in labels), metric.documentation)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def write(pages: Iterable[tuple[str, str]]) -> None:
    """Put pages where they belong."""
    for name, text in pages:
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write([("settings.md", settings_page()), ("metrics.md", metrics_page())])
