"""Where the lines of a chat come from: an editor on a terminal, plain reads otherwise."""

import asyncio
import os
from typing import Protocol

from prompt_toolkit import PromptSession


class LineSource(Protocol):
    """The next line of input, whenever it comes."""

    async def read(self) -> str:
        """Return a line without its end. EOFError at the end of input, KeyboardInterrupt at Ctrl-C."""
        ...


class EditedLines:
    """Lines from a terminal, with editing and a history on the arrow keys."""

    def __init__(self, prompt: str) -> None:
        self._session: PromptSession[str] = PromptSession(prompt)

    async def read(self) -> str:
        """Return the line the user entered."""
        # In the editor Ctrl-C is a key, not a signal; the program's own signal handler stays in place.
        return await self._session.prompt_async(handle_sigint=False)


class PlainLines:
    """Lines from a pipe, a file or a bare terminal, read without a thread so that nothing outlives an interrupt."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._ended = False

    async def read(self) -> str:
        """Return the next line; a last one without a line end counts."""
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
            return  # a regular file: it is always readable, and epoll refuses it
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)
