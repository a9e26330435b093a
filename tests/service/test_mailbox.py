"""A bridge with a mailbox, among real canisters that know nothing of outboxes."""

import asyncio
import contextlib
import dataclasses
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from bridge import candid, contracts
from bridge.agent import Agent, Identity
from bridge.errors import (
    CallRejectedError,
    FlowFailedError,
    LocalProtocolError,
    StoreError,
    UsageError,
)
from bridge.flow import Cycles, New, NotSent, Rejected, Role, Telling, Transmit
from bridge.flow.policy import PeerPolicy
from bridge.network import Network, start_canister, stop_canister
from bridge.principal import Principal
from bridge.reference import SHORT_POLICY, SHORT_WAITS, ReferenceCanister
from bridge.reference.contract import contract_method, install_types
from bridge.service import DEFERRED, Bridge, mailbox_argument
from bridge.service.mailbox import Mailbox
from bridge.service.transmitter import Handed, Transmitter
from bridge.store import MemoryStore, SQLiteStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECOND = 1_000_000_000
DIALECTS = ["unified", "maf", "bounty", "positional"]
LANGUAGES = ["motoko", "rust"]
NOBODY = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


@dataclass(frozen=True)
class Place:
    """A replica, an agent that controls what is on it, and the agent's mailbox."""

    network: Network
    agent: Agent
    mailbox: Principal

    async def deploy(self, language, name, *, dialect=None, **settings) -> ReferenceCanister:
        """A canister that opens flows to the mailbox in a dialect."""
        row = dict.fromkeys(["null_ack", "ids", "batch", "attach_cycles"])
        row |= {"peer": self.mailbox, "dialect": dialect and candid.Case(dialect)}
        value = {"settings": SHORT_WAITS | settings, "access": None, "peers": [row]}
        argument = candid.Codec(install_types("settings")).encode(value)
        wasm = getattr(contracts, f"{language}_canister")(name)
        return ReferenceCanister(self.agent, await self.network.deploy(self.agent, wasm, argument))

    async def both(self, language, dialect, **settings) -> ReferenceCanister:
        """A sender and receiver that serves a dialect."""
        name = "both" if dialect == "unified" else f"both_{dialect}"
        return await self.deploy(language, name, dialect=dialect, **settings)

    async def new_mailbox(self, owner, **options) -> Principal:
        wasm = contracts.rust_canister("mailbox")
        return await self.network.deploy(self.agent, wasm, mailbox_argument(owner, **options))

    async def status(self) -> Any:
        types = contract_method("mailbox", "mailbox_status")
        reply = await self.agent.query(
            self.mailbox, "mailbox_status", candid.encode(types.args, [])
        )
        (status,) = candid.decode(types.results, reply)
        return status

    @contextlib.asynccontextmanager
    async def bridge(self, store=None, **options):
        """A bridge with short waits, through the mailbox."""
        options.setdefault("policy", SHORT_POLICY)
        options.setdefault("poll_every", 0.05)
        options.setdefault("mailbox", self.mailbox)
        async with contextlib.AsyncExitStack() as held:
            store = store or await held.enter_async_context(MemoryStore())
            agent = options.pop("agent", self.agent)
            yield await held.enter_async_context(Bridge(agent, store, **options))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place():
    async with (
        Network.embedded(admin=True) as network,
        network.agent(Identity.generate()) as agent,
    ):
        argument = mailbox_argument(agent.principal)
        wasm = contracts.rust_canister("mailbox")
        yield Place(network, agent, await network.deploy(agent, wasm, argument))


async def until(ask, *, within=120.0):
    """The first answer that is true."""
    async with asyncio.timeout(within):
        while not (answer := await ask()):  # noqa: ASYNC110 - it polls another process
            await asyncio.sleep(0.02)
        return answer


async def reaches(canister, role, msg_id, state):
    async def there():
        view = await canister.flow(role, msg_id)
        return view is not None and view["state"].label == state

    await until(there)


