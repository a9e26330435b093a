"""A subnet without HTTP and threads, the universal canister, and a bare client of the interface."""

import asyncio
import importlib.util
import itertools
import threading
import time
from functools import cache, partial
from pathlib import Path

import aiohttp
import pytest

from bridge import wire
from bridge.candid import Case
from bridge.principal import Principal
from bridge.replica import Replica
from bridge.replica.execution.run import Run
from bridge.replica.http import api
from bridge.replica.management import handle, ingress_filter
from bridge.replica.management import query as management_query
from bridge.replica.management.types import SIGNATURES
from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.machine import Limits, Machine
from bridge.replica.scheduler.queries import inspect, query
from bridge.replica.state.messages import FROM_SYSTEM, FromUser, Reject, Reply, Request
from bridge.replica.state.requests import RequestRecord
from bridge.replica.state.subnet import Subnet
from bridge.wire.keys import Ed25519Key


def _beside(name):
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(
        f"replica_{name}", Path(__file__).parent / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_universal = _beside("universal")
_story = _beside("story")

USER = Principal.self_authenticating(b"a user")
MANAGEMENT = Principal.management()
MINUTE = 60 * 1_000_000_000
NO_SETTINGS = dict.fromkeys(
    (
        "controllers", "compute_allocation", "memory_allocation", "freezing_threshold",
        "reserved_cycles_limit", "log_visibility", "wasm_memory_limit", "wasm_memory_threshold",
        "environment_variables", "minimum_incoming_canister_call_cycles", "log_memory_limit",
        "snapshot_visibility", "status_visibility",
    )
)  # fmt: skip


@cache
def _universal_wasm(memory64):
    return _universal.universal(memory64=memory64)


class Driver:
    """A machine whose rounds run when a test says so.

    With ``virtual`` time stands still at ``START``, until it is moved.
    """

    START = 1_700_000_000_000_000_000

    def __init__(self, *, virtual=False, **limits):
        self.machine = Machine(
            Subnet(seed=b"test"),
            Clock(self.START if virtual else None),
            handle,
            management_query,
            Limits(**{"update": 100_000_000, "query": 50_000_000, **limits}),
        )
        self.machine.log.enabled = True
        self._requests = itertools.count(1)

    @property
    def canisters(self):
        return self.machine.subnet.canisters

    def memory(self, canister):
        """Size and globals of a canister's instance, and its pages that are not zero, by place.

        Not which pages exist: that is no part of the state. None where nothing is installed.
        """
        instance = self.machine.sandboxes[canister].instance
        if instance is None:
            return None
        size, parts, values = instance.save()
        pages = {
            at + start: part[start : start + 4096]
            for at, part in parts
            for start in range(0, len(part), 4096)
        }
        return size, values, {at: page for at, page in pages.items() if any(page)}

    def settle(self):
        """Run rounds until nothing is left to do now."""
        with self.machine.lock:
            self.machine.begin_round()
            for _ in range(100_000):
                if not self.machine.has_work():
                    return
                self.machine.execute_next()
        raise AssertionError("the subnet does not come to rest")

    def advance(self, nanoseconds):
        self.machine.clock.advance(nanoseconds)
        self.settle()

    def submit(self, receiver, method, arg=b"", *, sender=USER, expiry=None):
        """Send an ingress message; its record."""
        request_id = next(self._requests).to_bytes(32, "big")
        now = self.machine.clock.now()
        record = RequestRecord(
            request_id, expiry or now + 4 * MINUTE, sender.raw, receiver.raw, receiver.raw
        )
        request = Request(FromUser(request_id), sender, receiver, method, bytes(arg))
        with self.machine.lock:
            self.machine.time = now
            refuse = inspect if receiver.raw else ingress_filter
            refusal = refuse(self.machine, request)
            if refusal is not None:
                record.payload = refusal
            else:
                self.machine.submit(record, request)
        return record

    def call(self, receiver, method, arg=b"", *, sender=USER):
        """Call and run until quiet; the answer, or None if there is none yet."""
        record = self.submit(receiver, method, arg, sender=sender)
        self.settle()
        return record.payload

    def update(self, receiver, program, *, sender=USER):
        """Run a program in the universal canister; the reply's bytes."""
        answer = self.call(receiver, "update", program, sender=sender)
        assert isinstance(answer, Reply), answer
        return answer.data

    def reject(self, receiver, program, *, sender=USER):
        """Run a program that must end in a reject; the reject."""
        answer = self.call(receiver, "update", program, sender=sender)
        assert isinstance(answer, Reject), answer
        return answer

    def query(self, receiver, program, *, method="query", sender=USER):
        return query(self.machine, Request(FROM_SYSTEM, sender, receiver, method, bytes(program)))

    def manage(self, method, value=None, *, sender=USER):
        """Call the management canister; the decoded result."""
        answer = self.manage_raw(method, value, sender=sender)
        assert isinstance(answer, Reply), answer
        result = SIGNATURES[method].result
        return None if result is None else result.decode(answer.data)[0]

    def manage_raw(self, method, value=None, *, sender=USER):
        signature = SIGNATURES[method]
        arg = b"DIDL\0\0" if signature.argument is None else signature.argument.encode(value)
        return self.call(MANAGEMENT, method, arg, sender=sender)

    def update_settings(self, canister, **settings):
        return self.manage_raw(
            "update_settings",
            {
                "canister_id": canister,
                "settings": {**NO_SETTINGS, **settings},
                "sender_canister_version": None,
            },
        )

    def create(self, wasm=None, arg=b"\0", *, settings=None, cycles=None, name=None):
        """A new canister, with the module installed if one is given."""
        made = self.manage(
            "provisional_create_canister_with_cycles",
            {
                "amount": cycles,
                "settings": None if settings is None else {**NO_SETTINGS, **settings},
                "specified_id": name,
                "sender_canister_version": None,
            },
        )["canister_id"]
        if wasm is not None:
            self.install(made, wasm, arg)
        return made

    def install_raw(self, canister, wasm, arg=b"\0", *, mode="install", options=None, sender=USER):
        return self.manage_raw(
            "install_code",
            {
                "mode": Case(mode, options) if mode == "upgrade" else Case(mode),
                "canister_id": canister,
                "wasm_module": wasm,
                "arg": bytes(arg),
                "sender_canister_version": None,
            },
            sender=sender,
        )

    def install(self, canister, wasm, arg=b"\0", **options):
        answer = self.install_raw(canister, wasm, arg, **options)
        assert isinstance(answer, Reply), answer


@pytest.fixture
def driver():
    return Driver()


@pytest.fixture
def make_driver():
    return Driver


@pytest.fixture
def make_virtual():
    """Makes drivers whose time stands still, all at one moment."""
    return partial(Driver, virtual=True)


@pytest.fixture
def virtual(make_virtual):
    return make_virtual()


@pytest.fixture
def program():
    """Starts a program for the universal canister."""
    return _universal.Program


@pytest.fixture
def make_story():
    """Makes random lives of a subnet."""
    return _story.Story


@pytest.fixture
def universal_wasm():
    """The universal canister's Wasm, by pointer width."""
    return _universal_wasm


@pytest.fixture(scope="session")
def universal_module():
    """Builds a universal canister with more in it."""
    return _universal.universal


@pytest.fixture(params=[True, False], ids=["64-bit", "32-bit"])
def wasm(request):
    """The universal canister, once for each pointer width."""
    return _universal_wasm(request.param)


@pytest.fixture
def canister(driver, wasm):
    """A universal canister on the driver."""
    return driver.create(wasm)


@pytest.fixture
def other(driver, wasm):
    """A second one."""
    return driver.create(wasm)


class Client:
    """Speaks the HTTP interface by hand, so that tests can send what an agent never would."""

    no_settings = NO_SETTINGS

    def __init__(self, replica, session):
        self.replica = replica
        self.session = session
        self.key = Ed25519Key.from_seed(bytes(32))
        self.sender = Principal.self_authenticating(self.key.public_key_der)
        self._nonce = itertools.count(1)

    def content(self, request_type, **fields):
        return {
            "request_type": request_type,
            "sender": self.sender.raw,
            "ingress_expiry": time.time_ns() + 4 * MINUTE,
            "nonce": next(self._nonce).to_bytes(8, "big"),
            **fields,
        }

    def signed(self, content):
        return wire.Envelope.sign(content, self.key).to_cbor()

    async def post(self, path, body, *, content_type="application/cbor"):
        """Status, and the body: decoded if it is CBOR, else as text."""
        async with self.session.post(
            self.replica.url + path, data=body, headers={"Content-Type": content_type}
        ) as response:
            data = await response.read()
            if response.content_type == "application/cbor":
                return response.status, wire.decode(data, "an answer", ValueError)
            return response.status, data.decode()

    async def call(self, canister, method, arg=b"", *, version=4, effective=None, content=None):
        content = content or self.content(
            "call", canister_id=canister.raw, method_name=method, arg=bytes(arg)
        )
        where = effective or canister
        status, body = await self.post(
            f"/api/v{version}/canister/{where}/call", self.signed(content)
        )
        return status, body, wire.request_id(content)

    async def certified(self, canister, method, arg=b"", *, effective=None):
        """Call, verify the certificate, and return a lookup in the request's status."""
        status, body, request_id = await self.call(canister, method, arg, effective=effective)
        assert status == 200, body
        assert body["status"] == "replied", body
        certificate = wire.Certificate.from_cbor(body["certificate"])
        certificate.verify(self.replica.root_key, effective or canister, now=time.time_ns())
        return lambda name: certificate.value((b"request_status", request_id, name))

    async def manage(self, method, value, *, effective):
        signature = SIGNATURES[method]
        status = await self.certified(
            MANAGEMENT, method, signature.argument.encode(value), effective=effective
        )
        assert status(b"status") == b"replied", status(b"reject_message")
        reply = status(b"reply")
        return None if signature.result is None else signature.result.decode(reply)[0]

    async def create(self, wasm=None, arg=b"\0"):
        made = await self.manage(
            "provisional_create_canister_with_cycles",
            {
                "amount": None,
                "settings": None,
                "specified_id": None,
                "sender_canister_version": None,
            },
            effective=Principal.from_text("bkyz2-fmaaa-aaaaa-qaaaq-cai"),
        )
        canister = made["canister_id"]
        if wasm is not None:
            await self.manage(
                "install_code",
                {
                    "mode": Case("install"),
                    "canister_id": canister,
                    "wasm_module": wasm,
                    "arg": bytes(arg),
                    "sender_canister_version": None,
                },
                effective=canister,
            )
        return canister

    async def query(self, canister, method, arg=b"", *, version=3):
        content = self.content(
            "query", canister_id=canister.raw, method_name=method, arg=bytes(arg)
        )
        status, body = await self.post(
            f"/api/v{version}/canister/{canister}/query", self.signed(content)
        )
        return status, body, wire.request_id(content)

    async def read_state(self, canister, paths, *, version=3, kind="canister"):
        content = self.content("read_state", paths=[list(path) for path in paths])
        status, body = await self.post(
            f"/api/v{version}/{kind}/{canister}/read_state", self.signed(content)
        )
        if status != 200:
            return status, body
        return status, wire.Certificate.from_cbor(body["certificate"])

    async def admin(self, method, path, **options):
        async with self.session.request(
            method, f"{self.replica.url}/_admin{path}", **options
        ) as response:
            if response.status != 200:
                return response.status, await response.text()
            return response.status, await response.json()


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Let calls be waited for however busy the machine is; who tests that says less."""
    monkeypatch.setattr(api, "SYNC_CALL_SECONDS", 120.0)


class Hold:
    """Keeps an execution where it prints ``Hold.WORD``, until it is let go, however long that is.

    So a test says what happens during an execution, and does not hope that it lasts long enough.
    """

    WORD = b"hold here"
    PATIENCE = 240

    def __init__(self):
        self._reached, self._let_go = threading.Event(), threading.Event()

    def printed(self, content):
        # The event loop, which tries queries at first, cannot be kept.
        if content == self.WORD and threading.current_thread() is not threading.main_thread():
            self._reached.set()
            assert self._let_go.wait(self.PATIENCE)

    def wait(self):
        """Wait until an execution is kept; whether one is."""
        return self._reached.wait(self.PATIENCE)

    async def reached(self):
        """Wait until an execution is kept."""
        assert await asyncio.to_thread(self.wait)

    def let_go(self):
        """Let it go on, and all that come later."""
        self._let_go.set()


@pytest.fixture
def hold(monkeypatch):
    made = Hold()
    plain = Run.print

    def printed(run, content):
        made.printed(content)
        plain(run, content)

    monkeypatch.setattr(Run, "print", printed)
    yield made
    made.let_go()


@pytest.fixture
def make_client():
    """Makes clients of something with ``url`` and ``root_key``."""
    return Client


@pytest.fixture
async def replica():
    async with Replica(
        admin=True, seed="test", limits=Limits(update=2_000_000_000, query=1_000_000_000)
    ) as running:
        yield running


@pytest.fixture
async def client(replica):
    async with aiohttp.ClientSession() as session:
        yield Client(replica, session)
        await asyncio.sleep(0)
