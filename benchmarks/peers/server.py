"""Start any OpenAI-compatible server by a command, in a session of its own, and end all of it."""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from benchmarks.peers.client import ChatClient, RequestFailedError
from benchmarks.server import free_port

START_S = 900.0  # vLLM compiles at its first start
STOP_S = 60.0
LOADING = 503  # what servers say until their model is there
LOG_LINES = 20
QUESTION = "What is the sea?"


class ServerFailedError(Exception):
    """A server ended, or answered nothing in time; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class PeerServer:
    """A server that answers. ``start_s``: from spawn to its first answer, ``opening``, to a short question."""

    client: ChatClient
    process: psutil.Process
    start_s: float
    opening: str

    def rss_mb(self) -> float:
        """Return the resident memory of all its processes in MB; pages that several share count in each."""
        return sum(process.memory_info().rss for process in self._processes()) / 1e6

    def cpu_s(self) -> float:
        """Return the CPU time that its processes have taken."""
        return sum(cpu_s_of(process) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def cpu_s_of(process: psutil.Process) -> float:
    """Return the CPU time that a process has taken."""
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def running(command: str, model: Path) -> AsyncIterator[PeerServer]:
    """Start a command, in which ``{port}``, ``{model}`` and ``{python}`` are filled in, and end it after the block.

    Raises `ServerFailedError`, and OSError if there is no such program.
    """
    port = free_port()
    words = _filled(command, {"{port}": str(port), "{model}": str(model), "{python}": sys.executable})
    clock = asyncio.get_running_loop().time
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        began = clock()
        process = await asyncio.create_subprocess_exec(
            *words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            async with ChatClient(f"http://127.0.0.1:{port}") as client:
                opening = await _first_answer(client, process, Path(log.name))
                yield PeerServer(client, psutil.Process(process.pid), clock() - began, opening)
        finally:
            await _end(process)


def _filled(command: str, values: Mapping[str, str]) -> list[str]:
    """Return the words of a command. A value may have blanks, and is one word or a part of one."""
    words = shlex.split(command)
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


async def _first_answer(client: ChatClient, process: asyncio.subprocess.Process, log: Path) -> str:
    try:
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                with suppress(aiohttp.ClientConnectionError):
                    try:
                        return (await client.ask([{"role": "user", "content": QUESTION}], 16, "first")).text
                    except RequestFailedError as error:
                        if error.status != LOADING:
                            raise
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ServerFailedError(f"no answer in {START_S:.0f} s\n{_end_of(log)}") from None
    raise ServerFailedError(f"ended with exit code {process.returncode}\n{_end_of(log)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the server to stop; kill what is left of its session after `STOP_S`."""
    if process.returncode is None:
        process.terminate()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
