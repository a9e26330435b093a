"""The mailbox: an agent is a full peer of canisters that know nothing of outboxes."""

import pytest

from bridge.candid import Case
from bridge.dialects import get
from bridge.errors import BridgeError
from bridge.flow import payload_hash


def settings(**given):
    """A mailbox's settings; what is left out keeps its value."""
    names = ["owner", "peers", "closed", "messages", "bytes"]
    names += ["messages_per_caller", "bytes_per_caller"]
    return dict.fromkeys(names) | given


async def mailbox_of(world, owner, **given):
    return await world.deploy_with("mailbox", settings(owner=owner.principal, **given))


async def say(mailbox, owner, to, dialect, kind, **fields):
    request = {"to": to.id, "dialect": Case(dialect), "cycles": 0, "message": Case(kind, fields)}
    return (await mailbox.call("mailbox_send", request, agent=owner)).label


async def read(mailbox, owner, after=None, limit=100):
    return await mailbox.call("mailbox_outbox", {"after": after, "limit": limit}, agent=owner)


async def counters(mailbox):
    return dict((await mailbox.call("mailbox_status"))["counters"])


@pytest.mark.parametrize("dialect", ["maf", "bounty", "positional"])
async def test_an_agent_sends_to_a_canister_of_a_foreign_dialect(world, dialect, eventually):
    async with world.another_agent() as owner:
        mailbox = await mailbox_of(world, owner)
        foreign = await world.deploy(f"both_{dialect}", language="motoko")
        assert await say(mailbox, owner, foreign, dialect, "NEW", msg_id=7, payload=b"x") == "sent"
        (entry,) = await eventually(lambda: read(mailbox, owner))
        assert entry["from"] == foreign.id
        assert entry["dialect"].label == dialect
        ack = entry["message"]
        assert (ack.label, ack.value["msg_id"]) == ("ACK", 7)
        accepted = payload_hash(ack.value["payload"])
        await say(mailbox, owner, foreign, dialect, "FIN", msg_id=7, hash=accepted)
        await foreign.until(7, "finished")
        await mailbox.call("mailbox_outbox_trim", entry["seq"], agent=owner)
        assert await read(mailbox, owner) == []


@pytest.mark.parametrize("dialect", ["unified", "maf", "bounty", "positional"])
async def test_a_canister_of_any_dialect_opens_a_flow_to_an_agent(world, dialect, eventually):
    async with world.another_agent() as owner:
        mailbox = await mailbox_of(world, owner)
        name = "both" if dialect == "unified" else f"both_{dialect}"
        foreign = await world.deploy(name, language="motoko")
        assert (
            await foreign.configure(peers=[{"peer": mailbox.id, "dialect": Case(dialect)}]) is None
        )
        msg_id = await foreign.send(mailbox.id, b"please")
        (entry,) = await eventually(lambda: read(mailbox, owner))
        assert (entry["dialect"].label, entry["message"].label) == (dialect, "NEW")
        assert entry["message"].value == {"msg_id": msg_id, "payload": b"please"}
        ack = {"msg_id": msg_id, "payload": b"done", "hash": payload_hash(b"please")}
        await say(mailbox, owner, foreign, dialect, "ACK", **ack)
        await foreign.until(msg_id, "acknowledged")
        assert (await foreign.call("outcome", msg_id)).value["response"] == b"done"
        last = (await eventually(lambda: read(mailbox, owner, after=entry["seq"])))[0]
        assert last["message"].label == "FIN"


async def test_a_repeat_of_what_waits_adds_nothing_and_after_the_trim_it_comes_again(
    world, eventually
):
    async with world.another_agent() as owner:
        mailbox = await mailbox_of(world, owner)
        sender = await world.deploy("sender")
        await sender.send(mailbox.id)
        (entry,) = await eventually(lambda: read(mailbox, owner))

        async def repeated():
            await world.advance(1.1)
            return (await counters(mailbox)).get("repeated")

        await eventually(repeated)
        assert len(await read(mailbox, owner)) == 1
        await mailbox.call("mailbox_outbox_trim", entry["seq"], agent=owner)

        async def again():
            await world.advance(4.1)
            return await read(mailbox, owner)

        (new,) = await eventually(again)
        assert new["seq"] > entry["seq"]
        assert new["message"] == entry["message"]


