"""The image's health check against servers that are alive, failing, and missing."""

import asyncio
import importlib.util
import socket
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web

SCRIPT = Path(__file__).parents[2] / "container/image/healthcheck.py"


@pytest.fixture
def healthcheck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with its file of arguments in the test's folder."""
    spec = importlib.util.spec_from_file_location("healthcheck", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ARGUMENTS", tmp_path / "arguments")
    monkeypatch.setattr(module, "TIMEOUT_S", 60.0)
    return module


def pass_to_server(healthcheck: ModuleType, *arguments: str) -> None:
    """Write the arguments, as the entry point does."""
    healthcheck.ARGUMENTS.write_text("".join(f"{argument}\0" for argument in arguments))


async def serve(status: int) -> tuple[web.AppRunner, int]:
    async def health(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
async def test_its_exit_code_is_the_servers_health(healthcheck, status, code):
    runner, port = await serve(status)
    pass_to_server(healthcheck, "--port", str(port), "--allow-anonymous", "--host", "0.0.0.0")
    assert await asyncio.to_thread(healthcheck.main) == code
    await runner.cleanup()


async def test_the_port_may_come_from_the_environment(healthcheck, monkeypatch):
    runner, port = await serve(200)
    pass_to_server(healthcheck)
    monkeypatch.setenv("FASTSWITCH_PORT", str(port))
    assert await asyncio.to_thread(healthcheck.main) == 0
    await runner.cleanup()


def test_no_server_is_no_health(healthcheck):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        pass_to_server(healthcheck, "--port", str(closed.getsockname()[1]))
        assert healthcheck.main() == 1
