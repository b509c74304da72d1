"""``fastswitch load`` and ``fastswitch workload`` as processes."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from clients.load.command import load_trace
from clients.load.settings import LoadSettings
from clients.trace import Trace, TraceConversation, TraceTurn, write_trace

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("FASTSWITCH_", "OPENAI_"))}
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'


async def start(*arguments: object):
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=ENVIRONMENT)


async def run(*arguments: object) -> tuple[int, str, str]:
    process = await start(*arguments)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_workload_is_written_and_replayed(tmp_path, server):
    path, report, said = tmp_path / "t.jsonl", tmp_path / "r.json", tmp_path / "said.jsonl"
    code, out, err = await run("workload", "--out", path, "--conversations", 2, "--tenant", "a:weight=2,share=1")
    assert (code, err) == (0, "")
    assert str(path) in out
    for text in ("measured", "measured", "one", "two"):
        server.says(text)
    flags = ("--trace", path, "--output", report, "--transcripts", said)
    code, _, err = await run("load", "--url", server.url, *flags)
    assert code == 0, err
    result = json.loads(report.read_text())
    assert result["run"]["weights"] == {"a": 2.0}
    assert [record["outcome"] for record in result["run"]["records"]] == ["ok", "ok"]
    answers = {json.loads(line)["messages"][1]["content"] for line in said.read_text().splitlines()}
    assert answers == {"one", "two"}


async def test_an_interrupt_still_writes_the_report(tmp_path, server):
    server.says("measured")
    server.says("measured")
    server.sends(CHUNK, hang=True)
    report = tmp_path / "r.json"
    process = await start("load", "--url", server.url, "--conversations", 1, "--output", report)
    await server.hangs.wait()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130, err.decode()
    result = json.loads(report.read_text())["run"]
    assert result["interrupted"]
    (record,) = result["records"]
    assert (record["outcome"], record["error"]) == ("cancelled", "interrupted")


async def test_a_second_interrupt_ends_at_once(tmp_path, chat_server):
    """The first one waits for the server to confirm the cancel, which it never does."""
    chat_server.confirms = False
    chat_server.says("measured")
    chat_server.says("measured")
    chat_server.begins("Once")
    report = tmp_path / "r.json"
    flags = ("--protocol", "websocket-json", "--model", "tiny", "--conversations", 1, "--output", report)
    process = await start("load", "--url", chat_server.url, *flags)
    await chat_server.begun.wait()
    process.send_signal(signal.SIGINT)
    await chat_server.cancelled.wait()
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130
    assert not report.exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--turns", "many"), "--turns"),
        (("--users", 2, "--request-rate", 1), "exclude"),
        (("--extra-body", "[]"), "--extra-body"),
        (("--trace", "t.jsonl", "--turns", 2), "--turns has no effect"),
        (("--slo", "fast"), "--slo"),
        (("--protocol", "carrier-pigeon"), "--protocol"),
    ],
)
async def test_flags_that_make_no_sense_are_one_line_and_code_2(flags, complaint):
    code, out, err = await run("load", *flags)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert complaint in line


async def test_a_server_that_is_not_there_is_one_line_and_code_1(closed_url, tmp_path):
    code, out, err = await run("load", "--url", closed_url, "--output", tmp_path / "r.json")
    assert (code, out) == (1, "")
    assert err.splitlines() == [f"no server at {closed_url}"]
    assert not (tmp_path / "r.json").exists()


async def test_a_trace_that_is_not_there_is_one_line_and_code_1(closed_url):
    code, _, err = await run("load", "--url", closed_url, "--trace", "/does/not/exist")
    assert code == 1
    assert "/does/not/exist" in err


async def test_a_trace_without_conversations_is_one_line_and_code_1(closed_url, tmp_path):
    write_trace(Trace(()), tmp_path / "t.jsonl")
    code, _, err = await run("load", "--url", closed_url, "--trace", tmp_path / "t.jsonl", "--request-rate", 1)
    assert (code, err.splitlines()) == (1, [f"{tmp_path / 't.jsonl'}: no conversation in it"])


def test_a_trace_is_limited_to_the_first_conversations_and_takes_weights(tmp_path):
    path = tmp_path / "t.jsonl"
    turns = (TraceTurn(1, 1),)
    write_trace(
        Trace(tuple(TraceConversation(f"c{n}", float(n), turns, "a") for n in range(5)), weights={"a": 1.0}), path
    )
    trace = load_trace(LoadSettings(trace=path, conversations=2, tenant=["a:weight=3"]))
    assert [each.id for each in trace.conversations] == ["c0", "c1"]
    assert trace.weights == {"a": 3.0}
    assert len(load_trace(LoadSettings(trace=path)).conversations) == 5
