"""The image's health check against servers that are alive, failing, and not there."""

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
    """The script; ``arguments`` in its folder is what the entry point would have written."""
    spec = importlib.util.spec_from_file_location("healthcheck", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ARGUMENTS", tmp_path / "arguments")
    return module


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
    healthcheck.ARGUMENTS.write_text(f"--port\0{port}\0--allow-anonymous\0--host\00.0.0.0\0")
    assert await asyncio.to_thread(healthcheck.main) == code
    await runner.cleanup()


async def test_the_port_may_come_from_the_environment(healthcheck, monkeypatch):
    runner, port = await serve(200)
    healthcheck.ARGUMENTS.write_text("")
    monkeypatch.setenv("FASTSWITCH_PORT", str(port))
    assert await asyncio.to_thread(healthcheck.main) == 0
    await runner.cleanup()


def test_no_server_is_no_health(healthcheck):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        healthcheck.ARGUMENTS.write_text(f"--port\0{closed.getsockname()[1]}\0")
        assert healthcheck.main() == 1
