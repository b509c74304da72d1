"""Runs a container of the image with a read-only root file system, with any engine.

Docker and Podman support that. buildah does not: with it, the image's tree is mounted read-only in a mount and process
namespace of its own and entered as the image's user. The programs of the image see no difference.
"""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

ENGINE_SCRIPT = Path(__file__).parents[2] / "container/engine.sh"
HOST = "127.0.0.1"
STOP_TIMEOUT_S = 30

# The arguments are the tree, the directory to start in, the user, and the command.
READ_ONLY_ROOT = """
root=$1 directory=$2 user=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o noexec,nosuid,nodev tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot --userspec="$user" "$root" env --ignore-environment --chdir="$directory" "$@"
"""


class Engine(Protocol):
    """Makes command lines. ``config`` is the image's configuration in Docker's form."""

    config: dict[str, Any]

    def start(self, arguments: list[str]) -> list[str]:
        """Return the command that runs a container in the foreground."""

    def execute(self, server: subprocess.Popen[str], command: list[str]) -> list[str]:
        """Return the command that runs ``command`` inside it, as the image's user."""

    def send(self, server: subprocess.Popen[str], number: signal.Signals) -> None:
        """Send a signal to its first process."""


class DockerLike:
    """Docker or Podman."""

    def __init__(self, program: str, image: str) -> None:
        self._program, self._image, self._name = program, image, f"fastswitch-test-{os.getpid()}"
        (inspected,) = json.loads(output([program, "image", "inspect", image]))
        self.config = inspected["Config"]
        self.config.setdefault("Healthcheck", inspected.get("Healthcheck"))  # Podman has it there

    def start(self, arguments: list[str]) -> list[str]:
        confined = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        gpus = os.environ.get("FASTSWITCH_TEST_GPUS")
        lent = ["--gpus", gpus] if gpus else []
        run = [self._program, "run", "--rm", "--name", self._name, "--network", "host", *confined, *lent]
        return [*run, self._image, *arguments]

    def execute(self, server: subprocess.Popen[str], command: list[str]) -> list[str]:
        return [self._program, "exec", self._name, *command]

    def send(self, server: subprocess.Popen[str], number: signal.Signals) -> None:
        output([self._program, "kill", "--signal", number.name, self._name])


class Namespaces:
    """Runs the tree of an image that buildah made. It needs root."""

    def __init__(self, image: str, tree: str) -> None:
        self._tree = tree
        self.config = json.loads(output(["buildah", "inspect", "--type", "image", image]))["Docker"]["config"]

    def start(self, arguments: list[str]) -> list[str]:
        config = self.config
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", READ_ONLY_ROOT, "sh"]
        command = [*config["Env"], *config["Entrypoint"], *arguments]
        return [*isolated, self._tree, config["WorkingDir"], config["User"], *command]

    def execute(self, server: subprocess.Popen[str], command: list[str]) -> list[str]:
        user, _, group = self.config["User"].partition(":")
        target = ["--target", str(self._first_process(server)), "--mount", "--pid", "--root"]
        enter = ["nsenter", *target, "--setuid", user, "--setgid", group]
        return [*enter, "env", "--ignore-environment", *self.config["Env"], *command]

    def send(self, server: subprocess.Popen[str], number: signal.Signals) -> None:
        os.kill(self._first_process(server), number)

    @staticmethod
    def _first_process(server: subprocess.Popen[str]) -> int:
        """Return the child of ``unshare``, which is process 1 inside."""
        return int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text())


class Container:
    """A running server in a container."""

    def __init__(self, engine: Engine, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind((HOST, 0))
            self.port = free.getsockname()[1]
        self._engine = engine
        self.process = subprocess.Popen(
            engine.start(["--port", str(self.port), *arguments]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def url(self) -> str:
        """The server's address on this machine."""
        return f"http://{HOST}:{self.port}"

    def wait_until_ready(self) -> None:
        """Wait for the line that the server prints when it is ready. Its later output is short and stays unread."""
        assert self.process.stdout
        assert self.process.stdout.readline().startswith("FastSwitch serves"), self.process.communicate()

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        line = self._engine.execute(self.process, list(command))
        return subprocess.run(line, capture_output=True, text=True, check=False)

    def terminate(self) -> int:
        """Stop it as an engine does; returns its exit code."""
        if self.process.poll() is None:
            self._engine.send(self.process, signal.SIGTERM)
            try:
                self.process.communicate(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._engine.send(self.process, signal.SIGKILL)
                raise
        return self.process.returncode


Start = Callable[..., Container]


def output(command: list[str]) -> str:
    """Return what a command prints. Raises if it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def working_container(image: str) -> Iterator[str]:
    """Yield the tree of an image, and remove it afterwards."""
    name = output(["buildah", "from", "--pull-never", image])
    try:
        yield output(["buildah", "mount", name])
    finally:
        output(["buildah", "rm", name])


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    image = os.environ["FASTSWITCH_TEST_IMAGE"]
    program = output([str(ENGINE_SCRIPT)])
    if program != "buildah":
        yield DockerLike(program, image)
        return
    with working_container(image) as tree:
        yield Namespaces(image, tree)


@pytest.fixture(scope="module")
def container(engine: Engine) -> Iterator[Container]:
    """A server that answers, on the port of its arguments."""
    started = Container(engine, "--host", HOST)
    started.wait_until_ready()
    yield started
    started.terminate()


@pytest.fixture
def start(engine: Engine) -> Iterator[Start]:
    """Starts containers with further arguments, and stops them afterwards."""
    started: list[Container] = []

    def run(*arguments: str) -> Container:
        started.append(Container(engine, *arguments))
        return started[-1]

    yield run
    for one in started:
        one.terminate()
