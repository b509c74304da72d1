"""The terminal program as a process: on a pseudo-terminal, and in a pipe."""

import asyncio
import codecs
import json
import os
import pty
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from clients.terminal.chat import run
from clients.terminal.chat_settings import ChatSettings
sys.exit(run(ChatSettings.model_validate_json(sys.argv[1])))
"""
ENVIRONMENT = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "100", "PYTHONUTF8": "1"}
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[=>])")
# The editor turns bracketed paste on when it begins to read; how it draws the prompt is its own affair.
READS, PROMPT = "\x1b[?2004h", "<prompt>"
CTRL_C, CTRL_D, UP, ENTER = "\x03", "\x04", "\x1b[A", "\r"


def command(url: str, **settings) -> list[str]:
    return [sys.executable, "-c", PROGRAM, json.dumps({"url": url, **settings})]


class Terminal:
    """The program on a pseudo-terminal, with the text that it has shown since the last match."""

    def __init__(self, descriptor: int, process: Process) -> None:
        self.process = process
        self.everything = ""
        self._unmatched = ""
        self._descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._grew = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            received = os.read(self._descriptor, 2**16)
        except OSError:  # Linux: the other end is closed
            received = b""
        if not received:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        text = self._decoder.decode(received)
        self.everything += text
        self._unmatched += text
        self._grew.set()

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self._descriptor, text.encode())

    async def shows(self, *texts: str) -> None:
        """Wait until ``texts`` have appeared in this order."""
        for text in texts:
            try:
                async with asyncio.timeout(60):
                    await self._shows(text)
            except TimeoutError:
                pytest.fail(f"{text!r} did not appear; the terminal shows {self.everything!r}")

    async def _shows(self, text: str) -> None:
        while text not in (plain := ESCAPES.sub("", self._unmatched.replace(READS, PROMPT))):
            self._grew.clear()
            await self._grew.wait()
        self._unmatched = plain.partition(text)[2]

    async def say(self, line: str) -> None:
        """Type a line at the prompt."""
        await self.shows(PROMPT)
        self.type(line + ENTER)


Starter = Callable[..., Awaitable[Terminal]]


@pytest.fixture
def server(chat_server):
    """What the program talks to."""
    return chat_server


@pytest.fixture
async def start() -> AsyncIterator[Starter]:
    opened: list[tuple[Process, int]] = []

    async def start_on_terminal(url: str, **settings) -> Terminal:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *command(url, **settings),
            cwd=ROOT,
            env=ENVIRONMENT,
            preexec_fn=lambda: os.login_tty(theirs),  # makes Ctrl-C a signal to the program, as a shell would
        )
        os.close(theirs)
        opened.append((process, ours))
        return Terminal(ours, process)

    yield start_on_terminal
    for process, descriptor in opened:
        asyncio.get_running_loop().remove_reader(descriptor)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(descriptor)


async def piped(url: str, text: str, **settings) -> tuple[int | None, str, str]:
    """Run the program on a pipe; return its exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *command(url, **settings),
        cwd=ROOT,
        env=ENVIRONMENT | {"FORCE_COLOR": "1"},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate(text.encode())
    return process.returncode, out.decode(), err.decode()


