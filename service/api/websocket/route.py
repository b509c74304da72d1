"""GET /v1/chat/stream: accepts a WebSocket connection."""

from aiohttp import web

from service.api.context import BEGUN, DOOR, LIMITS
from service.api.websocket.codec import negotiate
from service.api.websocket.connection import Connection
from service.api.websocket.sessions import SESSIONS
from service.errors import InvalidRequestError, ShuttingDownError


async def chat_stream(request: web.Request) -> web.StreamResponse:
    """Serve one connection to its end. An error before it is established is an ordinary HTTP answer."""
    if request.app[DOOR].closed:
        raise ShuttingDownError()
    codec = negotiate(request)
    limits = request.app[LIMITS]
    socket = web.WebSocketResponse(
        protocols=(codec.subprotocol,),
        heartbeat=limits.ping_s,
        max_msg_size=limits.max_body,
        compress=False,  # frames are small, and there are many
        writer_limit=0,  # so that a client that does not read blocks the writer at once
    )
    if not socket.can_prepare(request):
        raise InvalidRequestError("this route speaks WebSocket: send an upgrade, version 13")
    connection = Connection(request, socket, codec)
    sessions = request.app[SESSIONS]
    sessions.connect(connection, connection.eject)
    try:
        request[BEGUN] = socket
        await socket.prepare(request)
        await connection.serve()
    finally:
        sessions.disconnect(connection)
    return socket
