"""The replica's HTTP server on loopback: its addresses, its limits, its connections."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final

from aiohttp import hdrs, web

from bridge.errors import ReplicaError
from bridge.replica.http.admin import Admin
from bridge.replica.http.api import Api, allow_web_pages, text_error
from bridge.replica.http.connections import Connections
from bridge.replica.http.gateway import Gateway
from bridge.replica.http.load import MAX_BODY, HttpLimits, Load, RefusedError
from bridge.replica.scheduler.rounds import Rounds

_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 1024
_SHUTDOWN_SECONDS: Final = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves a subnet.

    Args:
        rounds: The subnet at work.
        executor: Threads for what may take long.
        impl_version: What the status tells of this implementation.
        admin: Whether the admin interface is on.
        limits: What is served at a time.
    """

    def __init__(
        self,
        rounds: Rounds,
        executor: Executor,
        impl_version: str,
        *,
        admin: bool,
        limits: HttpLimits,
    ) -> None:
        load = Load(limits)
        api = Api(rounds, executor, impl_version, load)
        gateway = Gateway(api)

        @web.middleware
        async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                with load.serving(request):
                    await _read(request, limits.body_seconds)
                    return await handler(request)
            except RefusedError as error:
                return text_error(error.status, str(error))
            except web.HTTPException as error:
                # No such address or method, or a body that is too large.
                refusal = text_error(error.status, error.text or error.reason)
                if hdrs.ALLOW in error.headers:
                    refusal.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
                return refusal

        app = web.Application(
            client_max_size=MAX_BODY, middlewares=[allow_web_pages, limited, gateway.middleware]
        )
        app.add_routes(api.routes())
        if admin:
            app.add_routes(Admin(rounds).routes())
        self._limits = limits
        self._runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._connections: Connections | None = None
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen; the port.

        Args:
            port: The port wanted; 0 for a free one.

        Raises:
            ReplicaError: If the port cannot be had.
        """
        await self._runner.setup()
        assert self._runner.server is not None
        self._connections = Connections(self._runner.server, self._limits)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._connections, _HOST, port, backlog=_BACKLOG
            )
        except (OSError, OverflowError) as error:
            await self._runner.cleanup()
            raise ReplicaError(
                f"port {port} cannot be had: {getattr(error, 'strerror', None) or error}",
                hint="choose another port, or 0 for a free one",
            ) from error
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Listen no more, and end what is being answered."""
        if self._server is not None:
            self._server.close()
        if self._connections is not None:
            self._connections.stop()
        await self._runner.cleanup()


async def _read(request: web.Request, seconds: float) -> None:
    """Have the request's body here before anything else is done for it.

    Raises:
        RefusedError: If it does not arrive, or not in time.
    """
    if not request.content.is_eof():  # most bodies come with their heads
        try:
            async with asyncio.timeout(seconds):
                await request.read()
        except TimeoutError:
            raise RefusedError(
                408, f"the request's body has not arrived within {seconds:g} s"
            ) from None
        except (web.RequestPayloadError, ConnectionError):
            raise RefusedError(400, "the request's body is malformed or ends early") from None
