"""The command as a process: exit codes, one-line errors, start, shutdown."""

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import psutil
import pytest

from clients.trace import read_trace
from service.api.context import MODEL
from service.cli import wiring
from service.cli.serve import build, greeting
from service.config import parse
from service.execution.models.loading import open_model
from service.execution.serving_device import ServingDevice
from tests.complaints import complaint as said

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "service.cli"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FASTSWITCH_")}
SMALL = ("--device-kv", "1MiB", "--max-num-seqs", "4")

Start = Callable[..., Awaitable[tuple[Process, str]]]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        check=False,
    )


@pytest.fixture
async def start(tiny_model_path: Path) -> AsyncIterator[Start]:
    """Starts servers of the tiny model and waits until they say that they serve."""
    processes: list[Process] = []

    async def start_server(*flags: str) -> tuple[Process, str]:
        arguments = [*COMMAND, "serve", "--model", str(tiny_model_path), "--port", "0", *SMALL, *flags]
        process = await asyncio.create_subprocess_exec(*arguments, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=ENVIRONMENT)
        processes.append(process)
        line = (await process.stdout.readline()).decode()
        found = re.search(r"serves tiny at (http://\S+)", line)
        assert found, line + (await process.stderr.read()).decode()
        return process, found[1]

    yield start_server
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def test_the_version_is_printed():
    result = run("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("fastswitch ")


def test_the_command_alone_says_what_to_do_next():
    result = run()
    assert result.returncode == 0
    assert all(f"fastswitch {command}" in result.stdout for command in ("serve", "serve Qwen/Qwen3-0.6B", "chat"))


def test_help_lists_the_commands():
    assert {"serve", "chat"} <= set(run("--help").stdout.split())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("sing",), "sing"),
        (("serve", "--prot", "1"), "--prot"),
        (("serve", "--port", "x"), "--port"),
        (("serve", "--host", "0.0.0.0"), "--allow-anonymous"),
        (("serve", "--config", "/does/not/exist.toml"), "exist.toml"),
        (
            ("serve", "--host", "127.0.0.1", "--model", "/does/not/exist.gguf", "--port", "0"),
            "gguf: no such file",
        ),
        (("serve", "--host", "192.0.2.1", "--allow-anonymous", "--port", "0"), "--host is an address of this machine"),
        (("serve", "a.gguf", "--model", "b.gguf"), "given twice: a.gguf and --model b.gguf"),
        (
            ("serve", "--port", "0", "--record-trace", "/does/not/exist/t.jsonl"),
            "t.jsonl: No such file",
        ),
        (("chat", "--max-tokens", "0"), "--max-tokens"),
    ],
)
def test_what_cannot_start_is_one_line_and_code_2(arguments, complaint):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    line = said(result.stderr)
    assert complaint in line
    assert line.startswith("fastswitch")


def test_a_port_in_use_is_reported_before_a_model_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port), "--model", "/does/not/exist.gguf")
    assert result.returncode == 2
    assert f"port {port}: Address already in use; stop what listens there, or choose" in result.stderr


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--device-kv", "16"), "--device-kv 16 bytes is too small"),
        (("--max-model-len", "1000000"), "--max-model-len 1000000"),
    ],
)
def test_settings_that_the_model_does_not_fit_are_one_line(tiny_model_path, flags, complaint):
    result = run("serve", "--model", str(tiny_model_path), "--port", "0", *flags)
    assert result.returncode == 2
    assert complaint in said(result.stderr)


def wanting(model: Path, directory: Path, temperature: float) -> Path:
    """The model with a generation_config.json of this content."""
    copy = Path(shutil.copytree(model, directory / "model"))
    (copy / "generation_config.json").write_text(json.dumps({"temperature": temperature}))
    return copy


@pytest.mark.parametrize(
    ("flags", "expected"), [((), {"temperature": 0.5}), (("--generation-config", "vllm"), {})], ids=["auto", "vllm"]
)
def test_the_models_authors_say_how_to_sample_unless_a_flag_differs(tiny_model_path, tmp_path, flags, expected):
    model = wanting(tiny_model_path, tmp_path, 0.5)
    app = build(parse(["--model", str(model), "--device", "cpu", *SMALL, *flags]))
    assert app[MODEL].defaults.sampling == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), (0.2, 1024, True)),
        (("--generation-config", "vllm"), (None, None, False)),
        (("--default-max-tokens", "9", "--repetition-detection", "off"), (0.2, 9, False)),
        (("--generation-config", "vllm", "--repetition-detection", "on"), (None, None, True)),
    ],
)
def test_the_bundled_model_answers_well_by_itself(flags, expected):
    found = wiring.defaults(parse([*flags]), open_model())
    assert (found.sampling.get("temperature"), found.max_tokens, found.repetition_detection is not None) == expected


def test_authors_who_want_what_is_not_possible_are_one_line(tiny_model_path, tmp_path):
    result = run("serve", "--port", "0", "--model", str(wanting(tiny_model_path, tmp_path, -1)))
    assert result.returncode == 2
    line = said(result.stderr)
    assert "generation_config.json: temperature: Input should be greater than or equal to 0" in line


