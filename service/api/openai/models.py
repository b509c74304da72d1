"""GET /v1/models: the served model."""

from aiohttp import web

from service.api.context import MODEL, ServedModel
from service.api.openai.responses import Model, ModelList
from service.api.openai.turns import check_model


async def list_models(request: web.Request) -> web.Response:
    """List the models: the one that is served."""
    return web.json_response(ModelList(object="list", data=[_describe(request.app[MODEL])]))


async def show_model(request: web.Request) -> web.Response:
    """Describe a model; ids may contain slashes."""
    model = request.app[MODEL]
    check_model(request.match_info["id"], model)
    return web.json_response(_describe(model))


def _describe(model: ServedModel) -> Model:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "fastswitch",
        "max_model_len": model.max_model_len,
    }
