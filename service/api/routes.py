"""The table of routes: what the application serves and what `/openapi.json` says of it."""

from typing import Any

from service import errors
from service.api import responses
from service.api.generate import chat_completions, completions
from service.api.openapi import Operation
from service.api.operations import health, list_models, metrics, openapi, ready, show_model
from service.api.schemas import ChatRequest
from service.api.text_schemas import CompletionRequest, DetokenizeRequest, TokenizeRequest
from service.api.tokens import detokenize, tokenize

ALWAYS = (errors.ForeignOriginError, errors.InternalError)
LOADED = (*ALWAYS, errors.LoadingError)
WITH_BODY = (
    *LOADED,
    errors.InvalidRequestError,
    errors.ModelNotFoundError,
    errors.PayloadTooLargeError,
    errors.OverloadedError,
    errors.ShuttingDownError,
)
GENERATING = (*WITH_BODY, errors.ContextLengthError, errors.NeverFitsError)

OPERATIONS = (
    Operation(
        "POST",
        "/v1/chat/completions",
        chat_completions,
        body=ChatRequest,
        answer=responses.ChatCompletion,
        event=responses.ChatChunk,
        errors=GENERATING,
    ),
    Operation(
        "POST",
        "/v1/completions",
        completions,
        body=CompletionRequest,
        answer=responses.TextCompletion,
        event=responses.TextChunk,
        errors=GENERATING,
    ),
    Operation("POST", "/tokenize", tokenize, body=TokenizeRequest, answer=responses.Tokens, errors=WITH_BODY),
    Operation("POST", "/detokenize", detokenize, body=DetokenizeRequest, answer=responses.Text, errors=WITH_BODY),
    Operation("GET", "/v1/models", list_models, answer=responses.ModelList, errors=LOADED),
    Operation(
        "GET",
        r"/v1/models/{id:[\s\S]+}",
        show_model,
        answer=responses.Model,
        errors=(*LOADED, errors.ModelNotFoundError),
    ),
    Operation("GET", "/health", health, answer=responses.Status, unavailable=responses.Status, errors=ALWAYS),
    Operation("GET", "/ready", ready, answer=responses.Status, unavailable=responses.Status, errors=ALWAYS),
    Operation("GET", "/metrics", metrics, errors=LOADED),
    Operation("GET", "/openapi.json", openapi, answer=dict[str, Any], errors=LOADED),
)
