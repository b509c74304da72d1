"""The image that `make image` builds, run like an operator does: `make image-test`."""

import re
from pathlib import Path
from urllib.request import urlopen

import openai
import pytest

pytestmark = pytest.mark.image

DASHBOARD = Path(__file__).parents[2] / "container/grafana/dashboards/fastswitch.json"
BAKED = "/opt/fastswitch/image/kernels"
IN_USE = "/tmp/fastswitch/kernels"
CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]


def test_it_chats(container):
    with openai.OpenAI(base_url=f"{container.url}/v1", api_key="none") as client:
        stream = client.chat.completions.create(
            model=client.models.list().data[0].id, messages=CAPITAL, temperature=0, max_tokens=16, stream=True
        )
        answer = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert "Paris" in answer


def test_it_has_the_chat_page(container):
    with urlopen(container.url) as response:
        page = response.read().decode()
    for path in re.findall(r'"(/page/[\w.]+)"', page):
        with urlopen(container.url + path) as response:
            assert response.status == 200


def test_it_found_every_kernel_compiled(container):
    test_it_chats(container)
    baked, in_use = (container.execute("find", path, "-type", "f", "-printf", "%P\\n") for path in (BAKED, IN_USE))
    assert sorted(in_use.stdout.split()) == sorted(baked.stdout.split()) != []


def test_its_metrics_have_what_the_dashboard_asks_for(container):
    with urlopen(f"{container.url}/metrics") as response:
        exposed = set(re.findall(r"^(?:# TYPE )?(\w+)", response.read().decode(), re.MULTILINE))
    assert set(re.findall(r"\b(?:fastswitch|process)_\w+", DASHBOARD.read_text(encoding="utf-8"))) <= exposed


def test_it_runs_as_a_numbered_user_without_privileges(container):
    status = dict(line.split(":\t", 1) for line in container.execute("cat", "/proc/1/status").stdout.splitlines())
    assert set(status["Uid"].split()) == {"10001"}
    assert int(status["CapEff"], 16) == 0


def test_it_needs_no_writable_root(container):
    mounts = [line.split() for line in container.execute("cat", "/proc/1/mounts").stdout.splitlines()]
    (options,) = [mount[3].split(",") for mount in mounts if mount[1] == "/"][-1:]
    assert "ro" in options


def test_its_health_check_follows_the_port(container, engine):
    kind, *check = engine.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    checked = container.execute(*check)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_sigterm_stops_it_cleanly(start):
    container = start("--host", "127.0.0.1")
    container.wait_until_ready()
    assert container.terminate() == 0


def test_without_keys_it_listens_for_other_machines_only_if_anonymous_callers_are_allowed(start):
    container = start()
    _, stderr = container.process.communicate()
    assert (container.process.returncode, len(stderr.splitlines())) == (2, 1)
    assert "--allow-anonymous" in stderr
