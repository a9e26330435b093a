"""What stands in a flow's way is told before it is opened; what does not go on is said once."""

import asyncio
import logging

import pytest

from bridge import contracts
from bridge.agent import Agent, Identity
from bridge.errors import (
    CallRejectedError,
    FlowFailedError,
    LocalProtocolError,
    NotSentError,
    PeerUnusableError,
    TransportError,
)
from bridge.flow import Role
from bridge.network import create_canister
from bridge.network.management import start_canister, stop_canister
from bridge.principal import Principal
from bridge.reference import SHORT_POLICY, SHORT_WAITS, install_argument
from bridge.service import Bridge, mailbox_argument
from bridge.service.outbox import Outbox
from bridge.store import MemoryStore

NO_ARGUMENT = b"DIDL\0\0"
NOBODY = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


async def install(stage, wasm, argument):
    return await stage.network.deploy(stage.agent, wasm, argument)


async def nothing(stage):
    return NOBODY


async def empty(stage):
    return await create_canister(stage.agent)


async def only_a_sender(stage):
    return await install(stage, contracts.motoko_canister("foreign_maf_sender"), NO_ARGUMENT)


async def without_outbox(stage):
    return await install(stage, contracts.motoko_canister("foreign_maf_receiver"), NO_ARGUMENT)


async def closed(stage, wasm):
    return await install(stage, wasm, install_argument(SHORT_WAITS, agents=[]))


async def closed_motoko(stage):
    return await closed(stage, contracts.motoko_canister("echo"))


async def closed_rust(stage):
    return await closed(stage, contracts.rust_canister("echo"))


@pytest.mark.parametrize(
    ("place", "reason", "text"),
    [
        (nothing, "no_canister", "there is no canister rrkah-.*check the id"),
        (empty, "no_module", "is empty: no module is installed"),
        (only_a_sender, "no_dialect", "none of unified, .*name the dialect"),
        (without_outbox, "no_outbox", "has no method asyncFlow_outbox.*through a mailbox"),
        (closed_motoko, "not_listed", "list {us} in access.agents of {peer}"),
        (closed_rust, "not_listed", "list {us} in access.agents of {peer}"),
    ],
)
async def test_what_stands_in_a_flows_way_is_told_and_nothing_is_opened(
    stage, place, reason, text
) -> None:
    peer = await place(stage)
    async with (
        # An agent that is no controller of anything is one that a list decides about.
        stage.network.agent(Identity.generate()) as agent,
        MemoryStore() as store,
        Bridge(agent, store) as bridge,
    ):
        expected = text.format(us=agent.principal, peer=peer)
        with pytest.raises(PeerUnusableError, match=expected) as caught:
            await bridge.check(peer)
        assert caught.value.reason == reason
        assert not bridge._pollers
        assert (await store.flows()).flows == ()


async def test_a_peer_with_whom_flows_work_is_told_with_its_dialect(stage) -> None:
    async with MemoryStore() as store, Bridge(stage.agent, store) as bridge:
        peer = stage.echo.canister_id
        found = await bridge.check(peer)
        assert (found.peer, found.dialect, found.told) == (peer, "unified", True)
        assert not (await bridge.check(peer, dialect="unified")).told
        assert await bridge.send(peer, b"hello") == b"hello"


async def test_with_a_mailbox_a_peer_needs_no_outbox(stage) -> None:
    peer = await without_outbox(stage)
    argument = mailbox_argument(stage.us)
    mailbox = await install(stage, contracts.rust_canister("mailbox"), argument)
    async with MemoryStore() as store, Bridge(stage.agent, store, mailbox=mailbox) as bridge:
        assert (await bridge.check(peer)).dialect == "maf"
        with pytest.raises(PeerUnusableError, match="there is no canister"):
            await bridge.check(NOBODY)


