"""Commands that start servers: ours, and peers' from the command line."""

import argparse
from pathlib import Path

from benchmarks.peers.outcome import OURS
from benchmarks.server import PLAIN

SERVE = " ".join(["{python} -m service.cli serve --port {port} --log-level warning", *PLAIN])


def serve(model: Path | None, *flags: str) -> str:
    """Return the command of ours. ``model`` None: its own default; ``flags``: more flags, each one or several words."""
    return " ".join([SERVE, *(() if model is None else ("--model {model}",)), *filter(None, flags)])


def named(text: str) -> tuple[str, str]:
    """Return the name and the command of a peer."""
    name, _, command = text.partition("=")
    if not name or not command.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COMMAND")
    if name == OURS:
        raise argparse.ArgumentTypeError(f"{OURS!r} is no name for a peer: --ours has more flags for it")
    if "{port}" not in command:
        raise argparse.ArgumentTypeError(f"the command of {name} does not say where {{port}} goes")
    return name, command
