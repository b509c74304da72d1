"""`fastswitch status` against a live server: what it prints and how it ends."""

import asyncio
import io

import pytest
from rich.console import Console

from clients.client import Client
from clients.terminal.status import run, show_status
from service.api.context import DOOR


async def status(url, key=None):
    """Exit code and what was printed, errors apart."""
    out, err = io.StringIO(), io.StringIO()
    code = await show_status(Client(url, key), Console(file=out, width=200), Console(file=err, width=200))
    return code, out.getvalue(), err.getvalue()


async def test_a_ready_server_ends_with_0_and_tables(serve):
    live = await serve(core={"max_num_seqs": 1})
    async with await live.chat(stream=True, max_tokens=50_000):
        second = asyncio.create_task(live.chat())
        await live.until(lambda gauges: gauges["num_requests_running"] == gauges["num_requests_waiting"] == 1)
        code, out, err = await status(live.url)
        second.cancel()
    assert (code, err) == (0, "")
    for expected in (f"{live.url}: ready", "2 live requests", "running", "waiting", "slot", "device", "100000"):
        assert expected in out


async def test_a_draining_server_ends_with_1(live):
    live.app[DOOR].closed = True
    code, out, _ = await status(live.url)
    assert (code, "shutting_down" in out) == (1, True)


async def test_a_key_that_is_no_admins_learns_whether_it_is_ready(serve, tenants):
    live = await serve(keys=tenants.keys())
    code, out, err = await status(live.url, tenants.key["alice"])
    assert (code, "ready" in out, "admin" in err) == (0, True, True)


async def test_an_admins_key_sees_the_tenants(serve, tenants):
    live = await serve(keys=tenants.keys("[tenants.alice]\ntokens_per_minute = 77777\n"))
    await (await tenants.chat(live, "alice")).read()
    code, out, _ = await status(live.url, tenants.key["ops"])
    assert code == 0
    assert "alice" in out
    assert "777" in out


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
def test_no_server_is_one_line_and_1(url, capsys):
    assert run(url, None) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)


async def test_a_server_of_another_kind_is_an_error():
    async def hello(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()

    other = await asyncio.start_server(hello, "127.0.0.1", 0)
    async with other:
        code, out, err = await status(f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}")
    assert (code, out) == (1, "")
    assert err