async def stored_as(ask, state):
    async def there():
        record = await ask()
        return record is not None and record.state == state

    await until(there)


async def echo(request):
    return request.payload


# --- Each dialect, each language, both ways ------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_foreign_receiver_answers_and_both_sides_end(place, language, dialect):
    receiver = await place.both(language, dialect)
    async with MemoryStore() as store, place.bridge(store) as bridge:
        msg_id = await bridge.post(receiver.canister_id, b"hello", dialect=dialect)
        response = await asyncio.wait_for(bridge.response(msg_id), 120)
        assert response is not None
        await stored_as(lambda: store.sender_flow(msg_id), "acknowledged")
        await reaches(receiver, "receiver", msg_id, "finished")
        assert await receiver.handled(place.mailbox, msg_id) == 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_foreign_sender_is_answered_and_both_sides_end(place, language, dialect):
    sender = await place.both(language, dialect)
    seen = []

    async def handler(request):
        if request.peer == sender.canister_id:  # others may repeat what an earlier test left
            seen.append(request)
        return b"done"

    async with MemoryStore() as store, place.bridge(store, handler=handler):
        msg_id = await sender.send(place.mailbox, b"please")
        outcome = await until(lambda: sender.outcome(msg_id))
        assert outcome == candid.Case("answered", {"response": b"done", "late": False})
        await reaches(sender, "sender", msg_id, "acknowledged")
        await stored_as(lambda: store.receiver_flow(sender.canister_id, msg_id), "finished")
        (request,) = seen
        assert request.payload == b"please"
        record = await store.receiver_flow(sender.canister_id, msg_id)
        assert record.dialect == dialect


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_null_response_is_null_or_what_the_dialect_has_for_it(place, dialect):
    async def handler(_request):
        return None

    sender = await place.both("motoko", dialect)
    async with place.bridge(handler=handler):
        msg_id = await sender.send(place.mailbox, b"please")
        outcome = await until(lambda: sender.outcome(msg_id))
        assert outcome.value["response"] == (None if dialect == "unified" else b"")


async def test_two_programs_speak_through_two_mailboxes(place):
    async with place.network.agent(Identity.generate()) as other:
        theirs = await place.new_mailbox(other.principal)
        async with (
            place.bridge(handler=echo, agent=other, mailbox=theirs) as receiver,
            place.bridge(handler=echo) as sender,
        ):
            payload = bytes(range(256)) * 5_000
            assert await sender.send(theirs, payload) == payload
            assert await receiver.send(place.mailbox, b"and back") == b"and back"
            many = [sender.send(theirs, b"%d" % n) for n in range(100)]
            assert await asyncio.gather(*many) == [b"%d" % n for n in range(100)]


async def test_the_mailbox_is_empty_once_its_messages_were_taken(place):
    receiver = await place.both("motoko", "unified")
    async with place.bridge() as bridge:
        await bridge.send(receiver.canister_id, b"x")

        async def empty():
            return (await place.status())["waiting"] == 0

        await until(empty)


# --- Losses, stops, crashes ----------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["unified", "maf"])
@pytest.mark.parametrize("kind", ["NEW", "ACK", "FIN"])
async def test_a_lost_message_is_repeated_and_the_work_done_once(place, dialect, kind):
    receiver = await place.both("rust", dialect)
    way = {"sender": place.mailbox, "receiver": receiver.canister_id}
    if kind == "ACK":
        way = {"sender": receiver.canister_id, "receiver": place.mailbox}
    nth = 2 if kind == "FIN" else 1
    await place.network.admin.lose(**way, nth=nth)
    async with MemoryStore() as store, place.bridge(store) as bridge:
        msg_id = await bridge.post(receiver.canister_id, b"hello", dialect=dialect)
        assert await asyncio.wait_for(bridge.response(msg_id), 120) is not None
        await reaches(receiver, "receiver", msg_id, "finished")
        assert await receiver.handled(place.mailbox, msg_id) == 1


