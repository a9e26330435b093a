"""Connections: how many there may be, and how long a slow or silent peer is waited for.

One that sends no request in time, or does not take its answer, is closed; one too many is told so.
A peer that has closed its sending half still gets the answer to what it has sent. Knows nothing of
the requests themselves.
"""

import asyncio
import resource
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

from bridge.replica.http.load import HttpLimits

_HEAD_ROOM: Final = 128  # descriptors for all that is no connection
_MOST_CONNECTIONS: Final = 4096
_SWEEP_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 300.0
_BUSY: Final = b"The service has too many connections, try again later.\n"
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Retry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_BUSY), _BUSY)
)


class Connection(web.RequestHandler):
    """One connection.

    Attributes:
        payload: The body of the newest request; ``None`` before the first.
        answering: Whether that request is still to be answered.
    """

    payload: Any = None
    answering = False

    async def finish_response(self, *args: Any) -> Any:
        """Send an answer."""
        try:
            return await super().finish_response(*args)
        finally:
            self.answering = False

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer what was asked, then close; drop what came in part only."""
        if self.answering and self.payload.is_eof():
            self.close()
            return True
        return None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Say what is wrong with what came."""
        if isinstance(exc, HttpProcessingError):
            message = f"the request is not well-formed HTTP: {message or exc.message}\n"
        return super().handle_error(request, status, exc, message)

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Write a failure of ours into the log; that a peer sends no HTTP is none."""
        if not isinstance(options.get("exc_info"), HttpProcessingError):
            super().log_exception(*args, **options)


class _Refused(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(_REFUSAL)
        transport.close()


@dataclass(slots=True)
class _Seen:
    """What the last look at a connection found.

    Attributes:
        since: When it was made, in the loop's time.
        unsent: Bytes of an answer that the peer had not taken.
        stuck: Since when that number has not become smaller.
    """

    since: float
    unsent: int = 0
    stuck: float = 0.0


class Connections:
    """All connections of a server.

    Args:
        server: What answers.
        limits: How many there may be, and how long peers are waited for.
    """

    def __init__(self, server: web.Server, limits: HttpLimits) -> None:
        most = limits.connections
        if most is None:
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            most = _MOST_CONNECTIONS
            if files != resource.RLIM_INFINITY:
                most = max(16, min(most, files - _HEAD_ROOM))
        self._server = server
        make_request = server.request_factory

        def noted(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
            protocol.payload, protocol.answering = payload, True
            if message.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
                # What else is expected may be ignored (RFC 9110, section 10.1.1).
                headers = CIMultiDict(message.headers)
                del headers[hdrs.EXPECT]
                message = message._replace(headers=CIMultiDictProxy(headers))
            return make_request(message, payload, protocol, writer, task)

        server.request_factory = noted
        self._limits = limits
        self._most = most
        self._open: dict[Connection, _Seen] = {}
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        if len(self._open) >= self._most:
            self._look()
            if len(self._open) >= self._most:
                return _Refused()
        made = Connection(
            self._server,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type] # none is meant, and taken
            keepalive_timeout=_IDLE_SECONDS,
            lingering_time=1.0,
            # A body is what was signed, or what the canister shall see.
            auto_decompress=False,
        )
        self._open[made] = _Seen(self._loop.time())
        if self._sweeper is None:
            self._sweep()
        return made

    def _sweep(self) -> None:
        self._look()
        waiting = self._loop.call_later(_SWEEP_SECONDS, self._sweep) if self._open else None
        self._sweeper = waiting

    def stop(self) -> None:
        """Look no more."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _look(self) -> None:
        """Forget closed connections, and close those that have used up their time."""
        now = self._loop.time()
        for connection, seen in tuple(self._open.items()):
            transport = connection.transport
            if transport is None:
                # Over, unless it was made this moment and is not told so yet.
                if now - seen.since > _SWEEP_SECONDS:
                    del self._open[connection]
            elif connection.payload is None and now - seen.since > self._limits.head_seconds:
                transport.abort()
            else:
                self._look_at_answer(transport, seen, now)

    def _look_at_answer(self, transport: asyncio.Transport, seen: _Seen, now: float) -> None:
        unsent = transport.get_write_buffer_size()
        if not unsent or unsent != seen.unsent:
            seen.unsent, seen.stuck = unsent, now
        elif now - seen.stuck > self._limits.answer_seconds:
            transport.abort()
