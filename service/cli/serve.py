"""``fastswitch serve`` loads the model, builds the objects and runs the server."""

import socket
import time
from dataclasses import asdict

from aiohttp import web

from service.api import server
from service.api.access.keys import Keys
from service.api.app import create_app
from service.api.context import MODEL
from service.api.loading import create_loading_app
from service.api.warm_prompts import read_warm_prompt
from service.cli import wiring
from service.cli.open_backend import Devices, open_backend
from service.config import ServeSettings, local_url
from service.core.core import Core
from service.engine import Engine
from service.execution.models.hub.name import hub_name
from service.execution.models.loading import OpenedModel, open_model
from service.execution.models.text import TextStage
from service.execution.serving_device import ServingDevice
from service.telemetry.metrics import Metrics
from service.telemetry.start_progress import StartProgress, Unwatched
from service.telemetry.trace_recorder import TraceRecorder


def serve(settings: ServeSettings, began: float, progress: StartProgress) -> int:
    """Run until a signal stops it. ``began``: the time of the command's start, by `time.perf_counter`.

    Raises `StartupError` and `MachineMemoryError`.
    """
    keys = Keys(settings.keys, None if settings.api_keys is None else settings.api_keys.get_secret_value())
    listener = server.bind(settings.host, settings.port)
    metrics_listener = None if settings.metrics_port is None else server.bind(settings.host, settings.metrics_port)
    port = listener.getsockname()[1]
    metrics_port = None if metrics_listener is None else metrics_listener.getsockname()[1]

    recorder = _recorder(settings)

    def load() -> web.Application:
        return build(settings, keys, metrics_listener, recorder, progress=progress)

    def announce(app: web.Application) -> None:
        seconds = time.perf_counter() - began
        progress.step_aside()
        model = app[MODEL]
        print(greeting(model.name, model.device, settings.host, port, seconds, metrics_port), flush=True)

    loading = create_loading_app(wiring.limits(settings))
    server.run(loading, load, listener, settings.drain_timeout, announce, metrics_listener)
    return 0


def _recorder(settings: ServeSettings) -> TraceRecorder | None:
    """Return the recorder, if any; its trace names the policy and what updates depend on. Raises `ConfigError`."""
    source = {name: getattr(settings, name) for name in ("policy", "priority_update_every", "priority_seed")}
    path = settings.record_trace
    return None if path is None else TraceRecorder(path, settings.session_ttl, source=source)


def build(
    settings: ServeSettings,
    keys: Keys | None = None,
    metrics_listener: socket.socket | None = None,
    recorder: TraceRecorder | None = None,
    devices: Devices | None = None,
    progress: StartProgress | None = None,
) -> web.Application:
    """Build everything behind the socket. Raises `StartupError` and `MachineMemoryError`.

    ``devices``: the GPUs to choose from, NVIDIA's if None. ``progress`` is told what is done.
    """
    progress = progress or Unwatched()
    model = _open(settings.model, progress)
    # These may raise, and so come before anything large is loaded.
    max_model_len, defaults = wiring.max_model_len(settings, model), wiring.defaults(settings, model)
    backend = open_backend(settings, model, devices, progress)
    progress.stage("starting the engine")
    core = Core(wiring.core_settings(settings, backend.device_blocks, backend.host_blocks), wiring.policy(settings))
    engine = Engine(core, backend.runner, TextStage(model.tokenizer), backend.copier)
    metrics = Metrics(backend.block_bytes)
    metrics.set_capacity(backend.device_blocks, backend.host_blocks)
    metrics.device.show_device(**asdict(backend.device))
    metrics.device.show_memory(backend.memory)
    served = wiring.served_model(settings, model, backend, max_model_len, defaults)
    warm_prompts = [read_warm_prompt(path, served) for path in settings.warm_prompt]
    return create_app(engine, served, metrics, wiring.limits(settings), keys, metrics_listener, recorder, warm_prompts)


def _open(model: str | None, progress: StartProgress) -> OpenedModel:
    """Open the model of a path or a name, which is then downloaded. Raises `ModelLoadError`."""
    name = None if model is None else hub_name(model)
    if name is None:
        progress.stage("reading the tokenizer")
        return open_model(model)
    from service.execution.models.hub.download import download  # noqa: PLC0415 - heavy

    location = download(name, progress)
    progress.stage("reading the tokenizer")
    return open_model(location, name.repository)


def greeting(
    model: str, device: ServingDevice, host: str, port: int, seconds: float, metrics_port: int | None = None
) -> str:
    """Return what a person who just started the server needs to know."""
    url = local_url(host, port)
    chat = "fastswitch chat" if url == "http://127.0.0.1:8000" else f"fastswitch chat --url {url}"
    return (
        f"FastSwitch serves {model} at {url} on {device}; started in {seconds:.1f} s\n"
        f"  chat        {chat}\n"
        f"  OpenAI API  {url}/v1/chat/completions\n"
        f"  metrics     {local_url(host, metrics_port or port)}/metrics\n"
        "  Ctrl-C stops it"
    )
