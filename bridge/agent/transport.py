"""HTTP to one replica or gateway: bytes out, bytes in, and the truth about what was sent.

Knows nothing of requests, certificates or canisters. One connection pool serves all requests. What
goes wrong is one of two: :class:`~bridge.errors.NotSentError` (no byte of the request left), or
:class:`~bridge.errors.TransportError` (it may have arrived).
"""

import asyncio
import io
import ipaddress
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Self

import aiohttp
from yarl import URL

from bridge._version import __version__
from bridge.agent.quote import quote
from bridge.agent.settings import SECOND, Limits, Timeouts
from bridge.errors import NotSentError, TransportError, UsageError

_CBOR: Final = "application/cbor"
_CHUNK: Final = 65_536
_POST_HEADERS: Final = {"Content-Type": _CBOR}
_LARGE: Final = 1 << 20  # from here on aiohttp wants a body that it can send piece by piece


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer.

    Args:
        status: The HTTP status code.
        body: The whole body.
        retry_after: What ``Retry-After`` asks for, in nanoseconds, where given.
    """

    status: int
    body: bytes
    retry_after: int | None = None

    @property
    def text(self) -> str:
        """The beginning of the body as text for a message; a web page is only told as one."""
        if self.body[:200].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
            return "a web page"
        return quote(self.body[:2000].decode(errors="replace"))


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, by address or as ``localhost``."""
    try:
        host = URL(url).host or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Transport:
    """The connection pool.

    Args:
        url: The base URL, ``http`` or ``https``, with or without a path of its own.
        timeouts: Durations.
        limits: Sizes and counts.

    Raises:
        UsageError: If the URL is none of these.
    """

    def __init__(self, url: str, timeouts: Timeouts, limits: Limits) -> None:
        try:
            self._base = URL(url)
        except (ValueError, TypeError) as cause:
            raise UsageError(f"{url!r} is not a URL: {cause}") from None
        if self._base.user is not None or self._base.password is not None:
            # They would be shown wherever the URL is.
            raise UsageError("the replica's URL holds a user name or password; leave them out")
        if self._base.scheme not in ("http", "https") or not self._base.host:
            raise UsageError(
                f"{url!r} is not the URL of a replica: expected http:// or https:// and a host",
                hint="such as http://127.0.0.1:4943 or https://icp-api.io",
            )
        self._timeouts = timeouts
        self._limits = limits
        self._turn = asyncio.Semaphore(limits.in_flight)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def url(self) -> str:
        """The base URL."""
        return str(self._base)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the pool; may be called twice."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise UsageError("the agent is closed", hint="use it inside its async with block")
        if self._session is None:
            # Made here and not in the constructor: a session belongs to the running event loop.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._limits.in_flight),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A compressed answer could unpack to any size before the limit is seen.
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding",),
                headers={"User-Agent": f"ic-bridge/{__version__}", "Accept": _CBOR},
                timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect / SECOND),
            )
        return self._session

    def address(self, path: str) -> URL:
        """The URL of a path below the base URL."""
        return self._base.joinpath(path)

    async def post(self, url: URL, body: bytes) -> Answer:
        """Send a CBOR body; raises as :meth:`request`."""
        return await self.request("POST", url, body)

    async def get(self, url: URL) -> Answer:
        """Fetch; raises as :meth:`request`."""
        return await self.request("GET", url, None)

    async def request(self, method: str, url: URL, body: bytes | None) -> Answer:
        """Send one request and read the whole answer.

        Raises:
            NotSentError: If no connection could be made.
            TransportError: If the request was or may have been sent, and no whole answer came.
        """
        headers = None if body is None else _POST_HEADERS
        data = io.BytesIO(body) if body is not None and len(body) > _LARGE else body
        seconds = self._timeouts.request / SECOND
        try:
            async with (
                self._turn,
                asyncio.timeout(seconds),
                self._open().request(
                    method, url, data=data, headers=headers, allow_redirects=False
                ) as response,
            ):
                return Answer(response.status, await self._read(response), _retry_after(response))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as cause:
            raise NotSentError(
                f"no connection to {self._base}: {_reason(cause)}",
                hint="check the URL, and that the replica is running; nothing was sent",
            ) from None
        except TimeoutError:
            raise TransportError(
                f"{url} did not answer within {seconds:g} s",
                hint="the replica is slow or stuck; try again",
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as cause:
            raise TransportError(
                f"{url} did not give a whole HTTP answer: {_reason(cause)}",
                hint="the connection broke, or this is no replica; try again",
            ) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._limits.response
        size = response.content_length
        if size is not None:
            if size > limit:
                raise TransportError(
                    f"an answer of {size} bytes is too large; {limit} are accepted"
                )
            return await response.read()  # the library reads no more than was announced
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > limit:
                raise TransportError(f"an answer of more than {limit} bytes was cut off")
        return bytes(body)


def _reason(cause: BaseException) -> str:
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return "connecting took too long"
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {cause.reason}"
    return quote(str(cause)) or type(cause).__name__


def _retry_after(response: aiohttp.ClientResponse) -> int | None:
    text = response.headers.get("Retry-After")
    if text is None:
        return None
    if text.strip().isdecimal() and len(text) < 10:
        return int(text) * SECOND
    try:
        until = parsedate_to_datetime(text)
        sent = parsedate_to_datetime(response.headers["Date"])
        return max(0, round((until - sent).total_seconds() * SECOND))
    except (ValueError, TypeError, KeyError):
        return None
