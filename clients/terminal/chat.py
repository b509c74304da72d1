"""`fastswitch chat`: a conversation in the terminal, or a turn for each line of a pipe."""

import asyncio
import os
import signal
import sys
from contextlib import aclosing

from clients.client import Client
from clients.conversation import Conversation
from clients.errors import APIError, ClientError, UnreachableError
from clients.protocol import ChatOptions
from clients.terminal.chat_settings import ChatSettings
from clients.terminal.lines import EditedLines, LineSource, PlainLines
from clients.terminal.screen import Screen
from clients.websocket import ChatSocket

HELP = """\
/reset   start the conversation anew
/stats   tokens and times of each turn
/help    this list
/exit    leave (so does Ctrl-D)
Ctrl-C cancels an answer. A line that begins with a space is sent even if a / follows."""


def run(settings: ChatSettings) -> int:
    """Chat until the input ends. Return the exit code: 1 if no server answered or, in a pipe, if a turn failed."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode shows ? instead of ending the chat
    screen = Screen(interactive=interactive)
    lines = EditedLines("> ") if interactive else PlainLines(sys.stdin.fileno())
    try:
        return asyncio.run(_chat(settings, screen, lines, interactive))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except BrokenPipeError:
        # The reader of our output is gone. Python would report an error when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


async def _chat(settings: ChatSettings, screen: Screen, lines: LineSource, interactive: bool) -> int:
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    async with Client(settings.url, key) as client:
        try:
            model = await _choose_model(client, settings.model)
        except ClientError as error:
            screen.error(_explain(error))
            return 1
        if interactive:
            screen.note(f"{model} at {client.base_url}. /help lists the commands.")
        async with ChatSocket(settings.url, key) as socket:
            options = _options(settings, model)
            conversation = Conversation(socket, system=settings.system, on_queued=screen.queued, **options)
            program = ChatProgram(conversation, screen, lines, interactive=interactive)
            await program.run()
    return 1 if program.failed and not interactive else 0


async def _choose_model(client: Client, wanted: str | None) -> str:
    """Return the model to ask for. Raises `ClientError` if the server does not offer it."""
    offered = [model.id for model in await client.models()]
    if wanted is None and offered:
        return offered[0]
    if wanted not in offered:
        raise ClientError(f"no model {wanted!r} at {client.base_url}; it offers: {', '.join(offered) or 'none'}")
    return wanted


def _options(settings: ChatSettings, model: str) -> ChatOptions:
    options: ChatOptions = {"model": model}
    if settings.temperature is not None:
        options["temperature"] = settings.temperature
    if settings.max_tokens is not None:
        options["max_tokens"] = settings.max_tokens
    if settings.seed is not None:
        options["seed"] = settings.seed
    return options


def _explain(error: ClientError) -> str:
    if isinstance(error, UnreachableError):
        return f"{error}. Start one with `make serve`, or name another with --url."
    if isinstance(error, APIError) and error.details.retry_after_s is not None:
        return f"{error} Try again in {error.details.retry_after_s:.0f} s."
    return str(error)


class ChatProgram:
    """Reads lines and answers them, one turn at a time.

    It handles Ctrl-C while it runs: during a turn, Ctrl-C cancels the turn. Between turns a terminal's editor reads it
    as a key, so that an accidental second Ctrl-C does not end the program; in a pipe it ends the program.
    """

    def __init__(self, conversation: Conversation, screen: Screen, lines: LineSource, *, interactive: bool) -> None:
        self.failed = False
        self._conversation = conversation
        self._screen = screen
        self._lines = lines
        self._interactive = interactive
        self._turn: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run until /exit or the end of input. Raises CancelledError at Ctrl-C in a pipe."""
        program = asyncio.current_task()
        assert program is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt, program)
        while True:
            try:
                line = await self._lines.read()
            except KeyboardInterrupt:
                self._screen.note("Ctrl-D or /exit leaves.")
                continue
            except EOFError:
                return
            if line.rstrip() in ("/exit", "/quit"):
                return
            await self._handle(line)

    def _interrupt(self, program: asyncio.Task[None]) -> None:
        if self._turn is not None:
            self._turn.cancel()
        elif not self._interactive:
            program.cancel()

    async def _handle(self, line: str) -> None:
        if line.startswith("/"):
            self._command(line.rstrip())
        elif line.strip():
            await self._answer(line.strip())

    def _command(self, command: str) -> None:
        match command:
            case "/reset":
                self._conversation.reset()
                self._screen.note("A new conversation.")
            case "/stats":
                self._screen.stats(self._conversation.turns)
            case "/help":
                self._screen.text(HELP)
            case _:
                self._screen.error(f"No command {command}. /help lists them.")

    async def _answer(self, line: str) -> None:
        """Run a turn, and show how it ended unless it ended well."""
        self._turn = turn = asyncio.create_task(self._stream(line))
        await asyncio.wait([turn])
        self._turn = None
        self._screen.end_answer()
        if turn.cancelled():
            self._screen.note("Cancelled.")
        elif isinstance(error := turn.exception(), ClientError):
            self.failed = True
            self._screen.error(_explain(error))
        elif error is not None:
            raise error
        elif self._conversation.turns[-1].outcome == "length":
            self._screen.note("The answer reached its limit of tokens.")

    async def _stream(self, line: str) -> None:
        async with aclosing(self._conversation.say(line)) as pieces:
            async for piece in pieces:
                self._screen.piece(piece)
