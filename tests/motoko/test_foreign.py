"""The pair that somebody else might have written: `maf`, and the weaknesses that are told of it."""

import zlib

import pytest

from bridge.candid import Case

# Two repeats beside the first transmission and the last: the limit is overstepped by two.
HASTY = {"attempts": 2, "wait": 10, "scan_every": 1, "scan_messages": 10}


def speaks_maf(canister):
    nothing = {"null_ack": None, "ids": None, "batch": None, "attach_cycles": None}
    return nothing | {"peer": canister.id, "dialect": Case("maf")}


@pytest.fixture
async def sender(world):
    return await world.deploy_with("foreign_maf_sender", HASTY)


@pytest.fixture
async def receiver(world):
    return await world.deploy_with("foreign_maf_receiver", HASTY)


async def said(world, canister, method):
    """How often this canister called this method of another."""
    log = (await world.admin("GET", "messages"))["messages"]
    calls = [m for m in log if m["from"] == str(canister.id) and m["method"] == method]
    return sum(m["kind"] == "request" for m in calls)


async def test_our_sender_is_answered_by_the_foreign_receiver(world, receiver):
    a = await world.deploy("both_maf")
    await a.configure(peers=[speaks_maf(receiver)])
    msg_id = await a.send(receiver.id, b"123456789")
    await a.until(msg_id, "acknowledged")
    response = (await a.call("outcome", msg_id)).value["response"]
    assert response == b"3421780262" == str(zlib.crc32(b"123456789")).encode()
    await world.quiet()
    assert await receiver.call("count") == 0  # the FIN was taken


async def test_our_receiver_answers_the_foreign_sender(world, sender, eventually):
    b = await world.deploy("both_maf")
    msg_id = await sender.call("start", b.id, b"no request")
    await b.until(msg_id, "finished")
    (ack,) = await sender.call("received")
    assert (ack["caller"], ack["msg_id"]) == (b.id, msg_id)
    assert await sender.call("count") == 0
    await sender.call("new_message", str(b.id), b"another")

    async def finished():
        return len(await b.flows("receiver", "finished")) == 2

    await eventually(finished)


async def test_the_foreign_pair_completes_a_flow(world, sender, receiver):
    msg_id = await sender.call("start", receiver.id, b"x")
    await world.quiet()
    (new,) = await receiver.call("received")
    assert new == {"caller": sender.id, "msg_id": msg_id, "payload": b"x"}
    (ack,) = await sender.call("received")
    assert ack == {"caller": receiver.id, "msg_id": msg_id, "payload": b"2363233923"}
    assert await receiver.call("status_scaner") == Case("ON")
    await world.advance(0.2)
    await world.quiet()
    assert await receiver.call("status_scaner") == Case("OFF")  # nothing waits any more


async def test_ids_are_below_2_to_the_32_and_drawn_at_random(sender, receiver):
    ids = [await sender.call("start", receiver.id, b"x") for _ in range(8)]
    assert len(set(ids)) == 8
    assert max(ids) < 2**32
    assert ids != sorted(ids)


async def test_a_duplicate_while_the_handler_is_awaited_runs_it_twice(world, receiver):
    itself = {"action": "delay", "from": str(receiver.id), "to": str(receiver.id)}
    await world.admin("POST", "faults", itself | {"nanoseconds": 10**9})
    for _ in range(2):
        await receiver.call("com_asyncFlow_newMessage", Case("NEW", {"msg_id": 1, "payload": b"x"}))
    await world.advance(0.2)
    await world.quiet()
    assert len(await receiver.call("received")) == 2
    assert await receiver.call("count") == 1


async def test_a_duplicate_after_fin_runs_the_handler_again_and_anybody_may_say_fin(
    world, receiver
):
    async with world.another_agent() as stranger:
        new = Case("NEW", {"msg_id": 1, "payload": b"x"})
        for runs in (1, 2):
            await receiver.call("com_asyncFlow_newMessage", new)
            await receiver.call("com_asyncFlow_newMessage", new)  # one that it knows
            assert len(await receiver.call("received")) == runs
            await receiver.call("com_asyncFlow_fin", Case("FIN", {"msg_id": 1}), agent=stranger)
            assert await receiver.call("count") == 0


async def test_an_ack_of_anybody_ends_the_flow_and_every_ack_reaches_the_application(world, sender):
    nobody = await world.deploy("sender")
    msg_id = await sender.call("start", nobody.id, b"x")
    async with world.another_agent() as stranger:
        for payload in (b"forged", b"again"):
            ack = Case("ACK", {"msg_id": msg_id, "payload": payload})
            await sender.call("com_asyncFlow_ack", ack, agent=stranger)
        assert [ack["payload"] for ack in await sender.call("received")] == [b"forged", b"again"]
    assert await sender.call("count") == 0


async def test_an_ack_that_it_does_not_know_is_not_answered(world, sender):
    await sender.call("com_asyncFlow_ack", Case("ACK", {"msg_id": 1, "payload": b"x"}))
    assert len(await sender.call("received")) == 1
    assert await said(world, sender, "com_asyncFlow_fin") == 0


async def test_a_request_that_nobody_answers_is_sent_limit_plus_two_times_and_nobody_is_told(
    world, sender
):
    nobody = await world.deploy("sender")  # lacks the method
    await sender.call("start", nobody.id, b"x")
    for _ in range(6):
        await world.advance(1.1)
        await world.quiet()
    assert await said(world, sender, "com_asyncFlow_newMessage") == HASTY["attempts"] + 2
    assert await sender.call("count") == 0
    assert await sender.call("received") == []


async def test_an_upgrade_loses_what_waits_and_its_timer(world, sender):
    nobody = await world.deploy("sender")
    await sender.call("start", nobody.id, b"x")
    assert await sender.call("count") == 1
    assert (await sender.call("message_default"))["caller_id"] == str(nobody.id)
    await world.upgrade_with(sender, "foreign_maf_sender", HASTY)
    assert await sender.call("collection_by_time") == []
    await world.advance(2)
    await world.quiet()
    assert await said(world, sender, "com_asyncFlow_newMessage") == 1
