"""The endpoints of the interface specification: status, call, query and read_state.

Each handler checks the envelope, asks the machine, and wraps the answer; every wrong request is a
status and a sentence, never a trace. Rule implemented: section HTTPS interface.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

from aiohttp import web

from bridge import wire
from bridge.errors import BridgeError, CandidError, EnvelopeError
from bridge.principal import Principal
from bridge.replica.execution.engine import compile_module, runs_canisters_here
from bridge.replica.execution.failures import InvalidModuleError
from bridge.replica.http.ingress import Ingress, Teller
from bridge.replica.http.load import MAX_INGRESS, Load, RefusedError
from bridge.replica.http.paths import (
    ForbiddenPathError,
    NoSuchPathError,
    Path,
    Scope,
    allowed_paths,
)
from bridge.replica.management import effective_canister_id
from bridge.replica.management.types import SIGNATURES
from bridge.replica.scheduler.queries import NotQuickError, query, quick_query
from bridge.replica.scheduler.rounds import Rounds
from bridge.replica.state.messages import (
    FROM_SYSTEM,
    FromUser,
    Payload,
    Reject,
    Reply,
    Request,
)
from bridge.replica.state.requests import RequestRecord
from bridge.replica.state.subnet import Ranges, is_hosted
from bridge.wire import CallRequest, Certificate, Envelope, QueryRequest, ReadStateRequest

API_VERSION: Final = "0.67.0"
SYNC_CALL_SECONDS: Final = 10.0
_CBOR: Final = "application/cbor"
_CREATE: Final = "provisional_create_canister_with_cycles"

_T = TypeVar("_T")
# Many requests have the same few addresses.
_principal: Final = functools.lru_cache(1024)(Principal.from_text)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _cbor(value: Mapping[str, Any]) -> web.Response:
    return web.Response(body=wire.encode(value), content_type=_CBOR)


@web.middleware
async def allow_web_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let pages of any origin use the interface, as the IC's own gateways do."""
    if request.method == "OPTIONS" and request.path.startswith("/api/"):
        response: web.StreamResponse = web.Response(status=204)
    else:
        response = await handler(request)
    if request.path.startswith("/api/"):
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, HEAD"
        response.headers["Access-Control-Allow-Headers"] = "Accept, Content-Type"
        response.headers["Access-Control-Max-Age"] = "600"
    return response


def text_error(status: int, text: str) -> web.Response:
    """A refusal in plain words."""
    # What is quoted in it may be no text: then as much of it as is.
    body = (text + "\n").encode("utf-8", "replace")
    return web.Response(status=status, body=body, content_type="text/plain", charset="utf-8")