async def test_what_waits_survives_an_upgrade_in_order(world, eventually):
    async with world.another_agent() as owner:
        mailbox = await mailbox_of(world, owner, messages=50)
        sender = await world.deploy("sender")
        ids = [await sender.send(mailbox.id) for _ in range(5)]

        async def all_wait():
            return len(await read(mailbox, owner)) == 5

        await eventually(all_wait)
        await world.upgrade_with(mailbox, "mailbox", None)
        waiting = await read(mailbox, owner)
        assert [entry["message"].value["msg_id"] for entry in waiting] == ids
        assert (await mailbox.call("mailbox_status"))["settings"]["messages"] == 50
        assert [e["seq"] for e in await read(mailbox, owner, after=waiting[1]["seq"], limit=2)] == [
            entry["seq"] for entry in waiting[2:4]
        ]


async def test_the_floods_of_strangers_harm_no_listed_peer(world, eventually):
    """They share one half, which may be full of another stranger's; peers have the other."""
    async with world.another_agent() as owner:
        peer, *strangers = [await world.deploy("sender") for _ in range(3)]
        mailbox = await mailbox_of(world, owner, peers=[peer.id], messages=10)
        for stranger in strangers:
            for _ in range(6):
                await stranger.send(mailbox.id)

        async def flooded():
            return (await counters(mailbox)).get("full", 0) >= 7

        await eventually(flooded)
        waiting = [entry["from"] for entry in await read(mailbox, owner)]
        assert len(waiting) == 5  # strangers share half
        assert set(waiting) <= {stranger.id for stranger in strangers}
        msg_id = await peer.send(mailbox.id, b"important")

        async def heard():
            return [e for e in await read(mailbox, owner) if e["from"] == peer.id]

        (entry,) = await eventually(heard)
        assert entry["message"].value["msg_id"] == msg_id


async def test_a_closed_mailbox_takes_from_its_peers_alone(world, eventually):
    async with world.another_agent() as owner:
        stranger = await world.deploy("sender")
        mailbox = await mailbox_of(world, owner, closed=True)
        await stranger.send(mailbox.id)

        async def refused():
            return (await counters(mailbox)).get("refused.access")

        assert await eventually(refused) == 1
        assert await read(mailbox, owner) == []


async def test_nobody_but_its_owner_uses_it(world):
    async with world.another_agent() as owner, world.another_agent() as stranger:
        mailbox = await mailbox_of(world, owner)
        request = {"to": mailbox.id, "dialect": Case("unified"), "cycles": 0}
        request["message"] = Case("FIN", {"msg_id": 1, "hash": None})
        for method, value in [
            ("mailbox_send", request),
            ("mailbox_outbox", {"after": None, "limit": 1}),
            ("mailbox_outbox_trim", 1),
            ("mailbox_configure", settings()),
        ]:
            with pytest.raises(BridgeError):
                await mailbox.call(method, value, agent=stranger)
        for dialect in ("unified", "maf"):
            name = get(dialect).methods["FIN"]
            with pytest.raises(BridgeError):
                await stranger.update(mailbox.id, name, b"DIDL\x00\x00")


async def test_whoever_installs_it_without_an_owner_owns_it_for_good(world):
    mailbox = await world.deploy_with("mailbox", None)
    assert (await mailbox.call("mailbox_status"))["settings"]["owner"] == world.agent.principal
    assert await read(mailbox, world.agent) == []
    async with world.another_agent() as owner:
        mailbox = await mailbox_of(world, owner)
        await world.upgrade_with(mailbox, "mailbox", None)  # by another than its owner
        assert (await mailbox.call("mailbox_status"))["settings"]["owner"] == owner.principal


async def test_no_canister_owns_it(world):
    stranger = await world.deploy("sender")
    with pytest.raises(BridgeError, match="owner"):
        await world.deploy_with("mailbox", settings(owner=stranger.id))


async def test_what_cannot_leave_is_told_at_once(world):
    async with world.another_agent() as owner:
        mailbox = await mailbox_of(world, owner)
        message = Case("FIN", {"msg_id": 1, "hash": None})
        request = {"to": owner.principal, "dialect": Case("unified"), "cycles": 0}
        answer = await mailbox.call("mailbox_send", request | {"message": message}, agent=owner)
        assert answer.label == "failed_at_once"
        request |= {"to": mailbox.id, "cycles": 10**30}
        answer = await mailbox.call("mailbox_send", request | {"message": message}, agent=owner)
        assert answer.label == "failed_at_once"
