"""`fastswitch load`: plays a trace as the settings say and reports on the run."""

import asyncio
import json
import math
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console

from clients.errors import ClientError
from clients.foreign_traces import read_any_trace
from clients.load.chat_stream import ChatStreamTarget
from clients.load.driver import Driver, Rules, Transcript
from clients.load.openai import OpenAITarget
from clients.load.preparation import choose_model, measure_tokens_per_word
from clients.load.progress import Progress
from clients.load.settings import LoadSettings
from clients.load.target import Target, TurnRequest
from clients.load.words import Writer
from clients.protocol import Message
from clients.report import Run, write_run
from clients.reporting.compare.command import PIPE_WIDTH
from clients.reporting.csv_file import write_csv
from clients.reporting.html import write_html
from clients.reporting.slo import parse_slo
from clients.reporting.statistics import summarise
from clients.reporting.terminal import print_summary
from clients.trace import Trace, TraceConversation, TraceError
from clients.workload.generate import arrange, generate

EXIT_INTERRUPTED = 130


def run(settings: LoadSettings) -> int:
    """Run the load test. Return the exit code: 1 if it could not start, 130 if it was interrupted."""
    console = Console(stderr=True, highlight=False)
    try:
        return asyncio.run(_load(settings, console))
    except (ClientError, TraceError, OSError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1


async def _load(settings: LoadSettings, console: Console) -> int:
    _check_folders(settings)
    trace = load_trace(settings)
    with _transcripts(settings.transcripts) as transcript:
        result = await drive(settings, trace, console, transcript)
    _report(result, settings)
    return EXIT_INTERRUPTED if result.interrupted else 0


def _check_folders(settings: LoadSettings) -> None:
    """Raise OSError before the run, not after it, if the folder of a report does not exist."""
    for path in (settings.output, settings.csv, settings.html):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: no such folder")


def _report(result: Run, settings: LoadSettings) -> None:
    """Write the files, the complete JSON one first, and then print. Raises OSError and `ClientError`."""
    if settings.output is not None:
        write_run(result, settings.output)
    if settings.csv is not None:
        write_csv(result, settings.csv)
    summary = summarise(result, None if settings.slo is None else parse_slo(settings.slo))
    if settings.html is not None:
        write_html(summary, settings.html)
    print_summary(summary, Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH))


def load_trace(settings: LoadSettings) -> Trace:
    """Return the trace to play: the file's, or one drawn from the seed. Raises `TraceError`, or OSError."""
    if settings.trace is None:
        return generate(settings)
    trace = read_any_trace(settings.trace)
    if not trace.conversations:
        raise TraceError(f"{settings.trace}: no conversation in it")
    if "conversations" in settings.model_fields_set:
        trace = replace(trace, conversations=trace.conversations[: settings.conversations])
    return arrange(replace(trace, weights={**trace.weights, **settings.weights}), settings)


async def drive(settings: LoadSettings, trace: Trace, console: Console, transcript: Transcript | None = None) -> Run:
    """Play ``trace`` against the server. Raises `ClientError` if the server cannot be reached at the start."""
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    server = OpenAITarget(settings.url, key)
    target = _target(settings, server, key)
    try:
        rules = await _rules(settings, server)
        request = TurnRequest(rules.model, 1, user=f"{rules.run}-calibration")
        writer = Writer(trace, await measure_tokens_per_word(target, Writer(trace), request))
        driver = Driver(trace, target, writer, rules, transcript)
        cpu_s, started_at = time.process_time(), datetime.now(UTC).isoformat(timespec="seconds")
        await _run_with_progress(driver, console)
        return Run(
            target=server.base_url,
            protocol=settings.protocol,
            model=rules.model,
            started_at=started_at,
            duration_s=driver.clock.now(),
            settings=settings.without_secrets,
            records=tuple(sorted(driver.records, key=lambda record: record.scheduled_s)),
            weights=dict(trace.weights),
            interrupted=driver.interrupted,
            saturated_at_s=driver.saturated_at_s,
            client_cpu_s=time.process_time() - cpu_s,
        )
    finally:
        await target.close()
        await server.close()


def _target(settings: LoadSettings, server: OpenAITarget, key: str | None) -> Target:
    if settings.protocol == "sse":
        return server
    return ChatStreamTarget(settings.url, key, "json" if settings.protocol == "websocket-json" else "msgpack")


async def _rules(settings: LoadSettings, server: OpenAITarget) -> Rules:
    model, takes_ignore_eos = await choose_model(server, settings.model)
    ignore_eos = takes_ignore_eos if settings.ignore_eos is None else settings.ignore_eos
    return Rules(
        model=model,
        run=settings.run_name or uuid.uuid4().hex[:8],
        temperature=settings.temperature,
        extra={**({"ignore_eos": True} if ignore_eos else {}), **settings.extra_fields},
        keys={tenant.name: tenant.key.get_secret_value() for tenant in settings.tenants if tenant.key},
        max_concurrency=settings.max_concurrency,
        duration_s=settings.duration or math.inf,
        num_warmups=settings.num_warmups,
        warmup_s=settings.warmup_duration,
        timeout_s=settings.request_timeout,
        stop_on_saturation=settings.stop_on_saturation,
    )


async def _run_with_progress(driver: Driver, console: Console) -> None:
    """Play the trace. The first Ctrl-C ends it early; the second exits without a report, even while it is written."""

    def on_signal() -> None:
        if driver.interrupted:
            os._exit(EXIT_INTERRUPTED)
        driver.interrupt()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    showing = asyncio.create_task(Progress(driver, console).show())
    try:
        await driver.run()
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing


@contextmanager
def _transcripts(path: Path | None) -> Iterator[Transcript | None]:
    """Yield a function that writes conversations to ``path``, None without a path."""
    if path is None:
        yield None
        return
    with path.open("w", encoding="utf-8") as file:
        yield lambda conversation, history: _write_transcript(file, conversation, history)


def _write_transcript(file: TextIO, conversation: TraceConversation, history: list[Message]) -> None:
    json.dump({"id": conversation.id, "messages": history}, file, ensure_ascii=False)
    file.write("\n")
