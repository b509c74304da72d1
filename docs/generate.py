"""``python docs/generate.py`` writes docs/{settings,metrics,api,wire}.md from the code. A test keeps them current."""

from collections.abc import Iterable
from pathlib import Path

from prometheus_client import Metric
from pydantic_core import PydanticUndefined
from wire_page import wire_page

from service.api.errors import STATUS_AND_TYPE
from service.api.openapi import Operation
from service.api.routes import OPERATIONS
from service.config import ENV_PREFIX, ServeSettings
from service.errors import RequestError
from service.telemetry.metrics import Metrics

DOCS = Path(__file__).parent

SETTINGS_HEAD = f"""\
# Settings of `fastswitch serve`

Each setting is a flag, an environment variable with the prefix `{ENV_PREFIX}`, and a key of the TOML file that
`--config` (or `{ENV_PREFIX}CONFIG`) names. Flags take precedence over the environment, the environment over the file,
and the file over the defaults. An unknown flag or key, or a value out of range, is an error: one line, exit code 2.

`fastswitch serve MODEL` is the same as `--model MODEL`: [models.md](models.md).

In Kubernetes set `enableServiceLinks: false`; otherwise a service called `fastswitch` sets `{ENV_PREFIX}PORT` to an
address.

This file is written by `python docs/generate.py`.

| Flag | Variable | TOML key | Default | What it is |
|---|---|---|---|---|
"""

METRICS_HEAD = """\
# Metrics

`GET /metrics` answers in Prometheus' text format. Histograms also have `_bucket`, `_sum` and `_count`. No label
holds what a user wrote.

This file is written by `python docs/generate.py`.

| Name | Type | Labels | What it is |
|---|---|---|---|
"""


API_HEAD = """\
# HTTP API

`GET /openapi.json` describes every field, answer and error in OpenAPI 3.1. Fields are OpenAI's, and vLLM's where OpenAI
has none. An unknown field is ignored; an unsupported one that would change the answer is refused. If a request leaves
out `temperature`, `top_p`, `top_k`, `min_p` or `repetition_penalty`, it gets what the model's `generation_config.json`
says, as with vLLM, or else what is known to suit the model. The same holds for `max_tokens` and for
`repetition_detection`, which ends an answer that repeats itself, with the finish reason `repetition`; `ignore_eos`
turns it off where a request does not ask for it. The bundled model gets temperature 0.2, top_p 0.9, repetition_penalty
1.1, frequency_penalty 0.2, at most 1,024 tokens, and ends with four times the same 8 to 256 tokens.
`--generation-config vllm` turns all of that off. Every answer has an `X-Request-Id`, which is the client's own if that
is fit for a log; errors and log lines have it too.

A request that waits for its first step is queued. A full queue (`--max-num-queued-reqs`, `--max-num-queued-tokens`) is
429, and a wait longer than `--queue-timeout` 503 with `queue_timeout`, in a stream that has begun an error event. (The
limits have vLLM's names; vLLM counts requests and prompts in their first steps too, and answers 503.) Their
`Retry-After` is how long the queue took lately for what must start first, from 1 to 60 s; 5 s before anything that
waited has started. A streamed answer that waits gets a comment line each second near the front of the queue, less
often far from it, which clients of OpenAI skip:
`: queued position=3 reason=room estimate=4s`. The position is that in the order of arrival, the reason what those that
wait lack (`slot`: the batch is full; `room`: KV memory), and the estimate supposes that requests go on to start as
quickly as the last 32 that had to wait; what is not known is left out. Other policies than `fcfs` may serve a request
earlier or later.

While the model loads and while the server drains, `/health` is 200 and `/ready` is 503; other requests get 503 with
`Retry-After`. `/health` is 503 once the engine has failed, and while a step takes longer than `--hang-timeout`. The
first SIGTERM or SIGINT starts the drain: answers under way have `--drain-timeout` seconds, then end with the error
`shutting_down`. The second signal ends the process at once, with exit code 128 plus the signal's number.

`GET /v1/chat/stream` is the WebSocket of [wire.md](wire.md), `GET /` the chat page.

This file is written by `python docs/generate.py`.

| Route | What it does | Body | Answer | Errors |
|---|---|---|---|---|
"""

ERRORS_HEAD = """
| Error code | Status | Type | When |
|---|---|---|---|
"""


def settings_page() -> str:
    """Return the page of settings."""
    return SETTINGS_HEAD + "".join(_setting_line(name) for name in ServeSettings.model_fields)


def all_metrics() -> Metrics:
    """Return every metric with a sample, because only samples show labels."""
    metrics = Metrics()
    metrics.http_answered("/health", "GET", 200)
    metrics.device.show_device("cpu", "x86_64", "float32")
    metrics.tenants.meter("name")
    metrics.tenants.preempted("name", "reason")
    metrics.tenants.limited("name", "code")
    return metrics


def metrics_page() -> str:
    """Return the catalogue of metrics."""
    metrics = all_metrics()
    return METRICS_HEAD + "".join(_metric_line(metric) for metric in metrics.registry.collect())


def api_page() -> str:
    """Return the page of routes and errors."""
    named = {error for operation in OPERATIONS for error in operation.errors}
    errors = sorted(named, key=lambda error: (STATUS_AND_TYPE[error.code], error.code))
    return "".join([API_HEAD, *map(_route_line, OPERATIONS), ERRORS_HEAD, *map(_error_line, errors)])


def _route_line(operation: Operation) -> str:
    names = (_type_name(kind) for kind in (operation.body, operation.answer))
    unavailable = set() if operation.unavailable is None else {503}
    statuses = sorted({int(STATUS_AND_TYPE[error.code][0]) for error in operation.errors} | unavailable)
    what = (operation.handler.__doc__ or "").partition("\n")[0]
    route = f"{operation.method} {operation.path.partition(':')[0]}{'}' if ':' in operation.path else ''}"
    return _row(f"`{route}`", what, *names, ", ".join(map(str, statuses)))


def _type_name(kind: type | None) -> str:
    return "" if kind is None else f"`{kind.__name__}`"


def _error_line(error: type[RequestError]) -> str:
    status, kind = STATUS_AND_TYPE[error.code]
    return _row(f"`{error.code}`", str(int(status)), f"`{kind}`", (error.__doc__ or "").partition("\n")[0])


def _setting_line(name: str) -> str:
    field = ServeSettings.model_fields[name]
    default = "" if field.default in (None, (), PydanticUndefined) else f"`{field.default}`"
    flag = f"--{name.replace('_', '-')}"
    return _row(f"`{flag}`", f"`{ENV_PREFIX}{name.upper()}`", f"`{name}`", default, field.description or "")


def _metric_line(metric: Metric) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    labels = sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
    return _row(f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in labels), metric.documentation)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def write(pages: Iterable[tuple[str, str]]) -> None:
    """Write pages into the folder docs."""
    for name, text in pages:
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    pages = {"settings": settings_page, "metrics": metrics_page, "api": api_page, "wire": wire_page}
    write((f"{name}.md", page()) for name, page in pages.items())
