"""A small replica that is honest by default and tells whatever lie a test asks for."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from bridge import wire
from bridge.agent import Agent, Identity, Limits, Retries, Timeouts
from bridge.errors import EnvelopeError
from bridge.principal import Principal
from bridge.wire import bls, hashtree, keys, leb128

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
CANISTER = Principal(b"\0\0\0\0\0\0\0\x01\x01\x01")
ELSEWHERE = Principal(b"\0\0\0\0\0\0\xff\x01\x01\x01")
REPLY = b"DIDL\0\0reply"
RANGES = wire.encode_ranges([(bytes(8) + b"\1\1", bytes(6) + b"\xfe\xff\1\1")])

Lie = Callable[["Ask"], Awaitable[web.StreamResponse | bytes | None]]


@dataclass
class Ask:
    """One request as it came."""

    replica: "Replica"
    http: web.Request
    envelope: wire.Envelope
    version: str
    target: str

    @property
    def id(self) -> bytes:
        return self.envelope.request_id


@dataclass
class Replica:
    root: bls.SecretKey
    subnet: bls.SecretKey
    node: keys.Ed25519Key
    url: str = ""
    skew: int = 0
    lies: dict[str, list[Lie | None]] = field(default_factory=dict)
    statuses: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    seen_ids: list[bytes] = field(default_factory=list)
    expiries: list[int] = field(default_factory=list)
    missing_versions: set[str] = field(default_factory=set)
    flat_ranges: bool = False
    status_body: bytes | None = None

    # --- Lying ---

    def lie(self, kind: str, *lies: Lie | None, forever: bool = False) -> None:
        """Answer the next requests of a kind with these; ``None`` is the honest answer."""
        self.lies[kind] = [*lies, *([lies[-1]] * 10_000 if forever else [])]

    # --- The state ---

    @property
    def now(self) -> int:
        return time.time_ns() + self.skew

    @property
    def subnet_id(self) -> Principal:
        return Principal.self_authenticating(self.subnet.public_key_der)

    @property
    def node_id(self) -> Principal:
        return Principal.self_authenticating(self.node.public_key_der)

    def delegation(self, key: bls.SecretKey | None = None) -> wire.SubnetDelegation | None:
        if self.subnet is self.root:
            return None
        subnet: dict[bytes, hashtree.Buildable] = {b"public_key": self.subnet.public_key_der}
        content: dict[bytes, hashtree.Buildable] = {
            b"time": leb128.encode(self.now),
            b"subnet": {self.subnet_id.raw: subnet},
        }
        if self.flat_ranges:
            subnet[b"canister_ranges"] = RANGES
        else:
            content[b"canister_ranges"] = {self.subnet_id.raw: {bytes(8) + b"\1\1": RANGES}}
        tree = hashtree.build(content)
        certificate = wire.Certificate.sign(tree, key or self.root)
        return wire.SubnetDelegation(self.subnet_id, certificate.to_cbor())

    def tree(self, *, time_ns: int | None = None) -> hashtree.HashTree:
        node = {b"public_key": self.node.public_key_der}
        # Only the root subnet tells its ranges here; of others its delegations tell.
        ranges = {b"canister_ranges": RANGES} if self.subnet is self.root else {}
        return hashtree.build(
            {
                b"time": leb128.encode(self.now if time_ns is None else time_ns),
                b"request_status": dict(self.statuses),
                b"subnet": {
                    self.subnet_id.raw: {
                        b"public_key": self.subnet.public_key_der,
                        b"type": b"application",
                        b"node": {self.node_id.raw: node},
                        **ranges,
                    }
                },
                b"canister": {
                    CANISTER.raw: {
                        b"module_hash": b"h" * 32,
                        b"controllers": wire.encode([b"\4", CANISTER.raw]),
                        b"metadata": {b"candid:service": b"service : {}"},
                    }
                },
            }
        )

    def certify(
        self,
        paths,
        *,
        tree: hashtree.HashTree | None = None,
        time_ns: int | None = None,
        key: bls.SecretKey | None = None,
        delegation: wire.SubnetDelegation | None = None,
    ) -> bytes:
        certificate = wire.Certificate.sign(
            tree or self.tree(time_ns=time_ns), key or self.subnet, delegation or self.delegation()
        )
        return certificate.pruned(paths).to_cbor()

    # --- Answering ---

    async def answer(self, http: web.Request) -> web.StreamResponse:
        version, target = http.match_info["version"], http.match_info["target"]
        kind = http.match_info["kind"]
        self.asked.append((kind, version))
        if version in self.missing_versions:
            return web.Response(status=404)
        envelope = wire.Envelope.from_cbor(await http.read())
        ask = Ask(self, http, envelope, version, target)
        if kind == "read_state":
            self.expiries.append(envelope.content["ingress_expiry"])
        queue = self.lies.get(kind)
        lie = queue.pop(0) if queue else None
        if lie is not None:
            answer = await lie(ask)
            if isinstance(answer, bytes):
                return web.Response(body=answer, content_type="application/cbor")
            if answer is not None:
                return answer
        try:
            verified = wire.verify_envelope(
                envelope, now=self.now, root_key=self.root.public_key_der
            )
        except EnvelopeError as cause:
            return web.Response(status=400, text=str(cause))
        if kind == "call":
            return await self._call(ask, verified)
        if kind == "query":
            return self._query(verified)
        assert isinstance(verified.request, wire.ReadStateRequest)
        return cbor({"certificate": self.certify(verified.request.paths)})

    def take(self, request_id: bytes, method: str) -> None:
        """Run a call, once for one request id."""
        self.seen_ids.append(request_id)
        if request_id in self.statuses:
            return
        self.runs.append(method)
        if method == "fail":
            status = {
                b"status": b"rejected",
                b"reject_code": leb128.encode(4),
                b"reject_message": b"I will not",
                b"error_code": b"IC0406",
            }
        else:
            status = {b"status": b"replied", b"reply": REPLY}
        self.statuses[request_id] = status

    async def _call(self, ask: Ask, verified: wire.VerifiedRequest) -> web.Response:
        request = verified.request
        assert isinstance(request, wire.CallRequest)
        self.take(verified.request_id, request.method_name)
        if ask.version == "v2":
            return web.Response(status=202)
        path = (b"request_status", verified.request_id)
        return cbor({"status": "replied", "certificate": self.certify([path])})

    def sign_query(self, response, request_id: bytes, *, key=None, timestamp=None):
        return wire.sign_query_response(
            response,
            request_id=request_id,
            timestamp=self.now if timestamp is None else timestamp,
            node_id=self.node_id,
            key=key or self.node,
        ).to_raw()

    def _query(self, verified: wire.VerifiedRequest) -> web.Response:
        request = verified.request
        assert isinstance(request, wire.QueryRequest)
        response: dict = {"status": "replied", "reply": {"arg": REPLY}}
        if request.method_name == "fail":
            response = {"status": "rejected", "reject_code": 5, "reject_message": "trapped"}
        signature = self.sign_query(response, verified.request_id)
        return cbor({**response, "signatures": [signature]})

    async def status(self, _: web.Request) -> web.Response:
        if self.status_body is not None:
            return web.Response(body=self.status_body)
        return cbor({"root_key": self.root.public_key_der, "replica_health_status": "healthy"})


def cbor(value) -> web.Response:
    return web.Response(body=wire.encode(value), content_type="application/cbor")


@pytest.fixture(scope="session")
def keyring() -> tuple[bls.SecretKey, bls.SecretKey]:
    return bls.SecretKey.generate(b"root"), bls.SecretKey.generate(b"subnet")


@pytest.fixture
async def replica(keyring) -> AsyncIterator[Replica]:
    made = Replica(*keyring, keys.Ed25519Key.generate())
    app = web.Application(client_max_size=4 << 20)
    app.router.add_post("/api/{version}/{scope}/{target}/{kind}", made.answer)
    app.router.add_get("/api/v2/status", made.status)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{port}"
    yield made
    await runner.cleanup()


QUICK = Timeouts(
    connect=5 * SECOND,
    request=5 * SECOND,
    call=20 * SECOND,
    first_poll=MILLISECOND,
    longest_poll=5 * MILLISECOND,
    resubmit=50 * MILLISECOND,
)
PATIENT = Retries(attempts=4, first_delay=MILLISECOND, longest_delay=5 * MILLISECOND)


@pytest.fixture
def connect(replica) -> Callable[..., Agent]:
    """Agents of the replica that do not wait long; closed at the end."""

    def make(identity=None, **settings) -> Agent:
        settings.setdefault("timeouts", QUICK)
        settings.setdefault("retries", PATIENT)
        settings.setdefault("root_key", replica.root.public_key_der)
        return Agent(settings.pop("url", replica.url), identity, **settings)

    return make


@pytest.fixture
async def agent(connect) -> AsyncIterator[Agent]:
    async with connect(Identity.generate()) as made:
        yield made


@pytest.fixture
def limits() -> type[Limits]:
    return Limits


@pytest.fixture
def canister() -> Principal:
    return CANISTER


async def _sleep_for_ever(_: Ask) -> None:
    await asyncio.sleep(3600)


@pytest.fixture
def silence() -> Lie:
    return _sleep_for_ever
