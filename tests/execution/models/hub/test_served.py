"""``fastswitch serve org/name``: from a name to an answer."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp

from tests.execution.models.hub.conftest import Hub


async def test_a_model_is_served_under_its_name(hub: Hub, tiny_model_path: Path, tmp_path: Path) -> None:
    hub.add("org/tiny", tiny_model_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FASTSWITCH"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    arguments = ["serve", "org/tiny", "--port", "0", "--device-kv", "1MiB", "--max-num-seqs", "4"]
    command = [sys.executable, "-m", "service.cli", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment)
    try:
        assert process.stdout is not None
        greeting = (await process.stdout.readline()).decode()
        found = re.search(r"serves org/tiny at (http://\S+)", greeting)
        assert found, greeting
        async with aiohttp.ClientSession(found[1]) as http:
            models = await (await http.get("/v1/models")).json()
            body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "model": "org/tiny"}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.status == 200
        assert [model["id"] for model in models["data"]] == ["org/tiny"]
        process.send_signal(signal.SIGTERM)
    finally:
        if process.returncode is None and process.stdout.at_eof():
            process.kill()
        _, errors = await process.communicate()
    logged = [json.loads(line) for line in errors.splitlines()]
    assert not any("http" in line["logger"] for line in logged)
