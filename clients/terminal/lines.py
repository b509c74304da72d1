"""Sources of the lines of a chat: an editor on a terminal, plain reads elsewhere."""

import asyncio
import os
from typing import Protocol

from prompt_toolkit import PromptSession


class LineSource(Protocol):
    """A source of input lines."""

    async def read(self) -> str:
        """Return a line without its end. Raises EOFError at the end of input, KeyboardInterrupt at Ctrl-C."""
        ...


class EditedLines:
    """Reads lines from a terminal, with editing and a history on the arrow keys."""

    def __init__(self, prompt: str) -> None:
        self._session: PromptSession[str] = PromptSession(prompt)

    async def read(self) -> str:
        """Return the line the user entered."""
        # In the editor Ctrl-C is a key, not a signal; the program's own signal handler stays in place.
        return await self._session.prompt_async(handle_sigint=False)


class PlainLines:
    """Reads lines from a pipe, a file or a bare terminal, without a thread that could outlive an interrupt."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._ended = False

    async def read(self) -> str:
        """Return the next line. The last line needs no line end."""
        while not self._ended and b"\n" not in self._buffer:
            await self._readable()
            received = os.read(self._descriptor, 2**16)
            self._ended = not received
            self._buffer += received
        if not self._buffer:
            raise EOFError
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r").decode("utf-8", "replace")

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:
            return  # epoll refuses regular files, which are always readable
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)
