"""`fastswitch status`: shows a server's state in a few tables."""

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clients.client import Client
from clients.errors import AccessDeniedError, ClientError

PIPE_WIDTH = 200  # columns of output that does not go to a terminal
MOST_PREFIXES = 10

State = Mapping[str, Any]  # the JSON of /debug/state


def run(url: str, api_key: str | None) -> int:
    """Show the server's state. Return the exit code: 0 if the server is ready, else 1."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    out, err = Console(highlight=False, width=width), Console(stderr=True, highlight=False, soft_wrap=True)
    return asyncio.run(show_status(Client(url, api_key, read_timeout_s=15.0), out, err))


async def show_status(client: Client, out: Console, err: Console) -> int:
    """Print the state on ``out`` and errors on ``err``. Return the exit code."""
    async with client:
        try:
            status = await client.readiness()
            out.print(f"{client.base_url}: {status}", markup=False, soft_wrap=True)
            show(await client.state(), out)
        except AccessDeniedError as error:
            err.print(f"only an admin's key shows more: {error}", markup=False)
        except ClientError as error:
            err.print(str(error), style="red", markup=False)
            return 1
    return 0 if status == "ready" else 1


def show(state: State, out: Console) -> None:
    """Print a state as tables."""
    out.print(
        f"model {state['model']}, {state['open_requests']} of {state['max_open_requests']} requests open",
        markup=False,
    )
    core = state["core"]
    if core is None:
        out.print("the engine does not answer", style="red")
    else:
        sessions, prefixes = _sessions(core["idle_sessions"]), _prefixes(core["prefixes"])
        for table in (_requests(core["requests"]), sessions, prefixes, _pools(core["pools"])):
            out.print(table)
    if state["tenants"]:
        out.print(_tenants(state["tenants"], state["service_window_s"]))


def _requests(requests: Sequence[State]) -> Table:
    """Return a table of the live requests, in the order of arrival."""
    columns = (
        *("request", "tenant", "state", "because", "since", "age"),
        *("priority", "prompt", "answer", "blocks", "host_blocks", "preempted"),
    )
    rows = (
        (
            each["request_id"],
            each["tenant"],
            _state(each),
            each["because"],
            _seconds(each["since_s"]),
            _seconds(each["age_s"]),
            each["priority"],
            each["prompt"],
            f"{each['answered']}/{each['max_tokens']}",
            each["blocks"],
            each["host_blocks"],
            each["preemptions"],
        )
        for each in requests
    )
    return _table(f"{len(requests)} live requests", columns, rows)


def _state(request: State) -> str:
    """Return the request's state; *swapped* if it is preempted and its KV is not all on the device."""
    is_swapped = request["state"] == "preempted" and request["resident"] < request["computed"]
    return "swapped" if is_swapped else str(request["state"])


def _sessions(sessions: Sequence[State]) -> Table:
    """Return a table of the idle sessions, summed up by tenant."""
    sums: dict[str, list[int]] = {}
    for session in sessions:
        of_tenant = sums.setdefault(session["tenant"], [0, 0, 0])
        for index, more in enumerate((1, session["computed"], session["blocks"])):
            of_tenant[index] += more
    rows = ((tenant, *counts) for tenant, counts in sums.items())
    return _table(f"{len(sessions)} idle sessions", ("tenant", "sessions", "tokens with KV", "blocks"), rows)


def _prefixes(prefixes: Sequence[State]) -> Table:
    """Return a table of the largest prefixes that several sessions share."""
    shared = sorted((each for each in prefixes if each["sessions"] > 1), key=lambda each: each["tokens"], reverse=True)
    columns = ("prefix", "stands_on", "tokens", "computed", "blocks", "host_blocks", "sessions", "live")
    names = ("number", "prefix", *columns[2:])
    rows = ([each[name] for name in names] for each in shared[:MOST_PREFIXES])
    more = f", the largest {MOST_PREFIXES} of them" if len(shared) > MOST_PREFIXES else ""
    return _table(f"{len(shared)} shared prefixes{more}", columns, rows)


def _pools(pools: Sequence[State]) -> Table:
    columns = ("pool", "blocks", "used", "reserved", "free", "largest_free", "owners", "groups")
    rows = ((pool["name"], *(pool[column] for column in columns[1:])) for pool in pools)
    return _table("KV memory", columns, rows)


def _tenants(tenants: Sequence[State], window_s: int) -> Table:
    """Return a table of the tenants, those that got most service first."""
    counts = ("running", "waiting", "preempted", "open_requests", "open_sessions", "tokens_left")
    rows = (
        (each["tenant"], f"{each['weight']:g}", f"{each['share']:.0%}", *(each[column] for column in counts))
        for each in tenants
    )
    title = f"{len(tenants)} tenants, with their shares of the last {window_s // 60} minutes' service"
    return _table(title, ("tenant", "weight", "share", *counts), rows)


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    table = Table(*(column.replace("_", " ") for column in columns), title=title, title_justify="left")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return table


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"