async def test_a_stopped_mailbox_delays_and_decides_nothing(place):
    mailbox = await place.new_mailbox(place.agent.principal)
    receiver = await place.both("motoko", "unified")
    await stop_canister(place.agent, mailbox)
    async with MemoryStore() as store, place.bridge(store, mailbox=mailbox) as bridge:
        msg_id = await bridge.post(receiver.canister_id, b"hello")

        async def tried_twice():
            return (await store.sender_flow(msg_id)).attempts > 1

        await until(tried_twice)
        await start_canister(place.agent, mailbox)
        assert await asyncio.wait_for(bridge.response(msg_id), 120) is not None
        assert await receiver.handled(mailbox, msg_id) == 1


async def test_a_peer_that_is_not_there_is_unknown_for_the_mailbox_cannot_tell(place):
    policy = dataclasses.replace(
        SHORT_POLICY, attempts=2, first_retry=1_300_000_000, max_delay=1_300_000_000
    )
    async with place.bridge(policy=policy) as bridge:
        with pytest.raises(FlowFailedError) as caught:
            await bridge.send(NOBODY, b"hello")
    assert caught.value.failure == "unknown"


async def test_what_the_mailbox_cannot_forward_certainly_never_left(place):
    receiver = await place.both("motoko", "unified")
    now = time.time_ns()
    policy = dataclasses.replace(
        SHORT_POLICY,
        peers={receiver.canister_id: PeerPolicy(attach_cycles=Cycles(new=10**30))},
    )
    async with place.bridge(policy=policy, clock=lambda: now, by_hand=True) as bridge:
        msg_id = await bridge.post(receiver.canister_id, b"hello")
        await bridge.step()
        now += policy.lifetime  # while no try is under way
        await bridge.step()
        with pytest.raises(FlowFailedError) as caught:
            await bridge.response(msg_id)
    assert caught.value.certainly_not_done


async def test_cycles_go_along_where_they_are_configured(place):
    price = 1_000_000
    priced = await place.deploy("rust", "priced", min_cycles=price)
    paying = PeerPolicy(attach_cycles=Cycles(new=price))
    policy = dataclasses.replace(SHORT_POLICY, peers={priced.canister_id: paying})
    async with place.bridge(policy=policy) as bridge:
        assert await asyncio.wait_for(bridge.send(priced.canister_id, b"hello"), 120) is not None
    short = dataclasses.replace(SHORT_POLICY, lifetime=1 * SECOND)
    async with place.bridge(policy=short) as bridge:
        with pytest.raises(FlowFailedError):
            await bridge.send(priced.canister_id, b"hello", msg_id=1)
    assert await priced.handled(place.mailbox, 1) == 0


KILLED = """
import asyncio, sys
from pathlib import Path
from bridge import Agent, Bridge, Identity, Principal, SQLiteStore
from bridge.reference import SHORT_POLICY
from bridge.service import DEFERRED

async def handle(request):
    print(request.msg_id, flush=True)
    return DEFERRED

async def main(url, root_key, pem, database, mailbox, peer):
    identity = Identity.from_pem(Path(pem))
    async with (
        Agent(url, identity=identity, root_key=bytes.fromhex(root_key)) as agent,
        SQLiteStore(database) as store,
        Bridge(
            agent, store, mailbox=Principal.from_text(mailbox), policy=SHORT_POLICY,
            poll_every=0.05, handler=handle,
        ) as bridge,
    ):
        if peer:
            for _ in range(20):
                print(await bridge.post(Principal.from_text(peer), b"hello"), flush=True)
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


async def process_to_be_killed(place, folder, peer=""):
    """The program above, with the place's identity, on ``flows.db`` in a folder."""
    pem = folder / "identity.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(place.agent.identity.to_pem())
    args = [place.network.url, place.network.root_key.hex(), pem, folder / "flows.db"]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED,
        *[str(arg) for arg in (*args, place.mailbox, peer)],
        stdout=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("dialect", ["unified", "maf"])
