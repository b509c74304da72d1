"""POST /v1/chat/completions, streamed or whole."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from service.api.chat_format import Answer, ChatFormat, ended_well
from service.api.connections import connection_id
from service.api.context import DOOR, EXECUTOR, LIMITS, MODEL, REQUEST_ID, STREAMS, Limits
from service.api.errors import error_body, from_code
from service.api.prepare import Prepared, prepare_chat
from service.api.sse import EventStream, compact, cut
from service.api.streams import Delivery, Stream
from service.core.events import Finished, FinishReason, Refused, TokenOut, Usage
from service.errors import (
    InternalError,
    InvalidRequestError,
    OverloadedError,
    RequestError,
    ShuttingDownError,
    SlowReaderError,
)
