"""The OpenAPI document, made from what serves the routes: body schemas, answer types and the error table."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from itertools import groupby
from typing import Any, Literal

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import TypeAdapter

from service.api.errors import STATUS_AND_TYPE
from service.api.openai.responses import ErrorBody
from service.api.openai.schemas import Body
from service.errors import AuthenticationError, RequestError

Json = dict[str, Any]
ErrorType = type[RequestError]
Mode = Literal["validation", "serialization"]

_VARIABLE = re.compile(r"\{(\w+)(?::[^}]*)?\}")  # aiohttp's {name:pattern}
_KEY = {"type": "http", "scheme": "bearer", "description": "A key of docs/keys.md, if the server has keys"}
_REQUEST_ID = {"X-Request-Id": {"required": True, "schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """A route: its handler, and the types of its body and answers.

    ``answer``: type of a 200's JSON; None means plain text. ``event``: type of the events if the body asks for a
    stream. ``unavailable``: type of a 503's JSON that is not an error.
    """

    method: str
    path: str
    handler: Handler
    answer: Any = None
    body: type[Body] | None = None
    event: Any = None
    unavailable: Any = None
    errors: tuple[ErrorType, ...] = ()

    def route(self) -> web.RouteDef:
        """Return the route as aiohttp wants it."""
        return web.route(self.method, self.path, self.handler)

    def types(self) -> Iterator[tuple[Any, Mode]]:
        """Yield all types of its bodies and answers, with pydantic's mode."""
        if self.body is not None:
            yield self.body, "validation"
        for sent in (self.answer, self.event, self.unavailable):
            if sent is not None:
                yield sent, "serialization"


@cache
def document(operations: tuple[Operation, ...], with_keys: bool) -> Json:
    """Return the OpenAPI 3.1 document of ``operations``. ``with_keys``: whether this server requires keys."""
    error: tuple[Any, Mode] = (ErrorBody, "serialization")
    types = dict.fromkeys([error, *(each for operation in operations for each in operation.types())])
    adapters = [(kind, mode, TypeAdapter(kind)) for kind, mode in types]
    refs, found = TypeAdapter.json_schemas(adapters, ref_template="#/components/schemas/{model}")
    writer = _Writer({kind: schema for (kind, _), schema in refs.items()}, with_keys)
    paths: dict[str, Json] = {}
    for operation in operations:
        path = _VARIABLE.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = writer.operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "FastSwitch", "version": "1"},
        "paths": paths,
        "components": {"schemas": found["$defs"], "securitySchemes": {"key": _KEY}},
    }


class _Writer:
    """Describes operations. ``schemas``: each type's schema, mostly a reference."""

    def __init__(self, schemas: dict[Any, Json], with_keys: bool) -> None:
        self._schemas = schemas
        self._security: list[Json] = [{"key": []}] if with_keys else [{}, {"key": []}]

    def operation(self, operation: Operation) -> Json:
        written: Json = {
            "operationId": operation.handler.__name__,
            "summary": _first_line(operation.handler),
            "responses": {"200": self._answer(operation), **dict(self._errors(operation))},
        }
        if AuthenticationError in operation.errors:
            written["security"] = self._security
        if names := _VARIABLE.findall(operation.path):
            string = {"type": "string", "minLength": 1}
            written["parameters"] = [{"name": name, "in": "path", "required": True, "schema": string} for name in names]
        if operation.body is not None:
            written["requestBody"] = {"required": True, "content": self._json(self._schemas[operation.body])}
        return written

    def _answer(self, operation: Operation) -> Json:
        if operation.answer is None:
            content: Json = {"text/plain": {"schema": {"type": "string"}}}
        else:
            content = self._json(self._schemas[operation.answer])
        if operation.event is not None:
            content["text/event-stream"] = {"schema": self._event(self._schemas[operation.event])}
        return {"description": "The answer", "headers": _REQUEST_ID, "content": content}

    def _event(self, schema: Json) -> Json:
        one_of_two = {"anyOf": [schema, self._schemas[ErrorBody]]}
        chunk = {"type": "string", "contentMediaType": "application/json", "contentSchema": one_of_two}
        data = {"anyOf": [{"const": "[DONE]"}, chunk]}
        description = "One of the server-sent events that a body with stream gets; [DONE] is the last"
        return {"type": "object", "description": description, "required": ["data"], "properties": {"data": data}}

    def _errors(self, operation: Operation) -> Iterator[tuple[str, Json]]:
        by_status = sorted(operation.errors, key=_status)
        for status, errors in groupby(by_status, key=_status):
            yield str(status.value), self._error(status, list(errors))
        if operation.unavailable is not None:
            content = self._json(self._schemas[operation.unavailable])
            yield "503", {"description": "Not now", "headers": _REQUEST_ID, "content": content}

    def _error(self, status: HTTPStatus, errors: Sequence[ErrorType]) -> Json:
        code = {"enum": [error.code for error in errors]}
        narrowed = {"properties": {"error": {"properties": {"code": code}}}}
        return {
            "description": " ".join(f"`{error.code}`: {_first_line(error)}" for error in errors),
            "headers": {**_REQUEST_ID, **_BY_STATUS.get(status, {})},
            "content": self._json({"allOf": [self._schemas[ErrorBody], narrowed]}),
        }

    @staticmethod
    def _json(schema: Json) -> Json:
        return {"application/json": {"schema": schema}}


def _status(error: ErrorType) -> HTTPStatus:
    return HTTPStatus(STATUS_AND_TYPE[error.code][0])


def _first_line(documented: Any) -> str:
    return str(documented.__doc__).partition("\n")[0]