async def test_kill_9_of_a_sender_loses_no_flow_and_runs_none_twice(place, tmp_path, dialect):
    receiver = await place.both("rust", dialect)
    process = await process_to_be_killed(place, tmp_path, receiver.canister_id)
    opened = [int(await asyncio.wait_for(process.stdout.readline(), 120)) for _ in range(20)]
    process.kill()
    await process.wait()
    async with SQLiteStore(tmp_path / "flows.db") as store, place.bridge(store) as bridge:
        for msg_id in opened:
            try:
                assert await asyncio.wait_for(bridge.response(msg_id), 120) is not None
            except LocalProtocolError as error:  # ended before the kill, with nobody waiting
                assert "taken already" in str(error)  # noqa: PT017 - either end is right
            assert await receiver.handled(place.mailbox, msg_id) == 1


async def test_kill_9_of_a_receiver_loses_no_request(place, tmp_path):
    sender = await place.both("motoko", "maf")
    process = await process_to_be_killed(place, tmp_path)
    msg_id = await sender.send(place.mailbox, b"please")
    async with asyncio.timeout(120):  # others may repeat what an earlier test left
        while int(await process.stdout.readline()) != msg_id:
            pass

    async def trimmed():
        return (await place.status())["waiting"] == 0

    await until(trimmed)  # it was durable before it was taken out of the mailbox
    process.kill()
    await process.wait()
    runs, told = [], []

    async def handler(request):
        if request.peer == sender.canister_id:
            runs.append(request.redelivered)
        return DEFERRED

    async def on_operator(telling):
        if telling.peer == sender.canister_id:
            told.append(telling.what)

    async with (
        SQLiteStore(tmp_path / "flows.db") as store,
        place.bridge(store, handler=handler, on_operator=on_operator) as bridge,
    ):
        record = await store.receiver_flow(sender.canister_id, msg_id)
        if not record.deferred:  # killed before the handler's word was stored
            await until(lambda: asyncio.sleep(0, told))
            assert told == [Telling.STALLED]
        await bridge.answer(sender.canister_id, msg_id, b"as if nothing had been")
        outcome = await until(lambda: sender.outcome(msg_id))
        assert outcome.value["response"] == b"as if nothing had been"
    assert runs == []


# --- Who is who ----------------------------------------------------------------------------------


async def test_another_agents_mailbox_is_refused_at_once(place):
    async with place.network.agent(Identity.generate()) as stranger:
        with pytest.raises(UsageError, match="not this agent's"):
            async with place.bridge(agent=stranger):
                pass
        controlled = await place.new_mailbox(stranger.principal)
        with pytest.raises(UsageError, match=f"belongs to {stranger.principal}"):
            async with place.bridge(mailbox=controlled):
                pass


async def test_what_is_no_mailbox_is_refused_at_once(place):
    canister = await place.both("motoko", "unified")
    for wrong in (NOBODY, canister.canister_id):
        with pytest.raises(UsageError, match="is none"):
            async with place.bridge(mailbox=wrong):
                pass
    with pytest.raises(UsageError, match="no canister"):
        async with place.bridge(mailbox=place.agent.principal):
            pass


async def test_a_bridge_starts_while_the_network_is_away(place):
    with socket.create_server(("127.0.0.1", 0)) as server:  # closed again: nobody listens there
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    async with (
        Agent(url, identity=Identity.generate(), root_key=place.network.root_key) as agent,
        MemoryStore() as store,
        Bridge(agent, store, mailbox=NOBODY, policy=SHORT_POLICY) as bridge,
    ):
        msg_id = await bridge.post(NOBODY, b"hello", dialect="maf")
        assert (await store.sender_flow(msg_id)).state in ("queued", "sending")


async def test_open_flows_go_on_under_the_mailboxs_name_only(place):
    other = await place.new_mailbox(place.agent.principal)
    async with MemoryStore() as store:
        async with place.bridge(store) as bridge:
            await bridge.post(NOBODY, b"hello", dialect="maf")
        for options in ({"mailbox": None}, {"mailbox": other}):
            with pytest.raises(StoreError, match="open flows of"):
                async with place.bridge(store, **options):
                    pass


