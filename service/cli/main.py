"""The command line: parses the flags, runs a command and returns its exit code.

Heavy imports wait until the flags are known to be valid, so that a typo is answered at once.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import NoReturn

from clients.load.settings import LoadSettings
from clients.reporting.compare.flags import add_compare_flags
from clients.terminal.chat_settings import ChatSettings
from clients.workload.settings import WorkloadSettings
from service.api.version import version
from service.cli.flag_help import in_groups
from service.cli.flags import ChatFlags, LoadFlags, WorkloadFlags, add_flags, resolve_flags
from service.cli.keys_command import add_keys_flags, run_keys
from service.cli.variables import warn_of_unknown
from service.config import ServeSettings, add_serve_flags, resolve
from service.errors import ConfigError, MachineMemoryError, StartupError
from service.machine.cpu_features import compile_for, levels_here
from service.machine.cpus import usable_cpus
from service.machine.interpreter import switch_sooner
from service.machine.malloc import limit_heaps
from service.telemetry.logs import configure_logs
from service.telemetry.start_progress import start_progress

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# Numba, OpenMP and OpenBLAS read these when they are loaded, and never again.
THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

NEXT = """\
FastSwitch serves chat models. What to do next:

  fastswitch serve                      serve the small bundled model on http://127.0.0.1:8000
  fastswitch serve Qwen/Qwen3-0.6B      or one of Hugging Face, downloaded once
  fastswitch serve path/to/model.gguf   or one of your own
  fastswitch chat                       in another terminal: chat with it

fastswitch --help lists all commands, fastswitch serve --help what can be set."""

SERVE_USAGE = "fastswitch serve [MODEL] [OPTION ...]"
SERVE_MORE = "Each option is also a variable, FASTSWITCH_MAX_NUM_SEQS, and a key of the file that --config names."

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Writes errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code, which is 2, with one line on stderr, if it cannot start."""
    parser, commands = _parser()
    flags = parser.parse_args(arguments)
    if flags.command is None:
        print(NEXT)
        return 0
    try:
        return commands[flags.command](flags)
    except (StartupError, MachineMemoryError) as error:
        print(f"fastswitch: {error.message}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> tuple[_Parser, dict[str, Command]]:
    parser = _Parser("fastswitch", description="Serve chat models fairly, and chat with them.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fastswitch {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serving = commands.add_parser("serve", help="run the server", allow_abbrev=False)
    serving.usage, serving.epilog = SERVE_USAGE, SERVE_MORE
    serve = add_serve_flags(serving, in_groups(serving))
    chat = add_flags(ChatFlags, commands.add_parser("chat", help="chat in the terminal", allow_abbrev=False))
    loading = commands.add_parser("load", help="load a server and report; compare reports", allow_abbrev=False)
    load = add_flags(LoadFlags, loading)
    actions = loading.add_subparsers(dest="action", metavar="compare")
    add_compare_flags(actions.add_parser("compare", help="put reports side by side", allow_abbrev=False))
    writing = commands.add_parser("workload", help="write a trace for load", allow_abbrev=False)
    writing.add_argument("--out", type=Path, required=True, metavar="FILE", help="trace file to write")
    workload = add_flags(WorkloadFlags, writing)
    status = commands.add_parser("status", help="show what runs and what waits on a server", allow_abbrev=False)
    _add_status_flags(status)
    add_keys_flags(commands.add_parser("keys", help="make API keys", allow_abbrev=False))
    return parser, {
        "serve": lambda flags: _serve(resolve(flags, serve)),
        "chat": lambda flags: _chat(resolve_flags(ChatFlags, flags, chat)),
        "load": lambda flags: _compare(flags) if flags.action else _load(resolve_flags(LoadFlags, flags, load)),
        "workload": lambda flags: _workload(resolve_flags(WorkloadFlags, flags, workload), flags.out),
        "status": _status,
        "keys": run_keys,
    }


def _add_status_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the server (default: %(default)s)")
    parser.add_argument(
        "--api-key",
        "--key",
        default=os.environ.get("FASTSWITCH_API_KEY"),
        metavar="KEY",
        help="an admin's key, if the server has keys; unset: the environment's FASTSWITCH_API_KEY",
    )


def _serve(settings: ServeSettings) -> int:
    began = time.perf_counter()
    limit_threads(settings.threads, os.environ)
    limit_instructions(settings.cpu_features, os.environ)
    limit_heaps()
    switch_sooner()
    configure_logs(settings.log_level, log_format=settings.log_format)
    warn_of_unknown(os.environ)
    with start_progress() as progress:
        progress.stage("loading the program")
        from service.cli.serve import serve  # noqa: PLC0415 - heavy, and reads the variables above when it is loaded

        return serve(settings, began, progress)


def limit_threads(asked: int | None, environment: MutableMapping[str, str]) -> None:
    """Set `THREAD_VARIABLES` to ``asked``; if that is None, set those that are unset to the usable cores."""
    for name in THREAD_VARIABLES:
        if asked is not None:
            environment[name] = str(asked)
        else:
            environment.setdefault(name, str(usable_cpus()))


def limit_instructions(asked: str, environment: MutableMapping[str, str]) -> None:
    """Have kernels compiled for a level of `LEVELS`, or as Numba chooses. Raises `ConfigError`."""
    if asked == "auto":
        return
    if asked not in (here := levels_here()):
        raise ConfigError(f"--cpu-features {asked}: this CPU has {', '.join(here) or 'none of these levels'}")
    compile_for(asked, environment)


def _chat(settings: ChatSettings) -> int:
    from clients.terminal.chat import run  # noqa: PLC0415 - heavy

    return run(settings)


def _load(settings: LoadSettings) -> int:
    from clients.load.command import run  # noqa: PLC0415 - heavy

    return run(settings)


def _compare(flags: argparse.Namespace) -> int:
    from clients.reporting.compare.command import run_compare  # noqa: PLC0415 - heavy

    return run_compare(flags)


def _workload(settings: WorkloadSettings, out: Path) -> int:
    from clients.workload.command import run  # noqa: PLC0415 - heavy

    return run(settings, out)


def _status(flags: argparse.Namespace) -> int:
    from clients.terminal.status import run  # noqa: PLC0415 - heavy

    return run(flags.url, flags.api_key)
