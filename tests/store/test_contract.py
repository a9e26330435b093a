"""What every store promises, played against each of them."""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.errors import StoreConflictError, StoreError
from bridge.flow import (
    Failure,
    Flow,
    ReceiverFlow,
    ReceiverState,
    Role,
    SenderFlow,
    SenderState,
    payload_hash,
)
from bridge.flow.usage import Usage
from bridge.principal import Principal
from bridge.store import Change, MemoryStore, PostgresStore, SQLiteStore, Store

CANISTER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
OTHER = Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")
NOW = 1_800_000_000_000_000_000


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore()
    if request.param == "sqlite":
        made = SQLiteStore(tmp_path / "flows.db")
    elif request.param == "postgres":
        place = request.getfixturevalue("postgres")
        made = PostgresStore(place.conninfo, schema=place.schema)
    async with made:
        yield made


def sender(msg_id: int, *, peer: Principal = CANISTER, due: int | None = NOW) -> SenderFlow:
    payload = b"payload %d" % msg_id
    return SenderFlow(
        peer=peer,
        msg_id=msg_id,
        dialect="unified",
        state=SenderState.QUEUED,
        payload=payload,
        payload_hash=payload_hash(payload),
        opened=NOW,
        changed=NOW,
        due=due,
    )


def receiver(msg_id: int, *, peer: Principal = CANISTER, due: int | None = None) -> ReceiverFlow:
    return ReceiverFlow(
        peer=peer,
        msg_id=msg_id,
        dialect="maf",
        state=ReceiverState.PROCESSING,
        payload=b"abc",
        payload_hash=payload_hash(b"abc"),
        opened=NOW,
        changed=NOW,
        horizon=10**9,
        due=due,
    )


def changed(record: Flow, **fields: object) -> Flow:
    return dataclasses.replace(record, version=record.version + 1, **fields)


async def test_large_payloads_are_committed_at_once(store: Store) -> None:
    records = [
        dataclasses.replace(sender(n), payload=bytes([n]) * size, payload_hash=n)
        for n, size in enumerate([2_000_000] * 4 + [9_000_000])
    ]
    async with asyncio.timeout(120):
        await asyncio.gather(*(store.commit(Change(None, record)) for record in records))
        assert (await store.flows()).flows == tuple(records)


async def test_a_record_comes_back_exactly_as_it_was_committed(store: Store) -> None:
    full = dataclasses.replace(
        sender(2**128 - 1),
        state=SenderState.FAILED,
        failure=Failure.UNKNOWN,
        late=True,
        response=b"",
        response_hash=0,
        wrong=(1, 2**32 - 1),
        wrong_hash=7,
        wrong_payload=b"\x00wrong",
        fin_echoes=3,
        due=None,
    )
    other = dataclasses.replace(receiver(0), wrong_news=(5,), wrong_fins=(6, 7), deferred=True)
    await store.commit(Change(None, full), Change(None, other))
    assert await store.sender_flow(2**128 - 1) == full
    assert await store.receiver_flow(CANISTER, 0) == other


async def test_a_null_response_stays_apart_from_an_empty_one(store: Store) -> None:
    records = [dataclasses.replace(receiver(n), response=r) for n, r in enumerate([None, b""])]
    await store.commit(*(Change(None, record) for record in records))
    assert [(await store.receiver_flow(CANISTER, n)).response for n in (0, 1)] == [None, b""]


async def test_keys_do_not_meet(store: Store) -> None:
    records = [sender(1), receiver(1), receiver(1, peer=OTHER)]
    await store.commit(*(Change(None, record) for record in records))
    assert await store.sender_flow(1) == records[0]
    assert await store.receiver_flow(CANISTER, 1) == records[1]
    assert await store.receiver_flow(OTHER, 1) == records[2]
    assert await store.sender_flow(2) is None
    assert await store.receiver_flow(CANISTER, 2) is None


async def test_a_stale_change_is_refused_and_changes_nothing(store: Store) -> None:
    first = sender(1)
    await store.commit(Change(None, first))
    second = changed(first, attempts=1)
    await store.commit(Change(first, second))
    for stale in (
        Change(None, first),
        Change(first, changed(first, attempts=9)),
        Change(first, None),
        Change(sender(3), changed(sender(3))),
    ):
        with pytest.raises(StoreConflictError, match="was changed meanwhile"):
            await store.commit(Change(None, sender(2)), stale, notes={"n": b"1"})
    assert await store.sender_flow(1) == second
    assert await store.sender_flow(2) is None
    assert await store.note("n") is None
    assert (await store.usage(Role.SENDER)).open == 1


