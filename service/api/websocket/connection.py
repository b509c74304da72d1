"""One WebSocket connection, which carries frames in both directions until either side ends it."""

import asyncio
from dataclasses import replace

import structlog
from aiohttp import WSMessage, WSMsgType, web

from service.api.access.auth import authenticate
from service.api.access.caller import Caller
from service.api.access.tenants import Tenant
from service.api.context import CALLER, DOOR, LIMITS, MODEL, REQUEST_ID
from service.api.errors import close_code_of
from service.api.executor import in_executor
from service.api.openai.turns import check_history
from service.api.websocket.codec import Codec
from service.api.websocket.frames import (
    AckFrame,
    CancelFrame,
    ClientFrame,
    CloseFrame,
    OpenedFrame,
    OpenFrame,
    ServerFrame,
    TurnFrame,
    error_frame,
    parse_frame,
)
from service.api.websocket.outlet import Outlet
from service.api.websocket.session import ChatSession
from service.api.websocket.sessions import SESSIONS
from service.api.websocket.turn import RunningTurn
from service.errors import (
    AuthenticationError,
    InternalError,
    InvalidRequestError,
    RequestError,
    SessionLostError,
    SessionTakenOverError,
    ShuttingDownError,
    SlowReaderError,
)

log = structlog.get_logger(__name__)

CLOSE_WAIT_S = 5.0  # for the client to confirm the close


class _LeftError(Exception):
    """The connection is over, without an error."""


class Connection:
    """Serves one WebSocket connection."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, codec: Codec) -> None:
        self._request = request
        self._app = request.app
        self._request_id = request[REQUEST_ID]
        self._transport = request.transport
        self._socket = socket
        self._codec = codec
        self._sessions = request.app[SESSIONS]
        self._limits = request.app[LIMITS]
        self._session: ChatSession | None = None
        self._outlet: Outlet | None = None
        self._ejected: asyncio.Future[RequestError] = asyncio.get_running_loop().create_future()
        self._tasks: asyncio.TaskGroup

    def eject(self, error: RequestError) -> None:
        """Close the connection with an error. If the server shuts down, a running turn may end first."""
        if not self._ejected.done() and not (isinstance(error, ShuttingDownError) and self._busy):
            self._ejected.set_result(error)

    @property
    def _busy(self) -> bool:
        """Whether a turn runs, or its end was not sent yet."""
        if self._session is None or self._outlet is None:
            return False
        return self._session.turn is not None or not self._outlet.up_to_date

    async def serve(self) -> None:
        """Read and write until the connection ends; the session goes on without it."""
        error: RequestError | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._read())
                self._tasks.create_task(self._wait_for_ejection())
        except* _LeftError:
            pass
        except* RequestError as group:
            error = next(each for each in group.exceptions if isinstance(each, RequestError))
        except* Exception:
            log.exception("websocket_failed")
            error = InternalError()
        finally:
            self._leave_session()
        await self._close(error)

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                raise _LeftError  # aiohttp has sent the close frame, with a code if the client's frame was bad
            try:
                await self._handle(parse_frame(self._codec.read(message.type, message.data)))
            except AuthenticationError:  # the key was withdrawn
                raise
            except RequestError as error:
                await self._send(error_frame(error, self._request_id))

    async def _receive(self) -> WSMessage:
        """Return the next message. Raises `SlowReaderError` if the client opens no session in time."""
        limit_s = None if self._session is not None else self._limits.body_timeout_s
        try:
            return await self._socket.receive(limit_s)
        except TimeoutError:
            raise SlowReaderError(f"no session was opened within {limit_s:g} s") from None

    async def _wait_for_ejection(self) -> None:
        raise await self._ejected

    async def _handle(self, frame: ClientFrame) -> None:
        if isinstance(frame, OpenFrame):
            await self._open(frame)
            return
        session = self._opened()
        match frame:
            case TurnFrame():
                turn = RunningTurn(self._app, session, frame, self._owner_of(session))
                self._sessions.run(session, turn.run(session.begin(turn, frame.added)))
            case AckFrame(last=last):
                session.acknowledge(last)
            case CancelFrame(last=last):
                session.truncate(last)
                if session.turn is not None:
                    session.turn.stop()
            case CloseFrame():
                self._sessions.remove(session)
                raise _LeftError

    def _opened(self) -> ChatSession:
        if self._session is None:
            raise InvalidRequestError("open a session first")
        if self._session.reader is not self._outlet:
            raise SessionTakenOverError("another connection opened this session")
        return self._session

    async def _open(self, frame: OpenFrame) -> None:
        if self._session is not None:
            raise InvalidRequestError("a session is open on this connection already")
        if self._app[DOOR].closed:
            raise ShuttingDownError()
        if frame.messages:
            await self._check_history(frame)
        self._session = session = self._find_or_create(frame, self._caller().tenant)
        self._outlet = Outlet(session, frame.last, self.eject)
        self._sessions.attach(session, self._outlet)
        opened = OpenedFrame(
            session=session.id,
            last=session.newest,
            turns=session.turns,
            running=session.turn is not None,
            model=self._app[MODEL].name,
        )
        await self._send(opened)
        self._tasks.create_task(self._write(self._outlet))

    async def _check_history(self, frame: OpenFrame) -> None:
        """Raise `RequestError` for a history that could never be answered."""
        texts = [message.text for message in frame.messages]
        await in_executor(self._app, check_history, texts, self._app[MODEL])

    def _caller(self) -> Caller:
        """Return the caller, by the current keys. Raises `AuthenticationError`."""
        return replace(self._request[CALLER], tenant=authenticate(self._request))

    def _owner_of(self, session: ChatSession) -> Caller:
        """Return the caller. Raises `SessionLostError` if the key has another tenant since the session opened."""
        caller = self._caller()
        if caller.tenant.name != session.owner[0]:
            raise SessionLostError("this key's tenant has no such session")
        return caller

    def _find_or_create(self, frame: OpenFrame, tenant: Tenant) -> ChatSession:
        user = frame.user or ""
        if frame.session is None:
            history = [message.for_template() for message in frame.messages]
            return self._sessions.create(tenant, user, history, frame.cache_salt)
        session = self._sessions.find(frame.session, (tenant.name, user))
        if frame.last > session.newest:
            raise InvalidRequestError(f"last: number {frame.last} has not been sent", param="last")
        return session

    async def _write(self, outlet: Outlet) -> None:
        """Send whatever the session has for the client, as fast as it reads."""
        while True:
            await outlet.news.wait()
            for frame in outlet.take():
                await self._send(frame)
            if self._app[DOOR].closed:
                self.eject(ShuttingDownError())

    async def _send(self, frame: ServerFrame) -> None:
        data = self._codec.encode(frame.model_dump(mode="json"))
        try:
            async with asyncio.timeout(self._limits.write_timeout_s):
                await self._socket.send_frame(data, self._codec.kind)
        except TimeoutError:
            error = SlowReaderError(f"nothing was read for {self._limits.write_timeout_s:g} s")
            if self._session is not None and self._session.turn is not None:
                self._session.turn.stop(error)
            raise error from None
        except ConnectionError:
            raise _LeftError from None

    def _leave_session(self) -> None:
        if self._session is not None and self._outlet is not None:
            self._sessions.detach(self._session, self._outlet)

    async def _close(self, error: RequestError | None) -> None:
        """Send the close frame, wait a little for the client, and drop what it does not read."""
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                if error is None:
                    await self._socket.close()
                else:
                    await self._socket.close(code=close_code_of(error), message=error.code.encode(), drain=False)
        except TimeoutError:
            log.info("websocket_cut")
        finally:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.abort()
