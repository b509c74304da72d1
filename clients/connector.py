"""Makes WebSocket connections to one server. A failure raises our own errors."""

import asyncio

import aiohttp

from clients.client import typed_errors
from clients.frame_socket import CLOSE_WAIT_S, Encoding, FrameSocket, subprotocol
from clients.wire import parse_error

ROUTE = "/v1/chat/stream"
PING_S = 20.0
MAX_FRAME_BYTES = 64 * 2**20


class Connector:
    """Holds the HTTP session that connections start from."""

    def __init__(self, base_url: str, api_key: str | None, encoding: Encoding, timeout_s: float) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._encoding = encoding
        self._timeout_s = timeout_s
        self._http: aiohttp.ClientSession | None = None

    async def connect(self) -> FrameSocket:
        """Open a connection. Raises `ClientError`."""
        if self._http is None:  # aiohttp binds the session to the running loop, so it is made at first use
            # Load tests open more than the default of 100 connections.
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=self._headers)
        with typed_errors(self.base_url):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return FrameSocket(await self._dial(self._http))
            except aiohttp.WSServerHandshakeError as error:  # aiohttp does not read the body
                raise parse_error(error.status, error.headers or {}, b"") from error

    async def close(self) -> None:
        """Close the HTTP session; no connection can be opened after that."""
        if self._http is not None:
            await self._http.close()

    async def _dial(self, http: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        return await http.ws_connect(
            self.base_url + ROUTE,
            protocols=[subprotocol(self._encoding)],
            heartbeat=PING_S,
            max_msg_size=MAX_FRAME_BYTES,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WAIT_S),
        )