async def test_a_forgotten_flow_is_gone_and_its_key_free(store: Store) -> None:
    first = sender(1)
    await store.commit(Change(None, first))
    await store.commit(Change(first, None))
    assert await store.sender_flow(1) is None
    assert await store.next_due() is None
    await store.commit(Change(None, first))
    assert await store.sender_flow(1) == first


async def test_due_flows_come_earliest_first(store: Store) -> None:
    dues = [NOW + 5, NOW + 1, NOW + 3, None, NOW + 1]
    records = [sender(n, due=due) for n, due in enumerate(dues)]
    await store.commit(*(Change(None, record) for record in records))
    assert await store.next_due() == NOW + 1
    assert await store.due(NOW, 10) == []
    assert {r.msg_id for r in await store.due(NOW + 2, 10)} == {1, 4}
    assert [r.msg_id for r in await store.due(NOW + 9, 10)][2:] == [2, 0]
    assert len(await store.due(NOW + 9, 3)) == 3
    assert len(await store.due(NOW + 9, 10)) == 4, "looking does not take"


async def test_flows_whose_bodies_are_not_wanted_are_the_same_but_for_them(store: Store) -> None:
    record = dataclasses.replace(sender(1, due=NOW), payload=b"x" * 1000)
    await store.commit(Change(None, record))
    (due,) = await store.due(NOW, 10, bodies=False)
    (listed,) = (await store.flows(bodies=False)).flows
    for found in (due, listed):
        assert dataclasses.replace(found, payload=record.payload) == record
    assert await store.due(NOW, 10) == [record]


async def test_a_moved_due_time_is_the_only_one(store: Store) -> None:
    first = sender(1, due=NOW)
    await store.commit(Change(None, first))
    second = changed(first, due=NOW + 10)
    await store.commit(Change(first, second))
    assert await store.due(NOW + 9, 10) == []
    third = changed(second, due=NOW)
    await store.commit(Change(second, third))
    assert await store.due(NOW + 9, 10) == [third]
    await store.commit(Change(third, changed(third, due=None)))
    assert await store.next_due() is None


async def test_pages_hold_every_flow_once(store: Store) -> None:
    records = [sender(n) for n in range(7)] + [receiver(n, peer=OTHER) for n in range(5)]
    await store.commit(*(Change(None, record) for record in records))
    seen: list[Flow] = []
    after = None
    while True:
        page = await store.flows(after=after, limit=5)
        seen += page.flows
        if page.next is None:
            break
        after = page.next
    assert sorted(map(repr, seen)) == sorted(map(repr, records))


async def test_pages_select_by_role_and_state(store: Store) -> None:
    stalled = dataclasses.replace(receiver(2), state=ReceiverState.STALLED)
    await store.commit(*(Change(None, record) for record in (sender(1), receiver(1), stalled)))
    assert (await store.flows(role=Role.SENDER)).flows == (sender(1),)
    assert (await store.flows(role=Role.RECEIVER, state="stalled")).flows == (stalled,)
    assert (await store.flows(state="finished")).flows == ()


async def test_a_made_up_cursor_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="cursor"):
        await store.flows(after=b"nonsense")


async def test_usage_adds_up_through_every_change(store: Store) -> None:
    draw = random.Random(7)
    held: dict[tuple[str, Principal, int], Flow] = {}
    for _ in range(200):
        make = draw.choice([sender, receiver])
        record = make(draw.randrange(6), peer=draw.choice([CANISTER, OTHER]))
        if isinstance(record, SenderFlow):  # a sender's id is free of its peer
            record = dataclasses.replace(record, peer=CANISTER)
        key = (record.role, record.peer, record.msg_id)
        before = held.get(key)
        after: Flow | None = record
        if before is not None:
            done = (
                SenderState.ACKNOWLEDGED
                if isinstance(before, SenderFlow)
                else ReceiverState.FINISHED
            )
            after = draw.choice(
                [
                    None,
                    changed(before, response=b"12345", response_hash=1),
                    changed(before, state=done, payload=None, response=None),
                ]
            )
        await store.commit(Change(before, after))
        held.pop(key, None) if after is None else held.__setitem__(key, after)
    for role in Role:
        for peer in (None, CANISTER, OTHER):
            expected = Usage()
            for record in held.values():
                if record.role is role and peer in (None, record.peer):
                    expected += Usage.of(record)
            assert await store.usage(role, peer) == expected, (role, peer)