class Api:
    """The handlers.

    Args:
        rounds: The subnet at work.
        executor: Threads for what may take long.
        impl_version: The package's version, as the status tells it.
        load: What is being served.

    Attributes:
        ingress: The way of users' calls to the rounds.
    """

    def __init__(self, rounds: Rounds, executor: Executor, impl_version: str, load: Load) -> None:
        self._rounds = rounds
        self._machine = rounds.machine
        self._subnet = rounds.machine.subnet
        self._executor = executor
        self._impl_version = impl_version
        self._load = load
        self._teller = Teller()
        self.ingress = Ingress(rounds, load, self._teller)
        self._deep_stack = runs_canisters_here()

    def routes(self) -> list[web.RouteDef]:
        """The routes of the interface."""
        routes = [web.get("/api/v2/status", self._status)]
        routes += [
            web.post(f"/api/v{version}/canister/{{id}}/call", self._guard(self._call(version)))
            for version in (2, 3, 4)
        ]
        for version in (2, 3):
            routes += [
                web.post(
                    f"/api/v{version}/canister/{{id}}/query", self._guard(self._query(version))
                ),
                web.post(
                    f"/api/v{version}/canister/{{id}}/read_state",
                    self._guard(self._read_state(version, of_subnet=False)),
                ),
                web.post(
                    f"/api/v{version}/subnet/{{id}}/read_state",
                    self._guard(self._read_state(version, of_subnet=True)),
                ),
            ]
        routes += [
            web.post("/api/v4/subnet/{id}/call", self._guard(self._admins_only)),
            web.post("/api/v3/subnet/{id}/query", self._guard(self._admins_only)),
        ]
        return routes

    # --- shared ---------------------------------------------------------------------------------

    @staticmethod
    def _guard(handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except ForbiddenPathError as error:
                return text_error(403, str(error))
            except NoSuchPathError as error:
                return text_error(404, str(error))
            except BridgeError as error:
                return text_error(400, str(error))

        return guarded

    async def _envelope(self, request: web.Request) -> Envelope:
        if request.content_type != _CBOR:
            raise EnvelopeError(f"the content type is {request.content_type!r}; expected {_CBOR!r}")
        return Envelope.from_cbor(await request.read())

    def _verified(self, envelope: Envelope) -> wire.VerifiedRequest:
        return wire.verify_envelope(
            envelope,
            now=self._machine.clock.now(),
            root_key=self._subnet.keys.root.public_key_der,
        )

    @staticmethod
    def _named(request: web.Request) -> Principal:
        return _principal(request.match_info["id"])

    @staticmethod
    def _expect(kind: type[_T], verified: wire.VerifiedRequest) -> _T:
        found = verified.request
        if not isinstance(found, kind):
            raise EnvelopeError(
                f"the request is of type {found.request_type!r}, which this address does not take"
            )
        return found

    def _check_effective(self, effective: Principal, request: CallRequest | QueryRequest) -> None:
        if request.canister_id.raw:
            expected: Principal | None = request.canister_id
        elif request.method_name == _CREATE:
            return
        else:
            expected = effective_canister_id(request.method_name, request.arg)
        if expected is not None and expected != effective:
            raise EnvelopeError(
                f"the effective canister id in the address is {effective}, but the call is for "
                f"{expected}",
                hint="send it to /canister/<the canister's id>/",
            )
        if expected is not None and not is_hosted(expected):
            raise EnvelopeError(f"canister {expected} is not in the ranges of this subnet")

    async def _admins_only(self, _request: web.Request) -> web.StreamResponse:
        raise EnvelopeError(
            "calls and queries at a subnet's address are for subnet admins, and this subnet has "
            "none",
            hint="create canisters by provisional_create_canister_with_cycles",
        )

    # --- status ---------------------------------------------------------------------------------

    async def _status(self, _request: web.Request) -> web.StreamResponse:
        return _cbor(
            {
                "ic_api_version": API_VERSION,
                "impl_version": self._impl_version,
                "root_key": self._subnet.keys.root.public_key_der,
                "replica_health_status": "healthy",
                "certified_height": self._rounds.rounds,
            }
        )

    # --- calls ----------------------------------------------------------------------------------

    def _call(self, version: int) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            effective = self._named(request)
            envelope = await self._envelope(request)
            size = len(await request.read())
            if size > MAX_INGRESS:
                raise RefusedError(
                    413,
                    f"Request {envelope.request_id.hex()} is too large: the message has {size} "
                    f"bytes, and {MAX_INGRESS} are allowed",
                )
            verified = self._verified(envelope)
            call = self._expect(CallRequest, verified)
            self._check_effective(effective, call)
            self.ingress.admit(call.canister_id)
            if not call.canister_id.raw:
                await self._prepare(call)
            return await self._submit(version, effective, verified, call)

        return handler

    async def _prepare(self, call: CallRequest) -> None:
        """Compile a module to be installed beside the rounds, not in one."""
        if call.method_name != "install_code":
            return

        def compile_it() -> None:
            try:
                compile_module(SIGNATURES["install_code"].decode(call.arg)["wasm_module"])
            except (CandidError, InvalidModuleError):
                return  # told as the answer of the call itself

        await asyncio.get_running_loop().run_in_executor(self._executor, compile_it)

    async def _submit(
        self,
        version: int,
        effective: Principal,
        verified: wire.VerifiedRequest,
        call: CallRequest,
    ) -> web.StreamResponse:
        info = call.sender_info or {}
        told = self.ingress.submit(
            RequestRecord(
                request_id=verified.request_id,
                expiry=call.ingress_expiry,
                sender=call.sender.raw,
                effective_canister_id=effective.raw,
                canister_id=call.canister_id.raw,
            ),
            Request(
                origin=FromUser(verified.request_id),
                sender=call.sender,
                receiver=call.canister_id,
                method=call.method_name,
                arg=call.arg,
                caller_info=_bytes(info.get("info")),
                caller_info_signer=_bytes(info.get("signer")),
            ),
            until_answered=version > 2,
        )
        try:
            async with asyncio.timeout(None if version == 2 else SYNC_CALL_SECONDS):
                outcome = await told
        except TimeoutError:
            outcome = None
        if outcome is None:
            return web.Response(status=202)
        if isinstance(outcome, Reject):
            return _rejection(outcome)
        certificate = self._subnet.shown(
            outcome, [(b"request_status", verified.request_id)], _ranges(version, sharded_from=4)
        )
        return _cbor({"status": "replied", "certificate": certificate.to_cbor()})

    # --- queries --------------------------------------------------------------------------------

    def _query(self, version: int) -> Handler:
        ranges = _ranges(version, sharded_from=3)

        async def handler(request: web.Request) -> web.StreamResponse:
            effective = self._named(request)
            verified = self._verified(await self._envelope(request))
            asked = self._expect(QueryRequest, verified)
            self._check_effective(effective, asked)
            info = asked.sender_info or {}
            message = Request(
                origin=FROM_SYSTEM,
                sender=asked.sender,
                receiver=asked.canister_id,
                method=asked.method_name,
                arg=asked.arg,
                caller_info=_bytes(info.get("info")),
                caller_info_signer=_bytes(info.get("signer")),
            )
            body = self._signed(await self.ask(message, ranges), verified.request_id)
            return web.Response(body=body, content_type=_CBOR)

        return handler

    async def ask(self, message: Request, ranges: Ranges = Ranges.SHARDED) -> Payload:
        """Run a query: here if it is quick, else on another thread.

        Args:
            message: The query.
            ranges: What the delegation in its data certificate shows.

        Raises:
            RefusedError: If too many wait for a thread.
        """
        if self._deep_stack and message.receiver.raw:
            try:
                return quick_query(self._machine, message, ranges)
            except NotQuickError:
                pass
        with self._load.querying():
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, query, self._machine, message, ranges
            )

    def _signed(self, payload: Payload, request_id: bytes) -> bytes:
        response = _query_response(payload)
        keys = self._subnet.keys
        signature = wire.sign_query_response(
            response,
            request_id=request_id,
            timestamp=self._machine.clock.now(),
            node_id=keys.node_id,
            key=keys.node,
        )
        response["signatures"] = [signature.to_raw()]
        return wire.encode(response)

    # --- state ----------------------------------------------------------------------------------

    def _read_state(self, version: int, *, of_subnet: bool) -> Handler:
        ranges = _ranges(version, sharded_from=3)
        if of_subnet and version > 2:
            ranges = Ranges.NONE

        async def handler(request: web.Request) -> web.StreamResponse:
            named = self._named(request)
            keys = self._subnet.keys
            if of_subnet and named not in (keys.subnet_id, keys.root_subnet_id):
                raise EnvelopeError(
                    f"there is no subnet {named} here: the subnet is {keys.subnet_id}"
                )
            verified = self._verified(await self._envelope(request))
            asked = self._expect(ReadStateRequest, verified)
            scope = Scope(
                canister_id=None if of_subnet else named,
                subnet_id=named if of_subnet else None,
                version=version,
            )
            ready: asyncio.Future[tuple[Certificate, list[Path]] | EnvelopeError]
            ready = asyncio.get_running_loop().create_future()

            def certified(certificate: Certificate) -> None:
                # What may be read is decided by the very state that is shown.
                try:
                    paths = allowed_paths(
                        self._subnet, scope, asked.sender, asked.paths, verified.targets
                    )
                except EnvelopeError as error:
                    self._teller.tell(ready, error)
                    return
                if named == keys.root_subnet_id:
                    certificate = self._subnet.certify_by_root(self._machine.time)
                self._teller.tell(ready, (certificate, paths))

            self._rounds.certificate(certified)
            outcome = await ready
            if isinstance(outcome, EnvelopeError):
                raise outcome
            shown = self._subnet.shown(*outcome, ranges)
            return _cbor({"certificate": shown.to_cbor()})

        return handler


def _ranges(version: int, *, sharded_from: int) -> Ranges:
    return Ranges.SHARDED if version >= sharded_from else Ranges.UNSHARDED


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _query_response(payload: Payload) -> dict[str, Any]:
    if isinstance(payload, Reply):
        return {"status": "replied", "reply": {"arg": payload.data}}
    return {"status": "rejected", **_reject_fields(payload)}


def _rejection(reject: Reject) -> web.Response:
    return _cbor({"status": "non_replicated_rejection", **_reject_fields(reject)})


def _reject_fields(reject: Reject) -> dict[str, Any]:
    fields = {"reject_code": int(reject.code), "reject_message": reject.message}
    return fields | ({"error_code": reject.error_code} if reject.error_code else {})
