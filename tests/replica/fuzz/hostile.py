"""Hostile clients of the HTTP interface: requests made from its schema, and damaged ones.

A request is made as the interface describes it, and then, at one place or another, something is put
that does not belong there: another value in a field, in the envelope, in the address, in Candid, in
JSON, or other bytes. What is changed before signing carries a good signature, so that it gets
further. All follows from a seed. Whoever gets such a request answers with a status and a sentence.
"""

import asyncio
import contextlib
import itertools
import json
import random
import re
import time
from dataclasses import dataclass, field

import cbor2
import wasmtime

from bridge import candid, wire
from bridge.principal import Principal
from bridge.replica.management.types import SIGNATURES
from bridge.wire.delegation import Delegation, SignedDelegation
from bridge.wire.keys import Ed25519Key

SECONDS = 10**9
FIRST = Principal.from_text("bkyz2-fmaaa-aaaaa-qaaaq-cai")
ANSWER_SECONDS = 120
# A module that does a little of everything, whatever its argument.
CANISTER = r"""(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_size" (func $size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (memory 64)
  (func $echo
    (call $copy (i32.const 0) (i32.const 0) (call $size))
    (call $append (i32.const 0) (call $size))
    (call $reply))
  (func (export "canister_update echo") (call $echo))
  (func (export "canister_query peek") (call $echo))
  (func (export "canister_query http_request") (call $echo))
  (func (export "canister_update http_request_update") (call $echo))
  (func (export "canister_update trap") unreachable))"""

STRANGE = [
    None, True, False, -1, 0, 1, 2**31, 2**63, 2**64 - 1, 2**64, 2**200, -(2**70), 1.5,
    float("nan"), float("inf"), "", "x" * 5000, "\0", "\ud7ff\U0010ffff", "aaaaa-aa", b"", b"\4",
    b"\xff" * 29, b"\xff" * 30, bytes(32), b"\0" * 5000, [], {}, [[[[]]]], {"a": {"b": 1}},
    [b"x"] * 2000, [None] * 3, {"": ""}, cbor2.CBORTag(55799, {}), cbor2.CBORTag(2, b"\1"),
]  # fmt: skip
STRANGE_JSON = [
    None, True, -1, 0, 1, 2**63, 10**400, 1.5, "", "x" * 5000, "aaaaa-aa", "\0", [], {}, [[]],
    {"a": 1}, ["ingress", 3], "lose", "response",
]  # fmt: skip
LABELS = [
    b"time", b"subnet", b"canister", b"request_status", b"canister_ranges", b"api_boundary_nodes",
    b"module_hash", b"controllers", b"metadata", b"certified_data", b"public_key", b"node",
    b"metrics", b"type", b"status", b"reply", b"", b"\xff" * 40, bytes(32), b"candid:service",
]  # fmt: skip
METHODS = ["echo", "peek", "trap", "http_request", "http_request_update", "nothing", "", "\0", "ä"]
ALLOWED = frozenset(
    {200, 202, 204, 400, 403, 404, 405, 408, 411, 413, 414, 417, 429, 431, 501, 503}
)
OF_GATEWAY = ALLOWED | {304, 502, 504}
TRACES = (b"Traceback", b'File "')


@dataclass
class Asked:
    """One request.

    Attributes:
        raw: Bytes for the socket in place of the rest.
    """

    method: str
    path: str
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    allowed: frozenset = ALLOWED
    raw: bytes | None = None

    def to_bytes(self, port):
        """The request as it is sent; the connection ends with the answer."""
        if self.raw is not None:
            return self.raw
        headers = {
            "Host": f"127.0.0.1:{port}",
            "Content-Length": str(len(self.body)),
            "Connection": "close",
            **self.headers,
        }
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + self.body


