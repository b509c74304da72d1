"""Start a real server in a process of its own."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready: its address, its process, and the seconds from spawn to ready."""

    url: str
    process: psutil.Process
    start_s: float

    async def metrics(self, headers: Mapping[str, str] | None = None) -> dict[str, float]:
        """Return all samples of /metrics by name and labels. ``headers``: with an admin's key, if there are keys."""
        return await scrape(self.url, headers)

    def peak_memory_mib(self) -> float:
        """Return the largest resident set so far."""
        with open(f"/proc/{self.process.pid}/status") as status:
            peak = next(line for line in status if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024


# Requests say themselves how to sample: what suits the bundled model costs time, and would end answers that repeat.
PLAIN = ("--generation-config", "vllm")


@asynccontextmanager
async def running_server(
    *flags: str, environment: Mapping[str, str] | None = None, log: Path | None = None, port: int | None = None
) -> AsyncIterator[Server]:
    """Start `fastswitch serve`, wait until it is ready, stop it at the end.

    ``log``: gets its stderr. ``port``: None for a free one.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "service.cli", "serve", "--port", str(port), "--log-level", "warning", *flags]
    began = time.perf_counter()
    environment = {**os.environ, **(environment or {})}
    with nullcontext() if log is None else log.open("w") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=stderr
        )
    try:
        url = f"http://127.0.0.1:{port}"
        await _until_ready(url, process)
        yield Server(url, psutil.Process(process.pid), time.perf_counter() - began)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), timeout=60)


async def _until_ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with aiohttp.ClientSession() as http:
        while process.returncode is None:
            try:
                async with http.get(f"{url}/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectorError:
                pass
            await asyncio.sleep(0.02)
    raise RuntimeError(f"the server ended with exit code {process.returncode}")


async def scrape(url: str, headers: Mapping[str, str] | None = None) -> dict[str, float]:
    """Return all samples of a server's /metrics by name and labels, as in ``name{a=b}{c=d}``."""
    async with aiohttp.ClientSession(headers=headers) as http, http.get(f"{url}/metrics") as response:
        response.raise_for_status()
        families = text_string_to_metric_families(await response.text())
        return {_key(sample.name, sample.labels): sample.value for family in families for sample in family.samples}


def free_port() -> int:
    """Return a TCP port of this machine that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _key(name: str, labels: Mapping[str, str]) -> str:
    return name + "".join(f"{{{key}={value}}}" for key, value in sorted(labels.items()))
