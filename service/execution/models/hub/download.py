"""Brings a model's files from a Hugging Face hub into its cache: those that are needed, and what is there only once.

The package `huggingface_hub` reads ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and ``HF_HUB_OFFLINE``, shows bars on a
terminal, and goes on where a connection broke. What is refused is refused before the weights are downloaded.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2
import structlog
from huggingface_hub import HfApi, constants, get_token, hf_hub_download, scan_cache_dir
from huggingface_hub.errors import (
    CacheNotFound,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging

from service.errors import ModelLoadError, readable
from service.execution.models import gguf_model, safetensors_dir
from service.execution.models.hub.gguf_choice import choose_gguf
from service.execution.models.hub.name import HubName

log = structlog.get_logger(__name__)

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
REQUIRED = ("tokenizer.json",)
OPTIONAL = ("generation_config.json", "tokenizer_config.json", "chat_template.jinja")
WORTH_A_LINE = 1 << 20  # bytes: larger files are worth a line of the log


class Watch(Protocol):
    """Is told what is waited for."""

    def stage(self, what: str) -> None:
        """An answer of the hub is waited for."""

    def step_aside(self) -> None:
        """A file is downloaded, with a bar of its own on a terminal."""


@dataclass(frozen=True, slots=True)
class _Repository:
    """What a repository has, or of it the cache; ``architecture`` is that of its GGUF files, if the hub says it."""

    name: HubName
    files: frozenset[str]
    watch: Watch
    architecture: str | None = None

    def get(self, file: str) -> Path:
        """Return the path of a file, which is downloaded unless the cache has it."""
        if file not in self.files:
            raise ModelLoadError(f"{file} is missing")
        repository, revision = self.name.repository, self.name.revision
        self.watch.stage(f"asking {constants.ENDPOINT} for {file}")
        found = hf_hub_download(repository, file, revision=revision, dry_run=True)
        if not found.will_download:
            return Path(found.local_path)
        if (size := found.file_size or 0) >= WORTH_A_LINE:
            log.info("downloading", file=file, size=readable(size))
        self.watch.step_aside()  # for the package's bar
        return Path(hf_hub_download(repository, file, revision=revision))


def download(name: HubName, watch: Watch) -> Path:
    """Return the GGUF file or the directory that ``name`` means. Raises `ModelLoadError`, of one line."""
    hub_logging.enable_propagation()
    hub_logging.get_logger("huggingface_hub").handlers.clear()  # ours has the form that the settings ask for
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would log every request
    with _errors_naming(name):
        repository = _repository(name, watch)
        if name.file is None and CONFIG in repository.files and repository.files & {WEIGHTS, INDEX}:
            return _directory(repository)
        file = choose_gguf(name, repository.files)
        if repository.architecture is not None:
            gguf_model.require_served(repository.architecture)
        return repository.get(file)


def _repository(name: HubName, watch: Watch) -> _Repository:
    """Ask the hub, or look into the cache if it cannot be asked."""
    watch.stage(f"asking {constants.ENDPOINT} for {name.repository}")
    try:
        info = HfApi().model_info(name.repository, revision=name.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (OfflineModeIsEnabled, httpx2.TransportError) as error:
        cached = _cached(name)
        if not cached:
            raise
        if not isinstance(error, OfflineModeIsEnabled):
            log.warning("hub_not_reached", endpoint=constants.ENDPOINT, error=type(error).__name__, model=str(name))
        return _Repository(name, cached, watch)
    files = frozenset(each.rfilename for each in info.siblings or ())
    return _Repository(name, files, watch, (info.gguf or {}).get("architecture"))


def _cached(name: HubName) -> frozenset[str]:
    """Return the files of a revision that the cache has."""
    wanted = name.revision or "main"
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return frozenset()
    for repository in repositories:
        if repository.repo_type == "model" and repository.repo_id == name.repository:
            for revision in repository.revisions:
                if wanted in {revision.commit_hash, *revision.refs}:
                    folder = revision.snapshot_path
                    return frozenset(file.file_path.relative_to(folder).as_posix() for file in revision.files)
    return frozenset()


def _directory(repository: _Repository) -> Path:
    directory = repository.get(CONFIG).parent
    _require_served(directory)
    for file in REQUIRED:
        repository.get(file)
    for file in repository.files.intersection(OPTIONAL):
        repository.get(file)
    if INDEX in repository.files:
        repository.get(INDEX)
    for path in safetensors_dir.weight_files(directory):
        repository.get(path.relative_to(directory).as_posix())
    return directory


def _require_served(directory: Path) -> None:
    """Raise `ModelLoadError` for a family that is not served, without the cache's long path."""
    try:
        safetensors_dir.read_config(directory)
    except ModelLoadError as error:
        raise ModelLoadError(error.message.replace(f"{directory}/", "")) from error


@contextmanager
def _errors_naming(name: HubName) -> Iterator[None]:
    """Turn whatever goes wrong into a `ModelLoadError` that names the model and the way out."""
    try:
        yield
    except ModelLoadError as error:
        raise ModelLoadError(f"{name}: {' '.join(error.message.split())}") from error
    except (OSError, httpx2.HTTPError, HFValidationError, EntryNotFoundError) as error:
        raise ModelLoadError(f"{name}: {_way_out(name, error)}") from error


def _way_out(name: HubName, error: Exception) -> str:
    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    match error:
        case GatedRepoError():
            text = f"accept its terms at {hub}/{name.repository}, and set HF_TOKEN to a token of that account"
        case RepositoryNotFoundError():
            token = "no HF_TOKEN is set" if get_token() is None else "HF_TOKEN may not read it"
            text = f"no such path, and no such model on {hub}, or it is private and {token}"
        case RevisionNotFoundError():
            text = f"it has no revision {name.revision}"
        case OfflineModeIsEnabled():
            text = f"not in the cache, {cache}; unset HF_HUB_OFFLINE to download it"
        case LocalEntryNotFoundError():
            text = f"{hub} cannot be reached, and the cache, {cache}, lacks a file: start again when it can"
        case HfHubHTTPError():
            text = f"{hub} answered {error.response.status_code}"
        case httpx2.HTTPError():
            text = f"no connection to {hub} ({type(error).__name__}): start again when there is one, or name a path"
        case OSError(strerror=str()):
            text = f"cannot be stored in {cache}: {error.strerror}"
        case _:
            text = " ".join(str(error).split())
    return text
