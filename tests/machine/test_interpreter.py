"""How soon threads give up Python's lock, in the server's process."""

import importlib
import subprocess
import sys

import pytest

from service.machine.interpreter import SWITCH_INTERVAL_S

SHOW = """
import sys
from service.machine.interpreter import switch_sooner
switch_sooner()
print(sys.getswitchinterval())
"""


def test_threads_give_up_the_lock_sooner_than_python_asks_them_to() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(SWITCH_INTERVAL_S)
    assert float(done.stdout) < sys.getswitchinterval()


def test_the_server_sets_it_before_it_loads_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    main, done = importlib.import_module("service.cli.main"), list[str]()
    monkeypatch.setattr(main, "limit_threads", lambda *arguments: None)
    monkeypatch.setattr(main, "limit_heaps", lambda: None)
    monkeypatch.setattr(main, "switch_sooner", lambda: done.append("switch"))
    monkeypatch.setattr("service.cli.serve.serve", lambda *arguments: done.append("serve") or 0)
    assert main.main(["serve"]) == 0
    assert done == ["switch", "serve"]
