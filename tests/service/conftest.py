"""A stand-in for the agent and the canisters behind it, which hang and fail on demand.

For what a real canister cannot be made to do at a chosen moment. Bridges meet real ones in the
end-to-end tests.
"""

import asyncio
import dataclasses

import pytest

from bridge import candid, contracts, dialects
from bridge.dialects.unified import MESSAGE_TYPE, from_case, to_case
from bridge.flow import Ack, Fin, New, payload_hash
from bridge.principal import Principal
from bridge.reference import SHORT_POLICY, contract_method
from bridge.service import Bridge

CANISTER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
_PAGE = candid.Codec([candid.Vec(candid.Record({"seq": candid.Nat64, "message": MESSAGE_TYPE}))])
_SEQ = candid.Codec([candid.Nat64])
MAILBOX = Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")
_SETTINGS = ["owner", "peers", "closed", "messages", "bytes", "messages_per_caller"]
_SETTINGS += ["bytes_per_caller"]


def _mailbox(method):
    """The codecs of arguments and results of one of a mailbox's methods."""
    found = contract_method("mailbox", method)
    return candid.Codec(found.args), candid.Codec(found.results)


class Peer:
    """An agent whose calls go to one canister, which echoes each NEW's payload.

    Calls of messages to any other canister never end; the outboxes of those are empty. The mailbox
    forwards to that canister, and keeps what it has for the agent.

    Attributes:
        principal: The agent's own.
        canister_id: The canister's.
        got: Messages that reached the canister.
        refuse: Called with each message; where it returns an error, the caller gets that and the
            canister nothing.
        answers: Whether NEWs are answered.
        takes: Seconds that a message takes.
    """

    def __init__(self):
        self.principal = Principal.self_authenticating(b"the agent's key")
        self.canister_id = CANISTER
        self.got = []
        self.refuse = lambda _message: None
        self.answers = True
        self.takes = 0
        self._outbox = []
        self._seq = 0

    def put(self, message):
        """Leave a message for the agent."""
        self._seq += 1
        self._outbox.append((self._seq, message))

    def kinds(self, msg_id):
        return [type(message) for message in self.got if message.msg_id == msg_id]

    async def metadata(self, _canister_id, _name):
        return contracts.interface("unified").encode()

    async def query(self, canister_id, method, _arg):
        await asyncio.sleep(0)
        if canister_id == MAILBOX:
            return self._of_mailbox(method)
        assert method == "asyncFlow_outbox"
        if canister_id != CANISTER:
            return _PAGE.encode([])
        rows = [{"seq": seq, "message": to_case(message)} for seq, message in self._outbox]
        return _PAGE.encode(rows)

    def _of_mailbox(self, method):
        if method == "mailbox_status":
            settings = dict.fromkeys(_SETTINGS) | {"owner": self.principal}
            status = {"settings": settings, "waiting": 0, "bytes": 0, "counters": []}
            return _mailbox(method)[1].encode(status)
        assert method == "mailbox_outbox"
        rows = [
            {
                "seq": seq,
                "from": CANISTER,
                "dialect": candid.Case("maf"),
                "message": to_case(message),
            }
            for seq, message in self._outbox
        ]
        return _mailbox(method)[1].encode(rows)

    async def update(self, canister_id, method, arg):
        if canister_id == MAILBOX and method == "mailbox_outbox":
            return await self.query(canister_id, method, arg)
        if canister_id == MAILBOX and method == "mailbox_send":
            args, results = _mailbox(method)
            (request,) = args.decode(arg)
            assert request["to"] == CANISTER
            await self._receive(from_case(request["message"]))
            return results.encode(candid.Case("sent"))
        if method == "mailbox_outbox_trim":
            canister_id, method = CANISTER, "asyncFlow_outbox_trim"
        if canister_id != CANISTER:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if method == "asyncFlow_outbox":
            return await self.query(canister_id, method, arg)
        if method == "asyncFlow_outbox_trim":
            (last,) = _SEQ.decode(arg)
            self._outbox = [entry for entry in self._outbox if entry[0] > last]
            return b"DIDL\x00\x00"
        await self._receive(dialects.get("unified").message_from(method, arg))
        return b"DIDL\x00\x00"

    async def _receive(self, message):
        await asyncio.sleep(self.takes)
        if (error := self.refuse(message)) is not None:
            raise error
        self.got.append(message)
        if isinstance(message, New) and self.answers:
            self.put(Ack(message.msg_id, message.payload, payload_hash(message.payload)))
        if isinstance(message, Ack):
            self.put(Fin(message.msg_id, payload_hash(message.payload)))


@pytest.fixture
def peer():
    return Peer()


@pytest.fixture(params=["outbox", "mailbox"])
def way(request):
    """How a bridge is reached: options for it."""
    return {} if request.param == "outbox" else {"mailbox": MAILBOX}


@pytest.fixture
def make_peer():
    """Makes further stand-ins."""
    return Peer


@pytest.fixture
def another_peer():
    """The same canister, seen by an agent of another name."""
    other = Peer()
    other.principal = Principal.self_authenticating(b"another key")
    return other


@pytest.fixture
def bridge_to(peer):
    """Makes a bridge to the stand-in, with short waits."""

    def make(store, *, agent=peer, **options):
        options.setdefault("policy", dataclasses.replace(SHORT_POLICY, echo_min=1))
        options.setdefault("poll_every", 0.001)
        return Bridge(agent, store, **options)

    return make


@pytest.fixture
def until():
    """Waits for a condition that a running bridge brings about."""

    async def wait(condition):
        async with asyncio.timeout(120):
            while not condition():  # noqa: ASYNC110 - it watches a stand-in
                await asyncio.sleep(0.001)

    return wait
