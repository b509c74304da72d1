"""Checks the JSON of the OpenAI routes and turns it into `clients.protocol` types. Unknown fields are ignored."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from clients.errors import APIError, ConnectionLostError, ErrorDetails, api_error
from clients.protocol import Chunk, Completion, Model, Queued, Usage

_T = TypeVar("_T", bound=BaseModel)
_OBJECT = TypeAdapter(dict[str, Any])
_QUEUED = re.compile(r"queued position=(?P<position>\d+)(?: reason=(?P<reason>\w+))?(?: estimate=(?P<estimate>\d+)s)?")


class _PromptDetails(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _PromptDetails | None = None

    def to_usage(self) -> Usage:
        details = self.prompt_tokens_details
        return Usage(self.prompt_tokens, self.completion_tokens, (details and details.cached_tokens) or 0)


class _Text(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    delta: _Text = _Text()
    message: _Text = _Text()
    finish_reason: str | None = None


class _Error(BaseModel):
    message: str
    type: str | None = None
    code: str | int | None = None
    param: str | None = None
    request_id: str | None = None


class _ErrorBody(BaseModel):
    error: _Error


class _Answer(BaseModel):
    """A chunk or a whole answer, which differ only in where the text is."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None

    def to_usage(self) -> Usage | None:
        return None if self.usage is None else self.usage.to_usage()


class _Model(BaseModel):
    id: str
    max_model_len: int | None = None


class _Readiness(BaseModel):
    status: str


class _ModelList(BaseModel):
    data: list[_Model]


def _parse(kind: type[_T], raw: str | bytes) -> _T:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConnectionLostError(f"the server sent something that is not an answer: {first['msg']}") from error


def parse_chunk(data: str, request_id: str | None) -> Chunk:
    """Read one event of a stream. Raises the `APIError` of an error event, `ConnectionLostError` if it is neither."""
    answer = _parse(_Answer, data)
    if answer.error is not None:
        raise APIError(_details(answer.error, None, request_id, None))
    choice = answer.choices[0] if answer.choices else _Choice()
    return Chunk(choice.delta.content or "", choice.finish_reason, answer.to_usage(), request_id)


def parse_queued(comment: str) -> Queued | None:
    """Read a comment such as ``queued position=3 reason=room estimate=4s``. None if it says something else."""
    if (match := _QUEUED.fullmatch(comment)) is None:
        return None
    estimate = match["estimate"]
    return Queued(int(match["position"]), match["reason"], None if estimate is None else float(estimate))


def parse_completion(body: bytes, request_id: str | None) -> Completion:
    """Read a whole answer. Raises `ConnectionLostError` if the body is not one."""
    answer = _parse(_Answer, body)
    if not answer.choices:
        raise ConnectionLostError("the server sent an answer without a choice")
    choice = answer.choices[0]
    return Completion(choice.message.content or "", choice.finish_reason, answer.to_usage(), request_id)


def parse_models(body: bytes) -> list[Model]:
    """Read the list of models. Raises `ConnectionLostError` if the body is not one."""
    return [Model(model.id, model.max_model_len) for model in _parse(_ModelList, body).data]


def parse_readiness(body: bytes) -> str:
    """Read the readiness of a server. Raises `ConnectionLostError` if it is another kind of server."""
    return _parse(_Readiness, body).status


def parse_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object that is used as it is. Raises `ConnectionLostError` if the body is not one."""
    try:
        return _OBJECT.validate_json(body)
    except ValidationError as error:
        raise ConnectionLostError("the server sent something that is not a JSON object") from error


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """Read a refusal. If the body has not the OpenAI form (a proxy's page, say), the error names the status alone."""
    request_id = headers.get("X-Request-Id")
    retry_after_s = _seconds(headers.get("Retry-After"))
    try:
        error = _ErrorBody.model_validate_json(body).error
    except ValidationError:
        message = f"the server answered with HTTP status {status}"
        return api_error(ErrorDetails(message, status, request_id=request_id, retry_after_s=retry_after_s))
    return api_error(_details(error, status, request_id, retry_after_s))


def _details(error: _Error, status: int | None, request_id: str | None, retry_after_s: float | None) -> ErrorDetails:
    code = None if error.code is None else str(error.code)
    request_id = error.request_id or request_id
    return ErrorDetails(error.message, status, error.type, code, error.param, request_id, retry_after_s)


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header, None for its other form, a date, which our server never sends."""
    try:
        return float(retry_after) if retry_after else None
    except ValueError:
        return None