async def test_what_may_pass_is_raised_as_what_it_is(stage, unused_tcp_port) -> None:
    stopped = (await stage.deploy("echo")).canister_id
    await stop_canister(stage.agent, stopped)
    async with MemoryStore() as store, Bridge(stage.agent, store) as bridge:
        with pytest.raises(CallRejectedError, match="stopped"):
            await bridge.check(stopped)
        with pytest.raises(LocalProtocolError, match="is no canister"):
            await bridge.check(stage.us)
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with (
        Agent(url, identity=Identity.generate(), root_key=stage.network.root_key) as agent,
        MemoryStore() as store,
        Bridge(agent, store) as bridge,
    ):
        with pytest.raises(NotSentError, match="no connection"):
            await bridge.check(NOBODY)


class OfAnOlderReplica(Agent):
    """Asks a replica that says in its own way why there is no outbox."""

    error_code = ""

    async def query(self, canister_id, method, *args, **options):
        if method != "asyncFlow_outbox":
            return await super().query(canister_id, method, *args, **options)
        raise CallRejectedError(
            "no", code=3, reject_message="no", error_code=self.error_code, certified=False
        )


@pytest.mark.parametrize(
    ("error_code", "reason"),
    [("IC0301", "no_canister"), ("IC0302", "no_outbox"), ("IC0304", "no_module")],
)
async def test_older_replicas_are_understood(stage, error_code, reason) -> None:
    async with (
        OfAnOlderReplica(
            stage.network.url, identity=Identity.generate(), root_key=stage.network.root_key
        ) as agent,
        MemoryStore() as store,
        Bridge(agent, store) as bridge,
    ):
        agent.error_code = error_code
        with pytest.raises(PeerUnusableError) as caught:
            await bridge.check(stage.echo.canister_id)
        assert caught.value.reason == reason


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - it watches a running bridge
            await asyncio.sleep(0.01)


class Counted(Agent):
    """Counts how often it was asked what somebody keeps for it."""

    looks = 0

    async def query(self, canister_id, method, *args, **options):
        self.looks += method == "asyncFlow_outbox"
        return await super().query(canister_id, method, *args, **options)


def counting(stage):
    """An agent that is new, and counts its looks."""
    key = stage.network.root_key
    return Counted(stage.network.url, identity=Identity.generate(), root_key=key)


async def test_a_flow_to_nobody_is_told_once_and_leaves_nothing_that_is_polled(
    stage, caplog
) -> None:
    caplog.set_level(logging.INFO, logger="bridge.service")

    def told(level):
        texts = [record.getMessage() for record in caplog.records if record.levelno == level]
        return [text for text in texts if "for us cannot be read" in text or "no more" in text]

    async with (
        counting(stage) as agent,
        MemoryStore() as store,
    ):
        async with Bridge(agent, store, policy=SHORT_POLICY, poll_every=0.01) as bridge:
            msg_id = await bridge.post(NOBODY, b"hello?")
            await until(lambda: agent.looks >= 4)
            (once,) = told(logging.WARNING)
            assert f"bridge.cancel({msg_id}) ends it now; bridge.check(peer)" in once
            assert f"flow {msg_id} to it goes on until 20" in once
            await bridge.cancel(msg_id)
            with pytest.raises(FlowFailedError, match="cancelled"):
                await bridge.response(msg_id)
            await until(lambda: not bridge._pollers)
            (last,) = told(logging.INFO)
            assert "is asked no more, no flow waits for it" in last
            caplog.clear()
        # The next bridge finds the flow's tombstone, looks once, and complains of nothing.
        looks = agent.looks
        async with Bridge(agent, store, policy=SHORT_POLICY, poll_every=0.01) as bridge:
            await until(lambda: agent.looks > looks and not bridge._pollers)
            assert agent.looks == looks + 1
            # A flow that is opened later is looked after as the first one was.
            await bridge.post(NOBODY, b"hello again?")
            await until(lambda: agent.looks > looks + 2)
            (once,) = told(logging.WARNING)