async def test_strangers_share_half_of_the_room_and_a_listed_sender_has_its_own(place):
    strangers = [await place.both("rust", "unified") for _ in range(2)]
    listed = await place.both("rust", "maf")
    known = {stranger.canister_id: PeerPolicy(null_ack="receipt") for stranger in strangers}
    policy = dataclasses.replace(
        SHORT_POLICY, open_flows=4, open_flows_per_peer=4, peers=known
    )  # how somebody is spoken to lists nobody

    async def handler(_request):
        return DEFERRED

    async with (
        MemoryStore() as store,
        place.bridge(store, handler=handler, policy=policy) as bridge,
    ):
        bridge.watch(listed.canister_id)
        for stranger in strangers:
            for _ in range(3):
                await stranger.send(place.mailbox, b"flood")

        async def refused():
            return bridge.counters.get("refused.quota_unlisted_open_flows", 0) >= 4

        await until(refused)
        assert (await store.usage(Role.RECEIVER)).open == 2
        await listed.send(place.mailbox, b"important")

        async def taken():
            return (await store.usage(Role.RECEIVER, listed.canister_id)).open

        assert await until(taken) == 1


async def test_canisters_that_are_not_accepted_get_no_answer(place):
    sender = await place.both("motoko", "maf")
    async with place.bridge(handler=echo, accept=frozenset({NOBODY})) as bridge:
        await sender.send(place.mailbox, b"x")

        async def counted():
            return bridge.counters.get("refused.access")

        assert await until(counted) >= 1


# --- What the mailbox says of its own ------------------------------------------------------------


class RejectingAgent:
    """An agent whose calls are rejected as it is told."""

    def __init__(self, *, certified, error_code):
        self.certified = certified
        self.error_code = error_code

    async def update(self, _canister_id, _method, _arg):
        raise CallRejectedError(
            "no",
            code=3 if self.error_code else 4,
            reject_message="no",
            error_code=self.error_code,
            certified=self.certified,
        )


@pytest.mark.parametrize("error_code", ["IC0301", None])
@pytest.mark.parametrize("certified", [True, False])
async def test_a_reject_of_the_mailboxs_own_is_never_taken_for_the_peers(certified, error_code):
    agent = RejectingAgent(certified=certified, error_code=error_code)
    mailbox = Mailbox(agent, NOBODY, SHORT_POLICY)
    transmitter = Transmitter(mailbox, SHORT_POLICY, clock=lambda: 0, concurrency=4)
    effect = Transmit(peer=NOBODY, dialect="maf", message=New(1, b"x"), attempt=1)
    result = await transmitter.transmit(effect, transmitter.begin(effect), wanted)
    if certified:  # it was asked, and forwarded nothing
        assert result == NotSent(transmit=effect)
    else:  # one node says so; the call may yet run
        assert result == Rejected(transmit=effect)


# --- What is in flight ---------------------------------------------------------------------------


class Forwarder:
    """Forwards, or says that it could not."""

    until_outcome = False

    def __init__(self, *, leaves):
        self.leaves = leaves

    async def carry(self, _effect):
        return self.leaves


async def wanted():
    return True


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_forwarded_message_is_in_flight_until_it_is_answered(leaves):
    policy = dataclasses.replace(SHORT_POLICY, in_flight=1)
    transmitter = Transmitter(Forwarder(leaves=leaves), policy, clock=lambda: 0, concurrency=4)
    effect = Transmit(peer=NOBODY, dialect="maf", message=New(1, b"x"), attempt=1)
    result = await transmitter.transmit(effect, transmitter.begin(effect), wanted)
    assert result == (Handed.EXECUTED if leaves else NotSent(transmit=effect))
    assert transmitter.has_room(NOBODY) is not leaves