class Hostile:
    """Makes requests.

    Args:
        seed: From which they follow.
    """

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.key = Ed25519Key.from_seed(self.chance.randbytes(32))
        self.sender = Principal.self_authenticating(self.key.public_key_der)
        self.canisters = [FIRST]
        self.subnets = [FIRST]
        self._nonce = itertools.count(1)
        self._kinds = [
            (self._call, 8),
            (self._query, 6),
            (self._read_state, 6),
            (self._management, 5),
            (self._gateway, 4),
            (self._admin, 4),
            (self._address, 2),
            (self._bytes, 3),
        ]

    def next(self):
        """The next request."""
        makers, weights = zip(*self._kinds, strict=True)
        (make,) = self.chance.choices(makers, weights)
        return make()

    # --- parts ----------------------------------------------------------------------------------

    def _often(self, share):
        return self.chance.random() < share

    def content(self, kind, **fields):
        """A good content map."""
        return {
            "request_type": kind,
            "sender": self.sender.raw,
            "ingress_expiry": time.time_ns() + 240 * SECONDS,
            "nonce": next(self._nonce).to_bytes(8, "big"),
            **fields,
        }

    def _damaged(self, data):
        data = bytearray(data or b"\0")
        for _ in range(self.chance.randint(1, 4)):
            at = self.chance.randrange(len(data))
            match self.chance.randrange(5):
                case 0:
                    data[at] = self.chance.randrange(256)
                case 1:
                    data[at] ^= 1 << self.chance.randrange(8)
                case 2:
                    data[at:at] = self.chance.randbytes(self.chance.randint(1, 9))
                case 3:
                    data[at : at + self.chance.randint(1, 9)] = b""
                case _:
                    data[at:at] = data[: self.chance.randint(1, 200)]
            data = data or bytearray(b"\0")
        return bytes(data)

    def _strange_somewhere(self, value, strange):
        """The value with something strange at a random place of it."""
        if isinstance(value, dict) and value and self._often(0.9):
            changed = dict(value)
            name = self.chance.choice(list(value))
            match self.chance.randrange(6):
                case 0:
                    del changed[name]
                case 1:
                    changed["surprise"] = self.chance.choice(strange)
                case _:
                    changed[name] = self._strange_somewhere(value[name], strange)
            return changed
        if isinstance(value, list) and value and self._often(0.8):
            changed = list(value)
            at = self.chance.randrange(len(value))
            if self._often(0.1):
                changed *= 400
            else:
                changed[at] = self._strange_somewhere(value[at], strange)
            return changed
        if isinstance(value, bytes) and self._often(0.3):
            return self._damaged(value)
        return self.chance.choice(strange)

    def _envelope(self, content):
        """The content in an envelope: signed well or ill, by a delegation or not, or damaged."""
        try:
            proof = self.key.sign(wire.REQUEST + wire.request_id(content))
        except Exception:  # noqa: BLE001 - such content cannot be signed, but it can be sent
            proof = self.chance.randbytes(64)
        envelope = {
            "content": content,
            "sender_pubkey": self.key.public_key_der,
            "sender_sig": proof,
        }
        match self.chance.randrange(12):
            case 0:
                envelope["sender_delegation"] = [self._delegation(content)]
            case 1 | 2:
                envelope = self._strange_somewhere(envelope, STRANGE)
            case 3:
                del envelope["sender_pubkey"], envelope["sender_sig"]
            case 4:
                envelope["sender_sig"] = self._damaged(proof)
            case _:
                pass
        try:
            body = cbor2.dumps(envelope)
        except Exception:  # noqa: BLE001 - what has no CBOR is sent as other bytes
            body = self.chance.randbytes(100)
        match self.chance.randrange(8):
            case 0:
                return self._damaged(body)
            case 1:
                return b"\xd9\xd9\xf7" * self.chance.randint(1, 3) + body
            case _:
                return body

    def _delegation(self, content):
        other = Ed25519Key.from_seed(self.chance.randbytes(32))
        given = SignedDelegation.sign(
            Delegation(
                other.public_key_der,
                self.chance.choice([time.time_ns() + 60 * SECONDS, 0, 2**64 - 1]),
                self.chance.choice([None, (FIRST,), tuple(self.canisters) * 600]),
            ),
            self.key,
        ).to_raw()
        return self._strange_somewhere(given, STRANGE) if self._often(0.7) else given

    def _sent(self, kind, versions, content, where=None):
        if self._often(0.6):
            content = self._strange_somewhere(content, STRANGE)
        where = where or f"canister/{self.chance.choice(self.canisters)}"
        headers = {"Content-Type": "application/cbor"}
        if self._often(0.05):
            headers["Content-Type"] = self.chance.choice(["text/plain", "", 'a/b; c="', "*/*"])
        if self._often(0.05):
            headers["Content-Encoding"] = self.chance.choice(["gzip", "br", "deflate", "x"])
        path = f"/api/v{self.chance.choice(versions)}/{where}/{kind}"
        return Asked("POST", path, self._envelope(content), headers)

    def _candid(self):
        match self.chance.randrange(4):
            case 0:
                return b""
            case 1:
                return self.chance.randbytes(self.chance.randrange(200))
            case 2:
                return self._damaged(candid.encode([candid.Nat, candid.Text], [5, "x"]))
            case _:
                return self._http_answer()

    def _http_answer(self):
        """What ``http_request`` might answer."""
        strategy = candid.Variant(
            {"Callback": candid.Record({"callback": candid.Func(), "token": candid.Nat})}
        )
        fields = {
            "status_code": (candid.Nat16, self.chance.choice([0, 100, 200, 204, 304, 404, 65535])),
            "headers": (
                candid.Vec(candid.Record([candid.Text, candid.Text])),
                [
                    self.chance.choice(
                        [("a", "b"), ("a\r\n", "b"), ("content-length", "-1"), ("x", "ä\0")]
                    )
                ],
            ),
            "body": (candid.Blob, self.chance.randbytes(20)),
            "upgrade": (candid.Opt(candid.Bool), self.chance.choice([None, False, True])),
            "streaming_strategy": (
                candid.Opt(strategy),
                self.chance.choice(
                    [
                        None,
                        candid.Case(
                            "Callback", {"callback": candid.FuncRef(FIRST, "peek"), "token": 1}
                        ),
                    ]
                ),
            ),
        }
        if self._often(0.3):
            del fields[self.chance.choice(list(fields))]
        types = candid.Record({name: type_ for name, (type_, _) in fields.items()})
        return candid.encode([types], [{name: value for name, (_, value) in fields.items()}])

    # --- requests -------------------------------------------------------------------------------

    def _call(self):
        content = self.content(
            "call",
            canister_id=self.chance.choice(self.canisters).raw,
            method_name=self.chance.choice(METHODS),
            arg=self._candid(),
        )
        where = f"subnet/{self.chance.choice(self.subnets)}" if self._often(0.05) else None
        return self._sent("call", (4,) if where else (2, 3, 4), content, where)

    def _query(self):
        content = self.content(
            "query",
            canister_id=self.chance.choice(self.canisters).raw,
            method_name=self.chance.choice(METHODS),
            arg=self._candid(),
        )
        where = f"subnet/{self.chance.choice(self.subnets)}" if self._often(0.05) else None
        return self._sent("query", (3,) if where else (2, 3), content, where)

    def _read_state(self):
        where = self.chance.choice(self.canisters)
        names = [name.raw for name in self.canisters + self.subnets]
        known = [
            [b"time"],
            [b"subnet"],
            [b"canister", where.raw, b"module_hash"],
            [b"canister", where.raw, b"metadata", b"candid:service"],
            [b"request_status", self.chance.randbytes(32), b"status"],
            [b"canister_ranges", self.chance.choice(self.subnets).raw],
            [b"subnet", self.chance.choice(self.subnets).raw, b"metrics"],
        ]
        paths = [
            self.chance.choice(known)
            if self._often(0.7)
            else [
                self.chance.choice(LABELS + names)
                for _ in range(self.chance.choice([0, 1, 2, 3, 4, 127, 128]))
            ]
            for _ in range(self.chance.choice([0, 1, 1, 2, 5]))
        ]
        subnet = f"subnet/{self.chance.choice(self.subnets)}"
        content = self.content("read_state", paths=paths)
        return self._sent(
            "read_state", (2, 3), content, subnet if self._often(0.3) else f"canister/{where}"
        )

    def _management(self):
        name = self.chance.choice(list(SIGNATURES))
        codec = SIGNATURES[name].argument
        arg = b"DIDL\0\0"
        if codec is not None:
            with contextlib.suppress(candid.CandidError):
                values = candid.random_values(codec.types, self.chance, depth=4, size=4)
                if values and isinstance(values[0], dict) and "canister_id" in values[0]:
                    values[0]["canister_id"] = self.chance.choice(self.canisters)
                arg = codec.encode(*values)
        if self._often(0.3):
            arg = self._damaged(arg)
        content = self.content("call", canister_id=b"", method_name=name, arg=arg)
        kind = "query" if self._often(0.2) else "call"
        content["request_type"] = kind
        where = f"canister/{self.chance.choice(self.canisters)}"
        return Asked(
            "POST",
            f"/api/v{self.chance.choice((2, 3))}/{where}/{kind}",
            self._envelope(content),
            {"Content-Type": "application/cbor"},
        )

    def _gateway(self):
        canister = self.chance.choice([*self.canisters, "aaaaa-aa", "nonsense", "x" * 70, "..", ""])
        path = self.chance.choice(
            ["/", "/a?b=c", "/%00", "/%ff%zz", "//x//", "/" + "a/" * 500, "*"]
        )
        headers = {"Host": f"{canister}.localhost:1"}
        if self._often(0.4):
            headers = {}
            path += ("&" if "?" in path else "?") + f"canisterId={canister}"
        headers[self.chance.choice(["X-A", "Range", "Expect", "Cookie"])] = self.chance.choice(
            ["b", "ä", "bytes=0-", "x" * 3000]
        )
        method = self.chance.choice(["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "TRACE"])
        return Asked(method, path, self._http_answer(), headers, OF_GATEWAY)

    def _admin(self):
        bodies = {
            "/_admin/faults": {
                "action": self.chance.choice(["lose", "reject", "delay", "reorder"]),
                "kinds": ["request"], "from": "aaaaa-aa", "method": "m", "contains": "ff", "nth": 1,
            },
            "/_admin/chances": {"seed": 1, "lose": 0, "delay": 1, "longest_delay": 5},
            "/_admin/time": {"advance": 5},
            "/_admin/fees": {"charge": False},
            "/_admin/restore": {"id": "snapshot-0"},
        }  # fmt: skip
        if self._often(0.2):
            number = self.chance.choice(["0", "-1", "x", "9" * 400, "%00", "5"])
            path = self.chance.choice(
                ["/_admin/messages?after=", "/_admin/queues?most=", "/_admin/call_contexts?most="]
            )
            return Asked("GET", path + number)
        path = self.chance.choice(list(bodies))
        # Faults that fit nothing that others do: those of these tests must not be struck.
        body = self._strange_somewhere(bodies[path], STRANGE_JSON)
        if path == "/_admin/faults" and isinstance(body, dict):
            body["to"] = "2vxsx-fae"
        if path == "/_admin/chances" and isinstance(body, dict):
            body["to"] = "2vxsx-fae"
        if path == "/_admin/time" and isinstance(body, dict) and self._moves(body.get("advance")):
            body["advance"] = 1
        if path == "/_admin/time" and isinstance(body, dict):
            body.pop("pause", None)
        if path == "/_admin/fees":
            body = {"charge": self.chance.choice([1, None, "x"])}
        data = json.dumps(body).encode()
        if self._often(0.2):
            data = self.chance.choice([b"", b"{", b"\xff", b"[" * 100_000, data + b"}"])
        method = "POST" if self._often(0.9) else self.chance.choice(["GET", "PUT", "DELETE"])
        return Asked(method, path, data, {"Content-Type": "application/json"})

    @staticmethod
    def _moves(value):
        return type(value) is int and value > SECONDS

    def _address(self):
        parts = [
            "api", "v2", "v3", "v4", "v9", "canister", "subnet", str(FIRST), "call", "query",
            "read_state", "status", "_admin", "%2e%2e", "..", "", "\u00e4", "%", "x" * 9000,
        ]  # fmt: skip
        path = "/" + "/".join(self.chance.choice(parts) for _ in range(self.chance.randint(1, 6)))
        method = self.chance.choice(["GET", "POST", "PUT", "OPTIONS", "HEAD", "PATCH", "BREW"])
        return Asked(method, path, self.chance.randbytes(self.chance.choice([0, 5])))

    def _bytes(self):
        """A request that is damaged as bytes of HTTP."""
        whole = self.chance.choice([self._query, self._gateway, self._admin])().to_bytes(1)
        head, _, body = whole.partition(b"\r\n\r\n")
        raw = self._damaged(head) + b"\r\n\r\n" + body
        if self._often(0.3):
            raw = raw[: self.chance.randrange(len(raw)) + 1]
        if self._often(0.1):
            raw = self.chance.randbytes(self.chance.randrange(1, 500))
        return Asked("", "", raw=raw, allowed=OF_GATEWAY)


class WrongAnswerError(AssertionError):
    """An answer that no request may get; the request is told with it."""


async def answer_to(asked, port):
    """Send one request on a connection of its own; status (0 without an answer) and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(OSError):  # it may have closed the connection by now
            writer.write(asked.to_bytes(port))
            await writer.drain()
            writer.write_eof()
        try:
            data = await asyncio.wait_for(reader.read(), ANSWER_SECONDS)
        except ConnectionError:
            data = b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
    return (int(found[1]) if found else 0), body


async def attack(hostile, port, count):
    """Send so many requests, eight at a time.

    Raises:
        WrongAnswerError: If one of them gets an answer that it must not get.
    """
    turn = asyncio.Semaphore(8)

    async def one(asked):
        async with turn:
            try:
                status, body = await answer_to(asked, port)
            except TimeoutError:
                status, body = -1, b"no answer in time"
        fine = status in asked.allowed or (asked.raw is not None and not status)
        if not fine or any(trace in body for trace in TRACES):
            raise WrongAnswerError(
                f"{status} {body[:300]!r} was the answer to {asked.to_bytes(port)[:2000]!r}"
            )
        return status

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(hostile.next())) for _ in range(count)]
    return [task.result() for task in tasks]


def module():
    """The canister to attack."""
    return bytes(wasmtime.wat2wasm(CANISTER))
