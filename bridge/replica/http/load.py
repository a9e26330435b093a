"""How much the replica takes on at a time; what is more is refused at once, with what to do.

The numbers are of a replica for development, which has one process for what a node has in many. The
statuses and texts are a replica's. Knows nothing of the requests themselves.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

MAX_BODY: Final = 4 * 1024 * 1024
"""Of any request, in bytes."""
MAX_INGRESS: Final = 2 * 1024 * 1024
"""Of a call with its envelope, in bytes (IC documentation, resource limits)."""

OVERLOADED: Final = "The service is overloaded."
INGRESS_FULL: Final = "Service is overloaded, try again later."


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What is served at a time.

    Attributes:
        connections: Open connections; ``None`` for what the limit of open files allows, at most
            4096.
        requests: Requests being answered.
        request_bytes: Bytes of their bodies.
        queries: Queries that wait for a thread, or have one.
        ingress: Calls by users that wait for one canister.
        ingress_bytes: Bytes of their arguments.
        head_seconds: For the head of a connection's first request.
        body_seconds: For a request's body.
        answer_seconds: For the next bytes of an answer to be taken.
    """

    connections: int | None = None
    requests: int = 5000
    request_bytes: int = 512 * 1024 * 1024
    queries: int = 400
    ingress: int = 5000
    ingress_bytes: int = 512 * 1024 * 1024
    head_seconds: float = 20.0
    body_seconds: float = 60.0
    answer_seconds: float = 60.0


class RefusedError(Exception):
    """A request that is refused for what it is or when it comes.

    Args:
        status: The HTTP status.
        text: The reason, as the client is told it.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Load:
    """What is being served now.

    Args:
        limits: How much there may be.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self._requests = 0
        self._bytes = 0
        self._queries = 0

    @contextlib.contextmanager
    def serving(self, request: web.Request) -> Iterator[None]:
        """While this lasts, the request counts.

        Raises:
            RefusedError: If it is one too many.
        """
        size = min(MAX_BODY if request.content_length is None else request.content_length, MAX_BODY)
        if not request.can_read_body:
            size = 0
        if self._requests >= self.limits.requests or self._bytes + size > self.limits.request_bytes:
            raise RefusedError(429, OVERLOADED)
        self._requests += 1
        self._bytes += size
        try:
            yield
        finally:
            self._requests -= 1
            self._bytes -= size

    @contextlib.contextmanager
    def querying(self) -> Iterator[None]:
        """While this lasts, a query counts that needs a thread.

        Raises:
            RefusedError: If it is one too many.
        """
        if self._queries >= self.limits.queries:
            raise RefusedError(429, OVERLOADED)
        self._queries += 1
        try:
            yield
        finally:
            self._queries -= 1