async def test_a_server_answers_and_ends_on_sigterm(start):
    process, url = await start("--threads", "1")
    async with aiohttp.ClientSession(url) as http:
        assert (await http.get("/ready")).status == 200
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        response = await http.post("/v1/chat/completions", json=body)
        assert response.status == 200
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    assert process.returncode == 0
    assert f"{url}/v1/chat/completions" in out.decode()
    assert all(json.loads(line) for line in err.decode().splitlines())


def test_a_terminal_sees_what_a_start_does_and_no_json(tiny_model_path):
    terminal, end = pty.openpty()
    command = [*COMMAND, "serve", str(tiny_model_path), "--port", "0", *SMALL]
    environment = ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=end, stderr=end, cwd=ROOT, env=environment) as process:
        os.close(end)
        shown = b""
        with suppress(OSError):  # what Linux raises when the other end is closed
            while b"Ctrl-C stops it" not in shown:
                shown += os.read(terminal, 65536)
            process.send_signal(signal.SIGTERM)
            while more := os.read(terminal, 65536):
                shown += more
    os.close(terminal)
    assert process.returncode == 0
    before, _, after = shown.decode().partition("FastSwitch serves tiny at")
    assert "loading the program" in before
    assert re.search(r"\[.*info.*\] .*draining", after)
    assert b'{"' not in shown
    assert b"\x1b[?25l" not in shown  # a signal would leave the cursor hidden


async def test_what_came_in_is_recorded_without_its_text(start, tmp_path):
    path = tmp_path / "trace.jsonl"
    process, url = await start("--record-trace", str(path))
    messages = [{"role": "user", "content": "Xylophone"}]
    async with aiohttp.ClientSession(url) as http:
        for question in ("Yesterday", "Zeppelin"):
            body = {"messages": messages, "max_tokens": 4, "ignore_eos": True, "user": "ann"}
            answer = await (await http.post("/v1/chat/completions", json=body)).json()
            messages += [answer["choices"][0]["message"], {"role": "user", "content": question}]
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    (conversation,) = read_trace(path).conversations
    assert [turn.max_tokens for turn in conversation.turns] == [4, 4]
    assert not any(word in path.read_text() for word in ("Xylo", "Yester", "ann"))


async def test_a_running_answer_is_finished_before_the_end(start):
    process, url = await start("--drain-timeout", "60")
    async with aiohttp.ClientSession(url) as http:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 200, "stream": True, "ignore_eos": True}
        response = await http.post("/v1/chat/completions", json=body)
        process.send_signal(signal.SIGTERM)
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
    await process.communicate()
    assert process.returncode == 0


ENDLESS = {"messages": [{"role": "user", "content": "Hi"}], "n": 8, "stream": True, "ignore_eos": True}


async def test_after_the_drain_time_running_answers_end_with_an_error(start):
    process, url = await start("--drain-timeout", "0", "--device-kv", "8MiB")
    async with aiohttp.ClientSession(url) as http:
        response = await http.post("/v1/chat/completions", json=ENDLESS)
        process.send_signal(signal.SIGTERM)
        events = [line for line in (await response.read()).splitlines() if line]
    assert b"shutting_down" in events[-1]
    await process.communicate()
    assert process.returncode == 0


async def test_a_second_signal_ends_the_process_at_once(start):
    process, url = await start("--drain-timeout", "600", "--device-kv", "8MiB")
    async with aiohttp.ClientSession(url) as http:
        response = await http.post("/v1/chat/completions", json=ENDLESS)
        process.send_signal(signal.SIGTERM)
        while b"draining" not in await process.stderr.readline():
            assert not process.stderr.at_eof()
        process.send_signal(signal.SIGINT)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    await process.communicate()
    assert process.returncode == 128 + signal.SIGINT


async def test_a_server_that_still_loads_ends_at_once(tmp_path):
    os.mkfifo(tmp_path / "config.json")  # nothing ever writes to it, so the loader waits
    arguments = [*COMMAND, "serve", "--model", str(tmp_path), "--port", "0"]
    process = await asyncio.create_subprocess_exec(*arguments, stderr=PIPE, cwd=ROOT, env=ENVIRONMENT)
    while not (listening := psutil.Process(process.pid).net_connections("tcp")):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listening[0].laddr.port}") as http:
        assert (await (await http.get("/ready")).json())["status"] == "loading"
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("host", "port", "url", "chat"),
    [
        ("127.0.0.1", 8000, "http://127.0.0.1:8000", "fastswitch chat\n"),
        ("0.0.0.0", 80, "http://127.0.0.1:80", "chat --url http://127.0.0.1:80\n"),
        ("::1", 8000, "http://[::1]:8000", "chat --url http://[::1]:8000\n"),
    ],
)
def test_the_greeting_says_where_and_how(host, port, url, chat):
    text = greeting("m", ServingDevice("cuda:0", "NVIDIA H100", "bfloat16"), host, port, 1.0)
    assert f"serves m at {url} on cuda:0 (NVIDIA H100, bfloat16); started in 1.0 s\n" in text
    assert chat in text
