"""A stand-in for huggingface.co on this machine: repositories from folders, with Git LFS' and the API's answers."""

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

COMMIT = "a" * 40


@dataclass
class Repository:
    """A model: files by name, who may read it, and what the API says of its GGUF files."""

    files: dict[str, bytes]
    token: str | None = None
    gated: bool = False
    architecture: str | None = None
    breaks: dict[str, int] = field(default_factory=dict)  # file -> times that its transfer breaks half-way


@dataclass
class Hub:
    """The stand-in: its address, what it has, and the files that were asked for with the range of each."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    sent: list[tuple[str, str | None]] = field(default_factory=list)

    def add(self, name: str, folder: Path, *files: str, **options: Any) -> Repository:
        """Add a model with these files of a folder, or all of them."""
        paths = [folder / file for file in files] or [path for path in folder.iterdir() if path.is_file()]
        return self.put(name, {path.name: path.read_bytes() for path in paths}, **options)

    def put(self, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        """Add a model with these contents."""
        self.repositories[name] = Repository(files, **options)
        return self.repositories[name]

    @property
    def names_sent(self) -> set[str]:
        """The files that were downloaded, wholly or in part."""
        return {name for name, _ in self.sent}

    async def info(self, request: web.Request) -> web.Response:
        """Answer what the API says of a repository."""
        repository = self._readable(request)
        if isinstance(repository, web.Response):
            return repository
        gguf = None if repository.architecture is None else {"architecture": repository.architecture}
        siblings = [{"rfilename": name} for name in repository.files]
        return web.json_response({"id": "x", "sha": COMMIT, "siblings": siblings, "gguf": gguf})

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Answer a file, from the start of a range on; break the connection half-way as often as asked."""
        repository = self._readable(request)
        if isinstance(repository, web.Response):
            return repository
        name = request.match_info["file"]
        if name not in repository.files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = repository.files[name]
        wanted = request.headers.get("Range")
        start = 0 if wanted is None else int(wanted.removeprefix("bytes=").partition("-")[0])
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(content) - start),
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        self.sent.append((name, wanted))
        if repository.breaks.get(name, 0):
            repository.breaks[name] -= 1
            await response.write(content[start : start + (len(content) - start) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(content[start:])
        return response

    def _readable(self, request: web.Request) -> Repository | web.Response:
        """Return the repository if it and the revision exist and the caller may read it, else the hub's refusal."""
        repository = self.repositories.get("{owner}/{name}".format(**request.match_info))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if repository is None or (repository.token not in (None, token)):
            code = "GatedRepo" if repository is not None and repository.gated else "RepoNotFound"
            return web.Response(status=401, headers={"X-Error-Code": code})
        if request.match_info.get("revision", "main") not in ("main", "v1", COMMIT):
            return web.Response(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        return repository


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that runs in a thread, for the package that asks it blocks."""
    stand_in = Hub()
    app = web.Application()
    app.router.add_get("/api/models/{owner}/{name}", stand_in.info)
    app.router.add_get("/api/models/{owner}/{name}/revision/{revision}", stand_in.info)
    app.router.add_get("/{owner}/{name}/resolve/{revision}/{file:.+}", stand_in.file)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    stand_in.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield stand_in
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(runner.cleanup())
    loop.close()