async def test_peers_are_those_with_whom_flows_are_stored(store: Store) -> None:
    done = dataclasses.replace(receiver(2, peer=OTHER), state=ReceiverState.FINISHED)
    await store.commit(Change(None, sender(1)), Change(None, receiver(1)), Change(None, done))
    assert await store.peers(Role.SENDER) == [CANISTER]
    assert set(await store.peers(Role.RECEIVER)) == {CANISTER, OTHER}
    assert await store.peers(Role.RECEIVER, with_open=True) == [CANISTER]
    await store.commit(Change(sender(1), None))
    assert await store.peers(Role.SENDER) == []


async def test_large_parts_come_change_and_go_with_their_flow(store: Store) -> None:
    first = sender(1)
    await store.commit(Change(None, first))
    held = first
    for fields in (
        {"response": b"one", "wrong_payload": b"wrong", "wrong_hash": 1},
        {"response": b"two", "wrong_payload": None},
        {"payload": None, "response": None},
    ):
        after = changed(held, **fields)
        await store.commit(Change(held, after))
        assert await store.sender_flow(1) == after
        held = after
    await store.commit(Change(held, None))
    again = dataclasses.replace(first, payload=b"another")
    await store.commit(Change(None, again))
    assert await store.sender_flow(1) == again


async def test_notes_are_kept_with_the_changes(store: Store) -> None:
    assert await store.note("cursor") is None
    await store.commit(Change(None, sender(1)), notes={"cursor": b"\x01"})
    await store.commit(notes={"cursor": b"\x02", "other": b""})
    assert await store.note("cursor") == b"\x02"
    assert await store.note("other") == b""


async def test_of_many_commits_of_one_flow_at_once_one_wins(store: Store) -> None:
    first = sender(1)
    await store.commit(Change(None, first))
    outcomes = await asyncio.gather(
        *(store.commit(Change(first, changed(first, attempts=n))) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, StoreConflictError) for outcome in outcomes) == 19


async def test_many_commits_of_different_flows_at_once_all_stand(store: Store) -> None:
    records = [sender(n) for n in range(200)]
    await asyncio.gather(*(store.commit(Change(None, record)) for record in records))
    assert (await store.usage(Role.SENDER)).open == 200


async def test_commits_at_once_come_out_as_one_after_the_other(store: Store) -> None:
    """Whatever shares a transaction: conflicts, flows that go and come again, notes and bodies."""
    draw, model, ends = random.Random(11), MemoryStore(), set()
    for _ in range(25):
        wanted = []
        for number in range(draw.randrange(1, 30)):
            changes = []
            for msg_id in draw.sample(range(6), draw.randrange(1, 4)):
                make, peer = draw.choice([(sender, CANISTER), (receiver, OTHER)])
                before: Flow | None = None
                if draw.random() < 0.7:
                    before = await (
                        model.sender_flow(msg_id)
                        if make is sender
                        else model.receiver_flow(peer, msg_id)
                    )
                after: Flow | None = make(msg_id, peer=peer, due=draw.choice([None, NOW + number]))
                if before is not None:
                    fields = {"response": draw.choice([None, b"", b"%d" % number])}
                    if draw.random() < 0.3:
                        fields["payload"] = draw.choice([None, b"%d" % number])
                    after = draw.choice([None, changed(before, **fields)])
                changes.append(Change(before, after))
            keys = {(change.subject.role, change.subject.msg_id) for change in changes}
            if len(keys) == len(changes):
                wanted.append((changes, {f"note {number % 3}": b"%d" % number}))
        outcomes = await asyncio.gather(
            *(store.commit(*changes, notes=notes) for changes, notes in wanted),
            return_exceptions=True,
        )
        for (changes, notes), outcome in zip(wanted, outcomes, strict=True):
            ends.add(type(outcome))
            try:
                await model.commit(*changes, notes=notes)
            except StoreConflictError:
                assert isinstance(outcome, StoreConflictError)
            else:
                assert outcome is None
        assert (await store.flows()).flows == (await model.flows()).flows
        assert await store.next_due() == await model.next_due()
        for name in ("note 0", "note 1", "note 2"):
            assert await store.note(name) == await model.note(name)
        for role in Role:
            assert sorted(await store.peers(role)) == sorted(await model.peers(role))
            for peer in (None, CANISTER, OTHER):
                assert await store.usage(role, peer) == await model.usage(role, peer)
    assert ends == {type(None), StoreConflictError}
