"""``fastswitch serve``: loads the model, builds the objects, runs the server."""

import socket
import time
from collections.abc import Mapping
from dataclasses import asdict

import structlog
from aiohttp import web

from allocator import BLOCK_TOKENS
from service.api import server
from service.api.access.keys import Keys
from service.api.app import create_app
from service.api.context import MODEL, Limits, ServedModel
from service.api.loading import create_loading_app
from service.api.openai.schemas import checked_defaults
from service.cli.backend import Backend
from service.cli.open_backend import Devices, open_backend
from service.config import ServeSettings, is_loopback, local_url
from service.core.core import Core, CoreSettings
from service.core.policies import POLICIES
from service.core.policies.priority_trace import TraceSettings
from service.core.policies.ranking import Patience
from service.core.switching.mechanisms import PRESETS
from service.engine import Engine
from service.errors import ConfigError, InvalidRequestError, ModelLoadError
from service.execution.models.loading import ModelDescription, open_model
from service.execution.models.text import TextStage
from service.execution.serving_device import ServingDevice
from service.telemetry.logs import configure_logs
from service.telemetry.metrics import Metrics
from service.telemetry.trace_recorder import TraceRecorder

log = structlog.get_logger(__name__)


def serve(settings: ServeSettings, began: float) -> int:
    """Run until told to stop; ``began`` is when the start was asked for, by `time.perf_counter`.

    Raises `StartupError`.
    """
    configure_logs(settings.log_level)
    keys = Keys(settings.keys, None if settings.api_keys is None else settings.api_keys.get_secret_value())
    listener = server.bind(settings.host, settings.port)
    metrics_listener = None if settings.metrics_port is None else server.bind(settings.host, settings.metrics_port)
    port = listener.getsockname()[1]
    metrics_port = None if metrics_listener is None else metrics_listener.getsockname()[1]

    recorder = _recorder(settings)

    def load() -> web.Application:
        return build(settings, keys, metrics_listener, recorder)

    def announce(app: web.Application) -> None:
        seconds = time.perf_counter() - began
        model = app[MODEL]
        print(greeting(model.name, model.device, settings.host, port, seconds, metrics_port), flush=True)

    loading = create_loading_app(_limits(settings))
    server.run(loading, load, listener, settings.drain_timeout, announce, metrics_listener)
    return 0


def _recorder(settings: ServeSettings) -> TraceRecorder | None:
    """With the policy and all that its priority updates hang on. Raises `ConfigError`."""
    told = {name: getattr(settings, name) for name in ("policy", "priority_update_every", "priority_seed")}
    path = settings.record_trace
    return None if path is None else TraceRecorder(path, settings.session_ttl, source=told)


def build(
    settings: ServeSettings,
    keys: Keys | None = None,
    metrics_listener: socket.socket | None = None,
    recorder: TraceRecorder | None = None,
    devices: Devices | None = None,
) -> web.Application:
    """Everything behind the socket. Raises `StartupError`, for one if the model does not fit the settings.

    ``devices``: the GPUs to choose from, NVIDIA's if None.
    """
    model = open_model(settings.model)
    max_model_len, defaults = _max_model_len(model, settings), _sampling_defaults(model, settings)
    backend = open_backend(settings, model, devices)
    engine = Engine(_core(settings, backend), backend.runner, TextStage(model.tokenizer), backend.copier)
    metrics = Metrics(backend.block_bytes)
    metrics.set_capacity(backend.device_blocks, backend.host_blocks)
    metrics.device.show_device(**asdict(backend.device))
    metrics.device.show_memory(backend.memory)
    served = _served(model, max_model_len, defaults, backend, settings)
    return create_app(engine, served, metrics, _limits(settings), keys, metrics_listener, recorder)


def _core(settings: ServeSettings, backend: Backend) -> Core:
    sizes = CoreSettings(
        device_blocks=backend.device_blocks,
        host_blocks=backend.host_blocks,
        block_group_size=settings.block_group_size,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_queue=settings.max_queue,
        max_idle_sessions=settings.max_sessions,
        session_ttl_s=settings.session_ttl,
        mechanisms=PRESETS[settings.preset],
        patience=Patience(settings.min_quantum, settings.promote_after),
        debug_preempt_every=settings.debug_preempt_every,
    )
    trace = TraceSettings(settings.priority_seed, settings.priority_update_every)
    return Core(sizes, POLICIES[settings.policy](trace))


def _max_model_len(model: ModelDescription, settings: ServeSettings) -> int:
    """Tokens. Raises `ConfigError`, before anything large is loaded."""
    max_model_len = settings.max_model_len or model.max_context
    if max_model_len > model.max_context:
        raise ConfigError(f"--max-model-len {max_model_len}: the model's own limit is {model.max_context} tokens")
    return max_model_len


def _sampling_defaults(model: ModelDescription, settings: ServeSettings) -> dict[str, float]:
    """Those of the model's authors, if wanted. Raises `ModelLoadError`, before anything large is loaded."""
    if settings.generation_config == "vllm":
        return {}
    try:
        defaults = checked_defaults(model.sampling_defaults)
    except InvalidRequestError as error:
        raise ModelLoadError(f"{model.name}: generation_config.json: {error.message}") from None
    if defaults:
        log.info("sampling_defaults", **defaults)
    return defaults


def _served(
    model: ModelDescription,
    max_model_len: int,
    sampling_defaults: Mapping[str, float],
    backend: Backend,
    settings: ServeSettings,
) -> ServedModel:
    tokenizer = model.tokenizer
    return ServedModel(
        name=settings.served_model_name or model.name,
        max_model_len=max_model_len,
        capacity_tokens=backend.device_blocks * BLOCK_TOKENS,
        vocab_size=model.config.vocab_size,
        stop_tokens=model.stop_tokens,
        tokenizer=tokenizer,
        chat_template=model.chat_template,
        longest_token_bytes=max(len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)),
        created=int(time.time()),
        device=backend.device,
        block_bytes=backend.block_bytes,
        sampling_defaults=sampling_defaults,
    )


def _limits(settings: ServeSettings) -> Limits:
    return Limits(
        max_body=settings.max_body,
        max_open_requests=settings.max_num_seqs + settings.max_queue,
        write_timeout_s=settings.write_timeout,
        keep_alive_s=settings.keep_alive,
        hang_timeout_s=settings.hang_timeout,
        max_chat_sessions=settings.max_chat_sessions,
        session_ttl_s=settings.session_ttl,
        reconnect_grace_s=settings.reconnect_grace,
        reconnect_buffer=settings.reconnect_buffer,
        ping_s=settings.ping_interval,
        only_local=is_loopback(settings.host) and not settings.has_keys,
    )


def greeting(
    model: str, device: ServingDevice, host: str, port: int, seconds: float, metrics_port: int | None = None
) -> str:
    """What a person who just started the server needs to know."""
    url = local_url(host, port)
    chat = "fastswitch chat" if url == "http://127.0.0.1:8000" else f"fastswitch chat --url {url}"
    return (
        f"FastSwitch serves {model} at {url} on {device}; started in {seconds:.1f} s\n"
        f"  chat        {chat}\n"
        f"  OpenAI API  {url}/v1/chat/completions\n"
        f"  metrics     {local_url(host, metrics_port or port)}/metrics\n"
        "  Ctrl-C stops it"
    )