async def test_a_flow_whose_end_nobody_took_keeps_no_dead_peer_polled(stage, caplog) -> None:
    caplog.set_level(logging.INFO, logger="bridge.service")
    async with (
        counting(stage) as agent,
        MemoryStore() as store,
    ):
        async with Bridge(agent, store, policy=SHORT_POLICY, poll_every=0.01) as bridge:
            msg_id = await bridge.post(NOBODY, b"hello?")
            await until(lambda: agent.looks >= 2)
            await bridge.cancel(msg_id)
            await until(lambda: not bridge._pollers)
        assert (await store.usage(Role.SENDER)).open == 1
        caplog.clear()
        looks = agent.looks
        async with Bridge(agent, store, policy=SHORT_POLICY, poll_every=0.01) as bridge:
            await until(lambda: agent.looks > looks and not bridge._pollers)
            assert agent.looks == looks + 1
            assert not [one for one in caplog.records if one.levelno > logging.INFO]
            with pytest.raises(FlowFailedError, match=r"cancelled|unsent"):  # it is still told
                await bridge.response(msg_id)


class Gated(Agent):
    """Sees nothing of what is kept for it until its gate is open."""

    gate = False
    rejected = 0

    async def query(self, canister_id, method, *args, **options):
        if method == "asyncFlow_outbox" and not self.gate:
            raise TransportError("closed")
        try:
            return await super().query(canister_id, method, *args, **options)
        except CallRejectedError:
            self.rejected += 1
            raise


async def test_a_late_answer_of_a_canister_that_was_stopped_is_taken_once_it_runs(stage) -> None:
    identity, told = Identity.generate(), asyncio.Queue()
    argument = install_argument(SHORT_WAITS, agents=[identity.principal])
    peer = await install(stage, contracts.motoko_canister("echo"), argument)
    async with (
        stage.network.agent(identity) as onlooker,
        Gated(stage.network.url, identity=identity, root_key=stage.network.root_key) as agent,
        MemoryStore() as store,
        Bridge(agent, store, policy=SHORT_POLICY, poll_every=0.01, on_outcome=told.put) as bridge,
        asyncio.timeout(120),
    ):
        msg_id = await bridge.post(peer, b"hello")
        while not await Outbox(onlooker, peer).fetch():  # noqa: ASYNC110 - it asks a canister
            await asyncio.sleep(0.05)
        await bridge.cancel(msg_id)
        assert (await told.get()).failure == "cancelled"
        await stop_canister(stage.agent, peer)
        agent.gate = True
        await until(lambda: agent.rejected >= 2)
        await start_canister(stage.agent, peer)
        late = await told.get()
        assert (late.msg_id, late.response, late.late) == (msg_id, b"hello", True)


class OneNodeLies(Agent):
    """Asks, once it ``lies``, a node that knows of no canister."""

    lies = False
    told_so = 0

    async def query(self, canister_id, method, *args, **options):
        if method != "asyncFlow_outbox" or not self.lies:
            return await super().query(canister_id, method, *args, **options)
        self.told_so += 1
        raise CallRejectedError(
            "no", code=3, reject_message="no", error_code="IC0301", certified=False
        )


async def test_the_word_of_one_node_does_not_end_the_polling(stage) -> None:
    async with (
        OneNodeLies(
            stage.network.url, identity=stage.agent.identity, root_key=stage.network.root_key
        ) as agent,
        MemoryStore() as store,
        Bridge(agent, store, policy=SHORT_POLICY, poll_every=0.01) as bridge,
    ):
        assert await bridge.send(stage.echo.canister_id, b"hello") == b"hello"
        while (await store.usage(Role.SENDER)).open:  # noqa: ASYNC110 - a task settles it
            await asyncio.sleep(0.01)
        agent.lies = True
        await until(lambda: agent.told_so >= 3)
        assert bridge._pollers
