"""`fastswitch status` against a live server: what it prints and how it ends."""

import asyncio
import io

import pytest
from rich.console import Console

from clients.client import Client
from clients.terminal.status import run, show_status
from service.api.context import DOOR, STREAMS
from service.core.messages.events import Served
from service.engine import Output


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


async def test_it_shows_what_is_shared(serve):
    live = await serve()
    question = {"role": "user", "content": "Say " + 40 * "something "}
    for system in ("one", "two"):
        await (await live.chat(messages=[question, {"role": "user", "content": system}])).read()
    _, out, _ = await status(live.url)
    table = out[out.index("1 shared prefixes") :].splitlines()
    prefix = [cell.strip() for cell in table[4].split("│")[1:-1]]
    view = (await (await live.http.get("/debug/state")).json())["core"]["prefixes"][0]
    assert prefix == [str(view["number"]), "", *map(str, (view["tokens"], view["computed"], view["blocks"], 0, 2, 0))]
    assert view["tokens"] == view["blocks"] * 16 > 0


async def test_a_draining_server_ends_with_1(live):
    live.app[DOOR].closed = True
    code, out, _ = await status(live.url)
    assert (code, "shutting_down" in out) == (1, True)


async def test_a_key_that_is_no_admins_learns_whether_it_is_ready(serve, tenants):
    live = await serve(keys=tenants.keys())
    code, out, err = await status(live.url, tenants.key["alice"])
    assert (code, "ready" in out, "admin" in err) == (0, True, True)


async def test_an_admins_key_sees_the_tenants(serve, tenants):
    live = await serve(keys=tenants.keys("[tenants.alice]\nweight = 2.5\ntokens_per_minute = 77777\n"))
    await (await tenants.chat(live, "alice")).read()
    live.app[STREAMS]._deliver([Output(Served((("carol", 3e9), ("dave", 1e9))))])
    code, out, _ = await status(live.url, tenants.key["ops"])
    assert code == 0
    assert "3 tenants, with their shares of the last 5 minutes' service" in out
    table = out[out.index("3 tenants") :].splitlines()
    columns = ("tenant", "weight", "share", "running", "waiting", "preempted", "open requests", "open sessions")
    assert [column.strip(" ┃") for column in table[2].split("┃")[1:-2]] == list(columns)
    carol, dave, alice = ([cell.strip() for cell in line.split("│")[1:-1]] for line in table[4:7])
    assert carol == ["carol", "1", "75%", "0", "0", "0", "", "", ""]
    assert dave[:3] == ["dave", "1", "25%"]
    assert alice[:8] == ["alice", "2.5", "0%", "0", "0", "0", "0", "0"]
    assert alice[8].startswith("777")


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
