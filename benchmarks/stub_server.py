"""An OpenAI-compatible server without a model: the delays of its answers follow a script drawn from a seed.

`python -m benchmarks.load_clients` compares what load clients report with the script. By hand, start `python -m
benchmarks.stub_server --port 8100`: it prints the script's percentiles and, at its end, how late it was itself.
"""

import argparse
import asyncio
import json
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from clients.reporting.distribution import Distribution, distribution

PIECES = 24  # in an answer
TTFT_S, GAP_S, SPREAD = 0.4, 0.08, 0.5  # medians, and the sigma of both lognormals
PROMPT_TOKENS = 7

Delays = Sequence[float] | NDArray[np.float64]


def script(seed: int, number: int) -> NDArray[np.float64]:
    """Return seconds before each piece of answer ``number``: [PIECES], the first is its time to first token."""
    median = np.array([TTFT_S] + [GAP_S] * (PIECES - 1))
    return median * np.random.default_rng([seed, number]).lognormal(0.0, SPREAD, PIECES)


def exact(seed: int, requests: int) -> dict[str, Distribution]:
    """Return what the first ``requests`` answers take by the script, in s: ``ttft``, ``tbt`` (gaps) and ``e2e``."""
    delays = np.array([script(seed, number) for number in range(requests)])
    samples = {"ttft": delays[:, 0], "tbt": delays[:, 1:].ravel(), "e2e": delays.sum(axis=1)}
    found = {name: distribution(values) for name, values in samples.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


class StubServer:
    """Waits before each piece as a script says; each request takes the next script.

    A request for one token, which load clients send to probe a server, is answered at once and takes no script. ``due``
    and ``wrote`` hold when each piece should have left and when it did (`time.perf_counter`), in the scripts' order.
    """

    def __init__(self, scripts: Callable[[int], Delays]) -> None:
        self.due: list[list[float]] = []
        self.wrote: list[list[float]] = []
        self._scripts = scripts

    def app(self) -> web.Application:
        """Return the application with its routes."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        return app

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Stream one answer."""
        came = time.perf_counter()
        probe = (await request.json()).get("max_tokens") == 1
        due, wrote = ([came], []) if probe else self._next(came)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for moment in due:
            await self.until(moment)
            wrote.append(time.perf_counter())
            await response.write(_event({"choices": [{"index": 0, "delta": {"content": " word"}}]}))
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(due)}
        await response.write(_event({"choices": [], "usage": {**usage, "total_tokens": sum(usage.values())}}))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def models(self, _: web.Request) -> web.Response:
        """List the only model."""
        return web.json_response({"object": "list", "data": [{"id": "stub", "object": "model", "owned_by": "a stub"}]})

    async def until(self, moment: float) -> None:
        """Wait until a piece is due."""
        await asyncio.sleep(moment - time.perf_counter())

    def lateness(self) -> Distribution | None:
        """Return how long after they were due pieces left, in seconds."""
        pairs = zip(self.due, self.wrote, strict=True)
        return distribution(left - due for dues, lefts in pairs for due, left in zip(dues, lefts, strict=False))

    def _next(self, came: float) -> tuple[list[float], list[float]]:
        due, wrote = list(came + np.cumsum(self._scripts(len(self.due)))), []
        self.due.append(due)
        self.wrote.append(wrote)
        return due, wrote


def _event(payload: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "model": "stub", **payload}).encode() + b"\n\n"


async def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stub_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the script (default: %(default)s)")
    parser.add_argument(
        "--requests", type=int, default=600, help="answers to count in percentiles (default: %(default)s)"
    )
    flags = parser.parse_args()
    server = StubServer(lambda number: script(flags.seed, number))
    runner = web.AppRunner(server.app(), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", flags.port).start()
    for name, figure in exact(flags.seed, flags.requests).items():
        print(name, _in_ms(figure))
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await runner.cleanup()
    print("late", _in_ms(server.lateness()))


def _in_ms(figure: Distribution | None) -> str:
    """Return milliseconds by percentile, as JSON."""
    return json.dumps({} if figure is None else {p.name: round(1e3 * p.value, 3) for p in figure.percentiles})


if __name__ == "__main__":
    asyncio.run(main())
