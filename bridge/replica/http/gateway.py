"""The HTTP gateway: plain HTTP requests become calls of a canister's ``http_request``.

Rule implemented: HTTP Gateway Protocol specification, but for the verification of responses, which
guards against dishonest nodes: whoever trusts this replica needs none, and whoever does not gets
the headers that prove the response. Every failure is a status and a sentence.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import hdrs, web

from bridge import candid
from bridge.candid import Case
from bridge.candid.types import resolve
from bridge.errors import CandidError, PrincipalError
from bridge.principal import Principal
from bridge.replica.http.api import Api, text_error
from bridge.replica.http.load import MAX_INGRESS, RefusedError
from bridge.replica.state.messages import (
    FROM_SYSTEM,
    Payload,
    Reject,
    RejectCode,
    Reply,
    Request,
)

UPDATE_SECONDS: Final = 60.0
MAX_CHUNKS: Final = 1000
_QUERY_METHOD: Final = "http_request"
_UPDATE_METHOD: Final = "http_request_update"
_DOMAIN: Final = ".localhost"
_RAW: Final = ".raw"
_PARAMETER: Final = "canisterId"
_ADMIN: Final = "/_admin/"
_CHUNK_NAMES: Final = ("body", "token")
_NAMES: Final = ("streaming_strategy", "Callback", "callback", "token")

# Those that belong to one connection, and those that this server computes anew.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_HEADERS = candid.Vec(candid.Record([candid.Text, candid.Text]))
_REQUEST_FIELDS: Final[dict[str, candid.Type]] = {
    "method": candid.Text,
    "url": candid.Text,
    "headers": _HEADERS,
    "body": candid.Blob,
}
_REQUEST: Final = candid.Codec(
    [candid.Record({**_REQUEST_FIELDS, "certificate_version": candid.Opt(candid.Nat16)})]
)
_UPDATE_REQUEST: Final = candid.Codec([candid.Record(_REQUEST_FIELDS)])
_RESPONSE: Final = candid.Codec(
    [
        candid.Record(
            {
                "status_code": candid.Nat16,
                "headers": _HEADERS,
                "body": candid.Blob,
                "upgrade": candid.Opt(candid.Bool),
                # What it holds has a type of the canister's own choice.
                "streaming_strategy": candid.Opt(candid.Reserved),
            }
        )
    ]
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _BadAnswerError(Exception):
    """The canister's answer cannot be told as HTTP; the text says why."""


@dataclass(frozen=True, slots=True)
class _Streaming:
    """Where the rest of a body comes from."""

    method: str
    token: bytes


class Gateway:
    """Answers requests for canisters.

    Args:
        api: The interface of the replica that runs them.
    """

    def __init__(self, api: Api) -> None:
        self._api = api

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                canister_id = self._canister(request)
            except PrincipalError as error:
                return text_error(400, str(error))
            if canister_id is None:
                return await handler(request)
            return await self._answer(canister_id, request)

        self.middleware = middleware

    # --- which canister -------------------------------------------------------------------------

    @staticmethod
    def _canister(request: web.Request) -> Principal | None:
        """The canister that is asked; ``None`` if none is, but the replica itself."""
        if request.path.startswith("/api/"):
            return None  # the interface is there under every name, for pages that use it
        host = re.sub(r":\d*$", "", request.headers.get(hdrs.HOST, "")).lower().rstrip(".")
        named = host.removesuffix(_DOMAIN).removesuffix(_RAW) if host.endswith(_DOMAIN) else ""
        if named:
            return Principal.from_text(named)
        if request.path.startswith(_ADMIN):
            return None
        parameter = request.query.get(_PARAMETER) or _referred(request)
        return None if parameter is None else Principal.from_text(parameter)

    # --- asking it ------------------------------------------------------------------------------

    async def _answer(self, canister_id: Principal, request: web.Request) -> web.StreamResponse:
        fields = {
            "method": request.method.upper(),
            "url": _url(request),
            "headers": [
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in request.raw_headers
            ],
            "body": await request.read(),
        }
        try:
            arg = _REQUEST.encode({**fields, "certificate_version": 2})
            answer = await self._query(canister_id, _QUERY_METHOD, arg)
            if isinstance(answer, Reply):
                response = _decoded(answer.data)
                if response["upgrade"]:
                    answer = await self._update(canister_id, _UPDATE_REQUEST.encode(fields))
            if isinstance(answer, Reject):
                return _failure(answer)
            return await self._told(canister_id, request, answer.data)
        except _BadAnswerError as error:
            return text_error(502, f"canister {canister_id}: {error}")
        except CandidError as error:
            return text_error(400, f"the request cannot be told to a canister: {error}")

    async def _query(self, canister_id: Principal, method: str, arg: bytes) -> Payload:
        return await self._api.ask(
            Request(FROM_SYSTEM, Principal.anonymous(), canister_id, method, arg)
        )

    async def _update(self, canister_id: Principal, arg: bytes) -> Payload:
        if len(arg) > MAX_INGRESS:
            raise RefusedError(413, f"the request is too large for a call: {len(arg)} bytes")
        self._api.ingress.admit(canister_id)
        try:
            async with asyncio.timeout(UPDATE_SECONDS):
                return await self._api.ingress.call_as_anonymous(canister_id, _UPDATE_METHOD, arg)
        except TimeoutError:
            raise RefusedError(
                504, f"canister {canister_id} has not answered within {UPDATE_SECONDS:g} s"
            ) from None

    # --- telling its answer ---------------------------------------------------------------------

    async def _told(
        self, canister_id: Principal, request: web.Request, data: bytes
    ) -> web.StreamResponse:
        decoded = _decoded(data)
        status = decoded["status_code"]
        if not 200 <= status <= 599:
            raise _BadAnswerError(f"the status {status} is none of an answer")
        headers = _headers(decoded["headers"])
        body = decoded["body"]
        if decoded["streaming_strategy"] is None or request.method == hdrs.METH_HEAD:
            return _whole(request, status, headers, body, decoded["headers"])
        streaming = _streaming(canister_id, data)
        chunks = self._chunks(canister_id, streaming)
        # The second part is fetched first, so that what fails at once is told as a failure.
        second = await anext(chunks)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        await response.write(body)
        await response.write(second)
        try:
            async for chunk in chunks:
                await response.write(chunk)
        except (_BadAnswerError, RefusedError):
            # The status is out already: a body cut short is all that can tell of it.
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response

    async def _chunks(self, canister_id: Principal, streaming: _Streaming) -> AsyncIterator[bytes]:
        token: bytes | None = streaming.token
        for _ in range(MAX_CHUNKS):
            assert token is not None
            answer = await self._query(canister_id, streaming.method, token)
            if isinstance(answer, Reject):
                raise _BadAnswerError(f"the rest of its body does not come: {answer.message}")
            body, token = _chunk(answer.data)
            yield body
            if token is None:
                return
        raise _BadAnswerError(f"its body has more than {MAX_CHUNKS} parts")


