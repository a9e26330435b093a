"""`Exporter`: looks at sources when it is scraped, and serves what it saw to Prometheus over HTTP.

A scrape ends in time whatever a source does, and sources are looked at side by side and never more
often than a floor allows, however many scrape.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler
from prometheus_client.metrics_core import Metric

from bridge.errors import BridgeError, UsageError
from bridge.monitor.metrics import BoundedLabels, Looked, families
from bridge.monitor.survey import MOST_FLOWS, survey
from bridge.monitor.watch import Watch

_log = logging.getLogger("bridge.monitor")

_TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
_MARGIN = 0.5  # seconds that the answer to a scrape needs itself
_FOR_FAILED = 1.0  # seconds that a scrape waits for a source whose last look failed


class Exporter:
    """Metrics of sources, as a collector of prometheus-client and as an HTTP server.

    Args:
        watches: The sources, with names that differ; each is entered for each look.
        floor: Seconds between the beginnings of two looks at one source, at least.
        timeout: Seconds that one look, and so one scrape, may take.
        most_peers: Peers of one source that have labels of their own; the first that are seen, and
            among these those with the most flows. All others are ``other``.
        most_flows: Flows of one state that are read of one source at a look.

    Raises:
        UsageError: If two sources have one name.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        *,
        floor: float = 10.0,
        timeout: float = 8.0,
        most_peers: int = 20,
        most_flows: int = MOST_FLOWS,
    ) -> None:
        if len({watch.name for watch in watches}) < len(watches):
            raise UsageError(
                "two sources have one name, so their metrics would be one another's",
                hint="give each another one: CanisterWatch(..., name=...)",
            )
        self._looked = [Looked(watch, BoundedLabels(most_peers)) for watch in watches]
        self._floor = floor
        self._timeout = timeout
        self._most_flows = most_flows
        self._begun: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def collect(self) -> Iterable[Metric]:
        """What the last looks saw, for a ``CollectorRegistry``; looks at nothing itself."""
        return families(self._looked)

    async def look(self, within: float | None = None) -> None:
        """Look at each source whose last look is longer ago than the floor.

        Args:
            within: Seconds to wait at most, and for sources whose last look failed at most one;
                looks that take longer go on.
        """
        now = asyncio.get_running_loop().time()
        for one in self._looked:
            name = one.watch.name
            busy = name in self._tasks and not self._tasks[name].done()
            if not busy and now - self._begun.get(name, -self._floor) >= self._floor:
                self._begun[name] = now
                self._tasks[name] = asyncio.create_task(self._look_at(one))
        longest = self._timeout if within is None else min(within, self._timeout)
        sound = {self._tasks[one.watch.name] for one in self._looked if one.is_sound}
        first = min(longest, _FOR_FAILED)
        await _wait_for({*self._tasks.values()}, first)
        await _wait_for(sound, longest - first)

    async def _look_at(self, one: Looked) -> None:
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout), one.watch as watch:
                found = await survey(watch, most_flows=self._most_flows)
        except (BridgeError, TimeoutError) as error:
            one.failed(error)
        except Exception as error:  # noqa: BLE001 - a fault of this program must not keep an old look
            _log.exception("%s could not be looked at", one.watch.name)
            one.failed(error)
        else:
            one.survey, one.success = found, time.time()
            one.label()
        one.duration = time.perf_counter() - begun

    async def close(self) -> None:
        """End looks that are under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    @contextlib.asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve ``/metrics`` while the block lasts.

        Args:
            host: The address; whoever reaches it reads the metrics.
            port: The port; 0 picks a free one.

        Yields:
            The URL.

        Raises:
            UsageError: If the address cannot be used.
        """
        registry = CollectorRegistry()
        registry.register(self)
        write = make_aiohttp_handler(registry)

        async def metrics(request: web.Request) -> web.StreamResponse:
            await self.look(_patience(request.headers.get(_TIMEOUT_HEADER)))
            try:
                return await write(request)
            except (TypeError, ValueError):  # the client does not write it as it should be
                raise web.HTTPBadRequest(text="the Accept header cannot be read\n") from None

        async def index(_request: web.Request) -> web.Response:
            return web.Response(text="flows of Async Flow: see /metrics\n")

        application = web.Application()
        application.add_routes([web.get("/", index), web.get("/metrics", metrics)])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                raise UsageError(
                    f"{host}:{port} cannot be listened on: {error.strerror or error}",
                    hint="choose another address, or port 0 for any that is free",
                ) from error
            bound = runner.addresses[0][1]
            yield f"http://{f'[{host}]' if ':' in host else host}:{bound}/metrics"
        finally:
            await self.close()
            await runner.cleanup()


async def _wait_for(tasks: set[asyncio.Task[None]], seconds: float) -> None:
    waiting = [task for task in tasks if not task.done()]
    if waiting:
        await asyncio.wait(waiting, timeout=seconds)


def _patience(told: str | None) -> float | None:
    """How many seconds who scrapes will wait for the answer, less what writing it takes."""
    try:
        seconds = float(told or "")
    except ValueError:
        return None
    return max(0.0, seconds - _MARGIN) if seconds < float("inf") else None
