"""Keys from the command line to a running server, as processes."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from service.api.access.key_ring import parse_ring

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "service.cli"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FASTSWITCH_")}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {**ENVIRONMENT, **environment}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=ROOT, env=whole, check=False)


def make_key(tenant: str, file: Path) -> str:
    """Do what a person does: append the entry, keep the key."""
    made = run("keys", "new", "--name", tenant)
    with file.open("a") as keys:
        keys.write(made.stdout)
    return made.stderr.strip()


@dataclass(frozen=True)
class Running:
    """A server and its two addresses."""

    process: Process
    url: str
    metrics_url: str


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A key file without keys."""
    path = tmp_path / "keys.toml"
    path.write_text("[tenants.ops]\nadmin = true\n")
    return path


@pytest.fixture
async def server(tiny_model_path: Path, file: Path) -> AsyncIterator[Running]:
    """A server with a port for metrics."""
    flags = ["--keys", str(file), "--metrics-port", "0", "--port", "0", "--device-kv", "1MiB", "--max-num-seqs", "4"]
    arguments = [*COMMAND, "serve", "--model", str(tiny_model_path), *flags]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=ENVIRONMENT)
    greeting = (await process.stdout.readuntil(b"stops it")).decode()
    url, metrics = re.search(r"serves tiny at (http://\S+)", greeting), re.search(r"http://\S+/metrics", greeting)
    assert url
    assert metrics
    yield Running(process, url[1], metrics[0])
    if process.returncode is None:
        process.kill()
    await process.communicate()


def test_a_new_key_is_shown_once_and_its_entry_is_ready_to_append(file: Path) -> None:
    keys = [make_key("search", file), make_key("mail-2", file)]
    ring = parse_ring(file.read_text())
    assert [ring.find(key).name for key in keys] == ["search", "mail-2"]
    assert not any(key in file.read_text() for key in keys)


def test_a_bad_name_is_one_line_and_code_2() -> None:
    done = run("keys", "new", "--name", "a b")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_missing_key_file_is_one_line_and_code_2(tmp_path: Path) -> None:
    file = tmp_path / "none.toml"
    done = run("serve", "--keys", str(file))
    assert done.returncode == 2
    assert done.stderr == f"fastswitch: --keys {file}: No such file or directory\n"


def test_a_bad_key_of_the_environment_is_not_quoted() -> None:
    done = run("serve", FASTSWITCH_API_KEYS="secret")
    assert done.returncode == 2
    assert "secret" not in done.stderr


async def test_keys_open_the_door_and_metrics_have_their_own(server: Running, file: Path) -> None:
    url = server.url
    async with aiohttp.ClientSession() as http:
        assert (await http.get(f"{url}/v1/models")).status == 401
        key = await asyncio.to_thread(make_key, "ops", file)
        headers = {"Authorization": f"Bearer {key}"}
        assert (await http.get(f"{url}/v1/models", headers=headers)).status == 200
        assert (await http.get(f"{url}/metrics", headers=headers)).status == 404
        scraped = await http.get(server.metrics_url)
        assert "fastswitch_http_requests_total" in await scraped.text()
        assert (await http.get(server.metrics_url.replace("/metrics", "/v1/models"))).status == 404
    shown = await asyncio.to_thread(run, "status", "--url", url, FASTSWITCH_API_KEY=key)
    assert shown.returncode == 0
    assert "KV memory" in shown.stdout


async def test_the_signal_dumps_stacks_and_the_server_goes_on(server: Running) -> None:
    stderr = server.process.stderr
    server.process.send_signal(signal.SIGUSR1)
    dumped = await stderr.readuntil(b"Current thread") + await stderr.readuntil(b'"task"')
    assert b"engine.py" in dumped  # the engine's thread, waiting
    async with aiohttp.ClientSession() as http:
        assert (await http.get(f"{server.url}/health")).status == 200
