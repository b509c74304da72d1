"""Flags in, exit code out.

Whatever is heavy to import waits until the flags are known to be good: a typo is answered at once.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import NoReturn

from clients.chat_settings import ChatSettings
from service.cli.chat_flags import add_chat_flags, resolve_chat
from service.config import ServeSettings, add_serve_flags, resolve
from service.errors import StartupError

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# Read by Numba, OpenMP and OpenBLAS when they are loaded, and never again.
THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 2 and one line on stderr if it cannot start."""
    parser, commands = _parser()
    flags = parser.parse_args(arguments)
    try:
        return commands[flags.command](flags)
    except StartupError as error:
        print(f"fastswitch: {error.message}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> tuple[_Parser, dict[str, Command]]:
    parser = _Parser("fastswitch", description="Serve chat models fairly, and chat with them.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastswitch {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = add_serve_flags(commands.add_parser("serve", help="run the server", allow_abbrev=False))
    chat = add_chat_flags(commands.add_parser("chat", help="chat in the terminal", allow_abbrev=False))
    return parser, {
        "serve": lambda flags: _serve(resolve(flags, serve)),
        "chat": lambda flags: _chat(resolve_chat(flags, chat)),
    }


def _version() -> str:
    try:
        return metadata.version("fastswitch")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _serve(settings: ServeSettings) -> int:
    began = time.perf_counter()
    if settings.threads is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(settings.threads)))
    from service.cli.serve import serve  # noqa: PLC0415 - heavy, and the threads above are read when it is loaded

    return serve(settings, began)


def _chat(settings: ChatSettings) -> int:
    from clients.chat import run  # noqa: PLC0415 - heavy

    return run(settings)