def _chunk(data: bytes) -> tuple[bytes, bytes | None]:
    """A part of a body, and the argument that asks for the next."""
    try:
        (type_, *_) = candid.message_types(data, names=_CHUNK_NAMES)
        (value, *_) = candid.decode([type_], data)
        body, token = value["body"], value.get("token")
        if token is not None:
            plain = token.value if isinstance(token, candid.Some) else token
            token = candid.encode([_content(_field(type_, "token"))], [plain])
    except (CandidError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _BadAnswerError(f"a part of its body cannot be read: {error}") from None
    if not isinstance(body, bytes):
        raise _BadAnswerError("a part of its body is no blob")
    return body, token


def _referred(request: web.Request) -> str | None:
    """The canister whose page, at an address with the parameter, asks for something of its own."""
    try:
        page = urlsplit(request.headers.get(hdrs.REFERER, ""))
    except ValueError:
        return None
    if not page.netloc or page.netloc != request.headers.get(hdrs.HOST):
        return None
    return next(iter(parse_qs(page.query).get(_PARAMETER, ())), None)


def _url(request: web.Request) -> str:
    """Path and query as they came; the server lets nothing but ASCII in."""
    path = request.raw_path
    return path if path.startswith("/") else request.rel_url.raw_path_qs


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        (response,) = _RESPONSE.decode(data)
    except CandidError as error:
        raise _BadAnswerError(f"its answer is no HTTP response: {error}") from None
    decoded: dict[str, Any] = response
    return decoded


def _headers(given: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers to pass on."""
    for name, value in given:
        if not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise _BadAnswerError(f"the header {name[:100]!r} is not one of HTTP")
    return [(name, value) for name, value in given if name.lower() not in _HOP_BY_HOP]


def _whole(
    request: web.Request,
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
    given: list[tuple[str, str]],
) -> web.Response:
    response = web.Response(status=status, headers=headers, body=body)
    if request.method == hdrs.METH_HEAD and not body:
        # How long the body would be, the canister knows.
        lengths = [value for name, value in given if name.lower() == "content-length"]
        if lengths and lengths[0].isascii() and lengths[0].isdigit():
            response.headers[hdrs.CONTENT_LENGTH] = lengths[0]
    return response


def _failure(reject: Reject) -> web.Response:
    """What a gateway says of a call that the canister has not answered with a response."""
    if reject.code is RejectCode.DESTINATION_INVALID:
        status = 404
    else:
        status = 503 if reject.code is RejectCode.SYS_TRANSIENT else 502
    code = f" ({reject.error_code})" if reject.error_code else ""
    return text_error(status, f"{reject.message}{code}")


def _streaming(canister_id: Principal, data: bytes) -> _Streaming:
    """How to ask for the rest of a body.

    The token is read and written at the type that the canister gives it.
    """
    try:
        (type_, *_) = candid.message_types(data, names=_NAMES)
        (value, *_) = candid.decode([type_], data)
        strategy = value["streaming_strategy"]
        cases = _content(_field(type_, "streaming_strategy"))
        if not isinstance(strategy, Case) or strategy.label != "Callback":
            raise _BadAnswerError("it streams by a strategy that is not 'Callback'")
        assert isinstance(cases, candid.Variant)
        record = next(case.type for case in cases.fields if case.label == "Callback")
        service, method = strategy.value["callback"]
        token = candid.encode([_field(record, "token")], [strategy.value["token"]])
    except (CandidError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise _BadAnswerError(f"its streaming strategy cannot be read: {error}") from None
    if service != canister_id:
        raise _BadAnswerError(f"it streams from another canister, {service}")
    return _Streaming(method, token)


def _field(type_: candid.Type, name: str) -> candid.Type:
    found = resolve(type_)
    if isinstance(found, candid.Record):
        for field in found.fields:
            if field.label == name:
                return field.type
    raise ValueError(f"there is no field {name!r}")


def _content(type_: candid.Type) -> candid.Type:
    found = resolve(type_)
    if not isinstance(found, candid.Opt):
        raise TypeError("an opt was expected")
    return resolve(found.content)
