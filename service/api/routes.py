"""The table of routes: what the application serves, and what `/openapi.json` says about it."""

from typing import Any

from service import errors
from service.api.openai import responses
from service.api.openai.generate import chat_completions, completions
from service.api.openai.models import list_models, show_model
from service.api.openai.schemas import ChatRequest
from service.api.openai.text_schemas import CompletionRequest, DetokenizeRequest, TokenizeRequest
from service.api.openai.tokens import detokenize, tokenize
from service.api.openapi import Operation
from service.api.operations.debug import debug_request, debug_state
from service.api.operations.probes import health, openapi, ready, show_metrics, show_version
from service.api.operations.responses import DebugRequests, DebugState, Status, Version

OPEN = (errors.ForeignOriginError, errors.InternalError)
WITH_KEY = (*OPEN, errors.LoadingError, errors.AuthenticationError)
ADMINS = (*WITH_KEY, errors.NotAllowedError)
WITH_BODY = (
    *WITH_KEY,
    errors.InvalidRequestError,
    errors.ModelNotFoundError,
    errors.PayloadTooLargeError,
    errors.OverloadedError,
    errors.RequestLimitError,
    errors.TokenLimitError,
    errors.ShuttingDownError,
)
WITH_TEXT = (*WITH_BODY, errors.ContextLengthError)
GENERATING = (
    *WITH_TEXT,
    errors.NeverFitsError,
    errors.PriorityError,
    errors.QueueLimitError,
    errors.QueueTimeoutError,
    errors.OutOfMemoryError,
    errors.DeviceLostError,
)

ROUTES = (
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
    Operation("POST", "/tokenize", tokenize, body=TokenizeRequest, answer=responses.Tokens, errors=WITH_TEXT),
    Operation("POST", "/detokenize", detokenize, body=DetokenizeRequest, answer=responses.Text, errors=WITH_TEXT),
    Operation("GET", "/v1/models", list_models, answer=responses.ModelList, errors=WITH_KEY),
    Operation(
        "GET",
        r"/v1/models/{id:[\s\S]+}",
        show_model,
        answer=responses.Model,
        errors=(*WITH_KEY, errors.ModelNotFoundError),
    ),
    Operation("GET", "/health", health, answer=Status, unavailable=Status, errors=OPEN),
    Operation("GET", "/ready", ready, answer=Status, unavailable=Status, errors=OPEN),
    Operation("GET", "/version", show_version, answer=Version, errors=WITH_KEY),
    Operation("GET", "/debug/state", debug_state, answer=DebugState, errors=ADMINS),
    Operation(
        "GET",
        "/debug/requests/{id}",
        debug_request,
        answer=DebugRequests,
        errors=(*ADMINS, errors.NotFoundError),
    ),
    Operation("GET", "/openapi.json", openapi, answer=dict[str, Any], errors=WITH_KEY),
)

# Served unless metrics have a listener of their own.
METRICS_ROUTE = Operation("GET", "/metrics", show_metrics, errors=ADMINS)
OPERATIONS = (*ROUTES, METRICS_ROUTE)
