"""A signal makes the server dump its stacks."""

import asyncio
import os
import signal

from structlog.testing import capture_logs

from service.api.operations.stack_dump import log_tasks, stack_dumps


async def waits_for_ever() -> None:
    await asyncio.Event().wait()


async def test_the_signal_dumps_threads_and_tasks_and_the_server_goes_on(tmp_path, monkeypatch):
    logged = asyncio.Event()

    def log_and_signal(loop: asyncio.AbstractEventLoop) -> None:
        log_tasks(loop)
        logged.set()

    monkeypatch.setattr("service.api.operations.stack_dump.log_tasks", log_and_signal)
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(waits_for_ever(), name="stuck")
    with (tmp_path / "stacks").open("w+") as file, capture_logs() as logs:
        with stack_dumps(loop, file):
            os.kill(os.getpid(), signal.SIGUSR1)
            await logged.wait()
        file.seek(0)
        dumped = file.read()
    task.cancel()
    assert "Current thread" in dumped
    assert "test_the_signal_dumps" in dumped
    (frames,) = [entry["frames"] for entry in logs if entry["task"] == "stuck"]
    assert frames[-1].endswith("waits_for_ever")


async def test_afterwards_the_signal_means_nothing_of_ours(tmp_path):
    before = signal.getsignal(signal.SIGUSR1)
    with (tmp_path / "stacks").open("w") as file, stack_dumps(asyncio.get_running_loop(), file):
        pass
    assert signal.getsignal(signal.SIGUSR1) == before
