"""What the server reports about a turn is recorded, and users have the names that the settings say."""

import json

from rich.console import Console

from clients.load.command import drive, load_trace
from clients.load.settings import LoadSettings

FIGURES = {"queue_s": 0.5, "stall_s": 1.5, "preemptions": 2, "recomputed_tokens": 7, "swapped_bytes": 4096}
CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}\n\n'
COUNTS = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 3}}


async def test_the_figures_of_switches_in_a_usage_are_recorded(play, trace_of, server):
    usage = {"choices": [], "usage": {**COUNTS, "fastswitch": FIGURES}}
    server.sends(CHUNK, b"data: " + json.dumps(usage).encode() + b"\n\n", b"data: [DONE]\n\n")
    (record,) = (await play(server.url, trace_of(1))).records
    switches = (record.queue_s, record.stall_s, record.preemptions, record.recomputed, record.swapped_bytes)
    assert (*switches, record.reused) == (0.5, 1.5, 2, 7, 4096, 3)


async def test_other_servers_report_no_figures_of_switches(play, trace_of, server):
    server.says("Hi")
    (record,) = (await play(server.url, trace_of(1))).records
    assert (record.outcome, record.preemptions, record.stall_s) == ("ok", None, None)


async def test_runs_of_one_name_have_the_same_users(server):
    settings = LoadSettings(url=server.url, conversations=2, run_name="same")
    for _ in range(2):
        for _ in range(4):  # two measure how long a word is
            server.says("Hi")
        await drive(settings, load_trace(settings), Console(quiet=True))
    users = [asked["user"] for asked in server.asked]
    assert sorted(users[:4]) == sorted(users[4:])
    assert {"same-c0", "same-c1"} <= set(users)