async def test_terminal_streams_answers_and_leaves_at_ctrl_d(server, start):
    server.says("Hi", " there")
    server.says("grüß 🙂")
    terminal = await start(server.url, system="Be brief")
    await terminal.say("Hello")
    await terminal.shows("Hi there\r\n")
    await terminal.say("And?")
    await terminal.shows("grüß 🙂", PROMPT)
    terminal.type(CTRL_D)
    assert await terminal.process.wait() == 0
    roles = [message["role"] for message in server.asked[1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


async def test_text_shows_while_the_answer_is_still_coming(server, start):
    server.begins("Once upon")
    terminal = await start(server.url)
    await terminal.say("A story")
    await terminal.shows("Once upon")
    assert not server.cancelled.is_set()


async def test_ctrl_c_cancels_the_turn_and_history_ends_at_the_text_received(server, start):
    server.begins("Once upon")
    server.says("a time")
    terminal = await start(server.url)
    await terminal.say("A story")
    await terminal.shows("Once upon")
    terminal.type(CTRL_C)
    await server.cancelled.wait()
    await terminal.shows("Cancelled.")
    await terminal.say("Go on")
    await terminal.shows("a time")
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "Once upon"}


async def test_terminal_shows_where_a_turn_waits_and_only_as_long_as_it_does(server, start):
    server.waits({"position": 3, "reason": "slot", "estimate_s": 4.2})
    server.begins()
    terminal = await start(server.url)
    await terminal.say("Hello")
    await terminal.shows("waiting, 3rd in the queue, about 4 s")
    terminal.type(CTRL_C)
    await terminal.shows("Cancelled.")
    server.waits({"position": 22, "reason": None, "estimate_s": None}, {"position": 0})
    server.says("Hi")
    await terminal.say("Hello again")
    await terminal.shows("waiting, 22nd in the queue", "Hi")
    assert "3rd" not in terminal.everything.partition("Cancelled.")[2]


async def test_second_ctrl_c_does_not_end_the_program(server, start):
    server.begins("Once upon")
    server.says("a time")
    terminal = await start(server.url)
    await terminal.say("A story")
    await terminal.shows("Once upon")
    terminal.type(CTRL_C + CTRL_C)
    await terminal.say("Go on")
    await terminal.shows("a time")


async def test_late_interrupt_does_not_end_the_program(server, start):
    server.says("Hi")
    terminal = await start(server.url)
    await terminal.shows(PROMPT)
    terminal.process.send_signal(signal.SIGINT)
    terminal.type("Hello" + ENTER)
    await terminal.shows("Hi\r\n")


async def test_ctrl_c_at_the_prompt_clears_the_line_and_says_how_to_leave(server, start):
    server.says("Hi")
    terminal = await start(server.url)
    await terminal.shows(PROMPT)
    terminal.type("unsent")
    await terminal.shows("unsent")
    terminal.type(CTRL_C)
    await terminal.shows("/exit leaves")
    await terminal.say("Hello")
    await terminal.shows("Hi\r\n")
    assert server.asked[0]["messages"] == [{"role": "user", "content": "Hello"}]


async def test_arrow_up_brings_an_earlier_line_back_for_editing(server, start):
    server.says("one")
    server.says("two")
    terminal = await start(server.url)
    await terminal.say("Hello")
    await terminal.shows("one")
    await terminal.say(UP + "!")
    await terminal.shows("two")
    assert server.asked[1]["messages"][-1]["content"] == "Hello!"


async def test_reset_begins_a_new_conversation(server, start):
    server.says("one")
    server.says("two")
    terminal = await start(server.url)
    await terminal.say("Hello")
    await terminal.shows("one")
    await terminal.say("/reset")
    await terminal.shows("A new conversation.")
    await terminal.say("Again")
    await terminal.shows("two")
    assert server.asked[1]["messages"] == [{"role": "user", "content": "Again"}]


async def test_stats_show_each_turn(server, start):
    server.says("one", "two", prompt=123, cached=64)
    terminal = await start(server.url)
    await terminal.say("Hello")
    await terminal.shows("onetwo")
    await terminal.say("/stats")
    await terminal.shows("cached", "TTFT", "tokens/s", "123", "64", "2", "ms", "stop")


async def test_help_lists_the_commands_and_unknown_ones_are_reported(server, start):
    terminal = await start(server.url)
    await terminal.say("/help")
    await terminal.shows("/reset", "/stats", "/exit")
    await terminal.say("/nonsense")
    await terminal.shows("No command /nonsense")
    await terminal.say("/exit")
    assert await terminal.process.wait() == 0


async def test_error_is_one_line_and_the_chat_goes_on(server, start):
    server.refuses(429, "The queue is full.", 3)
    server.says("Hi")
    terminal = await start(server.url)
    await terminal.say("Hello")
    await terminal.shows("The queue is full. Try again in 3 s.")
    await terminal.say("Hello")
    await terminal.shows("Hi\r\n")


async def test_control_characters_of_an_answer_do_not_reach_the_terminal(server, start):
    server.says("a\x1b]52;c;evil\x07b\x9bc\rd")
    terminal = await start(server.url)
    await terminal.say("Hello")
    await terminal.shows("a]52;c;evilbcd")


async def test_pipe_answers_each_line_without_escape_codes(server):
    server.says("one")
    server.says("two")
    code, out, err = await piped(server.url, "Hello\n\nAnd?\r\n")
    assert (code, out, err) == (0, "one\ntwo\n", "")
    assert [asked["messages"][-1]["content"] for asked in server.asked] == ["Hello", "And?"]


async def test_pipe_says_nothing_about_a_wait(server):
    server.waits({"position": 3, "reason": "slot", "estimate_s": 4.2}, {"position": 0})
    server.says("Hi")
    assert await piped(server.url, "Hello\n") == (0, "Hi\n", "")


async def test_pipe_tables_and_notes_have_no_escape_codes(server):
    server.says("one", finish_reason="length")
    code, out, err = await piped(server.url, "Hello\n/stats\n/reset\n")
    assert code == 0
    assert "TTFT" in out
    assert "limit of tokens" in err
    assert "\x1b" not in out + err


async def test_last_line_of_a_pipe_needs_no_line_end(server):
    server.says("one")
    assert (await piped(server.url, "Hello"))[1] == "one\n"


async def test_input_may_be_a_file(server, tmp_path):
    server.says("one")
    lines = tmp_path / "lines"
    lines.write_text("Hello\n")
    with lines.open() as stdin:
        process = await asyncio.create_subprocess_exec(
            *command(server.url), cwd=ROOT, env=ENVIRONMENT, stdin=stdin, stdout=PIPE
        )
        out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"one\n")


