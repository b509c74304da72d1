"""What operators and their probes ask: alive, ready, metrics. And which models there are."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.auth import check_metrics_reader
from service.api.context import DOOR, METRICS, MODEL, STREAMS, ServedModel
from service.api.prepare import check_model


async def health(request: web.Request) -> web.Response:
    """Alive: 503 once the engine has failed, when only a restart helps."""
    healthy = request.app[STREAMS].healthy
    return web.json_response({"status": "ok" if healthy else "failed"}, status=200 if healthy else 503)


async def ready(request: web.Request) -> web.Response:
    """Ready for traffic: 503 while shutting down, or when not alive."""
    status = readiness(request.app)
    return web.json_response({"status": status}, status=200 if status == "ready" else 503)


def readiness(app: web.Application) -> str:
    """``ready``, or why not."""
    if not app[STREAMS].healthy:
        return "failed"
    return "shutting_down" if app[DOOR].closed else "ready"


async def show_metrics(request: web.Request) -> web.Response:
    """Prometheus text, for whoever may read it."""
    check_metrics_reader(request)
    return await open_metrics(request)


async def open_metrics(request: web.Request) -> web.Response:
    """Prometheus text, for everybody who reaches the listener."""
    return web.Response(body=request.app[METRICS].exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models: the one that is served."""
    return web.json_response({"object": "list", "data": [_describe(request.app[MODEL])]})


async def show_model(request: web.Request) -> web.Response:
    """GET /v1/models/{id}; ids may contain slashes."""
    model = request.app[MODEL]
    check_model(request.match_info["id"], model)
    return web.json_response(_describe(model))


def _describe(model: ServedModel) -> dict[str, str | int]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "fastswitch",
        "max_model_len": model.max_model_len,
    }