async def test_pipe_with_a_failed_turn_goes_on_and_exits_1(server):
    server.refuses(400, "too\nlong")
    server.says("two")
    code, out, err = await piped(server.url, "Hello\nAgain\n")
    assert (code, out, err) == (1, "two\n", "too long\n")


async def test_interrupt_of_a_waiting_pipe_ends_it(server):
    server.says("one")
    process = await asyncio.create_subprocess_exec(
        *command(server.url), cwd=ROOT, env=ENVIRONMENT, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    process.stdin.write(b"Hello\n")
    assert await process.stdout.readline() == b"one\n"
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


async def test_reader_of_the_pipe_that_leaves_ends_it_quietly(server):
    server.says("one")
    server.says("two")
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        '"$@" | (read line; echo got $line)',
        "-",
        *command(server.url),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    process.stdin.write(b"Hello\n")
    assert await process.stdout.readline() == b"got one\n"
    _, err = await process.communicate(b"And?\n")
    assert err == b""


async def test_no_server_is_one_line_that_says_how_to_start_one(closed_url):
    code, out, err = await piped(closed_url, "Hello\n")
    assert (code, out) == (1, "")
    assert err == f"no server at {closed_url}. Start one with `make serve`, or name another with --url.\n"


async def test_model_that_is_not_offered_is_refused_at_the_start(server):
    code, _, err = await piped(server.url, "Hello\n", model="huge")
    assert code == 1
    assert err == f"no model 'huge' at {server.url}; it offers: tiny\n"


async def test_settings_reach_the_request(server):
    server.says("one")
    await piped(server.url, "Hello\n", temperature=0.5, max_tokens=7, seed=3, api_key="secret")
    asked = server.asked[0]
    assert (asked["model"], asked["temperature"], asked["max_tokens"], asked["seed"]) == ("tiny", 0.5, 7, 3)
    assert server.headers[0]["Authorization"] == "Bearer secret"
