"""A bridge at bad moments: cancelled, ended, started again, on a store that fails."""

import asyncio
import dataclasses

import pytest

from bridge.errors import (
    CallOutcomeUnknownError,
    FlowFailedError,
    LocalProtocolError,
    StoreError,
    UsageError,
)
from bridge.flow import (
    Ack,
    Decision,
    Fin,
    New,
    ReceiverFlow,
    ReceiverState,
    Role,
    SenderState,
    Telling,
    payload_hash,
)
from bridge.principal import Principal
from bridge.reference import SHORT_POLICY
from bridge.service import DEFERRED, FinalFailure, performer
from bridge.store import Change, MemoryStore, SQLiteStore


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(performer, "_PAUSE", 0.001)


class FailingStore(MemoryStore):
    """Fails while told to, on the commits that it is told of."""

    def __init__(self):
        super().__init__()
        self.failures = 0
        self.fails_on = lambda _record: True

    async def commit(self, *changes, notes=None):
        if self.failures and any(self.fails_on(change.after) for change in changes):
            self.failures -= 1
            raise StoreError("the disk is full")
        await super().commit(*changes, notes=notes)


# --- Waiting for an outcome ---------------------------------------------------------------------


async def test_whenever_a_sender_is_cancelled_its_response_is_not_lost(peer, bridge_to) -> None:
    returned = 0
    for waits in range(0, 90, 3):
        told = asyncio.Queue()
        async with MemoryStore() as store, bridge_to(store, on_outcome=told.put) as bridge:
            sending = asyncio.create_task(bridge.send(peer.canister_id, b"hello", msg_id=waits))
            for _ in range(waits):
                await asyncio.sleep(0)
            sending.cancel()
            try:
                response = await sending
            except asyncio.CancelledError:
                if await store.sender_flow(waits) is None and not bridge._tasks._running:
                    continue  # cancelled before anything was begun
                async with asyncio.timeout(120):
                    response = (await told.get()).response
            else:
                returned += 1
            assert response == b"hello"
    assert 0 < returned < 30


async def test_an_outcome_that_was_given_and_not_taken_is_told_at_once(
    peer, bridge_to, monkeypatch
) -> None:
    told = asyncio.Queue()
    async with MemoryStore() as store, bridge_to(store, on_outcome=told.put) as bridge:
        sending = asyncio.create_task(bridge.send(peer.canister_id, b"hello", msg_id=1))
        give = bridge._waiters.give

        def give_and_cancel(outcome, telling):
            given = give(outcome, telling)
            if given:
                sending.cancel()
            return given

        monkeypatch.setattr(bridge._waiters, "give", give_and_cancel)
        with pytest.raises(asyncio.CancelledError):
            await sending
        async with asyncio.timeout(120):
            outcome = await told.get()
        assert (outcome.response, outcome.redelivered) == (b"hello", False)


async def test_a_store_that_fails_when_the_response_is_taken_keeps_it_from_nobody(
    peer, bridge_to, until
) -> None:
    async with FailingStore() as store, bridge_to(store) as bridge:
        store.fails_on = lambda record: record.state == SenderState.ACKNOWLEDGED
        store.failures = 3
        assert await bridge.send(peer.canister_id, b"hello", msg_id=1) == b"hello"
        await until(lambda: store._flows and not store.failures)
        await until(lambda: [f.state for f in store._flows.values()] == [SenderState.ACKNOWLEDGED])


async def test_an_outcome_listener_that_is_no_coroutine_harms_nothing(
    peer, bridge_to, until, caplog
) -> None:
    def listener(_outcome):
        raise ZeroDivisionError("a bug")

    async with MemoryStore() as store, bridge_to(store, on_outcome=listener) as bridge:
        msg_id = await bridge.post(peer.canister_id, b"hello")
        await until(lambda: Fin in peer.kinds(msg_id))
        await until(lambda: "a bug" in caplog.text)
        assert await bridge.response(msg_id) == b"hello"


# --- What cannot be sent ------------------------------------------------------------------------


@pytest.mark.parametrize("msg_id", [-1, 1 << 128])
async def test_an_id_that_none_can_have_is_the_callers_error(peer, bridge_to, msg_id) -> None:
    async with MemoryStore() as store, bridge_to(store) as bridge:
        with pytest.raises(LocalProtocolError, match="an id from 0 to 2"):
            await bridge.send(peer.canister_id, b"", msg_id=msg_id)
        for ask in (bridge.response, bridge.cancel, bridge.finish):
            with pytest.raises(LocalProtocolError, match="there is no flow"):
                await ask(msg_id)
        with pytest.raises(LocalProtocolError, match="there is no flow"):
            await bridge.answer(peer.canister_id, msg_id, b"")
        assert (await store.flows()).flows == ()


async def test_what_can_never_be_sent_is_refused_at_once_and_nobody_is_polled_for_it(
    peer, bridge_to
) -> None:
    async with MemoryStore() as store, bridge_to(store) as bridge:
        with pytest.raises(UsageError, match="no dialect 'klingon'"):
            await bridge.post(peer.canister_id, b"", dialect="klingon")
        for nobody in (peer.principal, Principal.anonymous(), Principal.management()):
            with pytest.raises(LocalProtocolError, match="is no canister"):
                await bridge.post(nobody, b"")
            with pytest.raises(LocalProtocolError, match="is no canister"):
                bridge.watch(nobody)
        with pytest.raises(LocalProtocolError, match="too large"):
            await bridge.post(peer.canister_id, bytes(1_900_001))
        assert (await store.flows()).flows == ()
        assert not bridge._pollers


async def test_a_store_that_fails_right_before_a_call_keeps_the_attempt(
    peer, bridge_to, until, monkeypatch
) -> None:
    async with MemoryStore() as store, bridge_to(store) as bridge:
        current, failed = bridge._engine.is_current, []

        async def once_failing(key, effect):
            if not failed:
                failed.append(effect)
                raise StoreError("the disk is gone")
            return await current(key, effect)

        monkeypatch.setattr(bridge._engine, "is_current", once_failing)
        assert await bridge.send(peer.canister_id, b"hello", msg_id=1) == b"hello"
        assert (await store.sender_flow(1)).attempts == 1
        assert len(failed) == 1


# --- Answering ----------------------------------------------------------------------------------


@pytest.mark.parametrize("final", [False, True], ids=["answer", "final failure"])
async def test_an_answer_outlives_a_store_that_fails_for_a_while(
    peer, bridge_to, until, final
) -> None:
    runs = []

    async def handler(request):
        runs.append(request.msg_id)
        store.failures = 3
        if final:
            raise FinalFailure(b"done")
        return b"done"

    async with FailingStore() as store, bridge_to(store, handler=handler) as bridge:
        store.fails_on = lambda record: record.state == ReceiverState.ACKNOWLEDGING
        bridge.watch(peer.canister_id)
        peer.put(New(7, b"x"))
        await until(lambda: peer.got)
        assert peer.got[0] == Ack(7, b"done", payload_hash(b"x"))
        assert runs == [7]


async def test_a_corruption_handler_that_decides_nothing_is_asked_again(
    peer, bridge_to, until, caplog
) -> None:
    asked = []

    async def on_corrupt(question):
        asked.append(question.tries)
        return "nonsense" if len(asked) == 1 else Decision.ACCEPT

    peer.answers = False
    policy = dataclasses.replace(
        SHORT_POLICY, first_retry=1_300_000_000, max_delay=1_300_000_000, jitter_permille=0
    )
    async with MemoryStore() as store:
        bridge = bridge_to(store, on_corrupt=on_corrupt, policy=policy)
        async with bridge:
            sending = asyncio.create_task(bridge.send(peer.canister_id, b"hello", msg_id=1))
            await until(lambda: peer.got)
            peer.put(Ack(1, b"other", 12345))
            async with asyncio.timeout(120):
                assert await sending == b"other"
    assert asked == [1, 2]
    assert "expected a Decision" in caplog.text


async def test_a_request_that_comes_again_after_its_fin_is_not_processed_again(
    peer, bridge_to, until, tmp_path
) -> None:
    runs = []

    async def handler(request):
        runs.append(request.msg_id)
        return b"done"

    async with SQLiteStore(tmp_path / "flows.db") as store:
        async with bridge_to(store, handler=handler) as bridge:
            bridge.watch(peer.canister_id)
            peer.put(New(7, b"x"))
            await until(lambda: bridge.counters.get("received FIN"))
            peer.put(New(7, b"x"))
            await until(lambda: bridge.counters.get("repeated"))
        async with bridge_to(store, handler=handler) as bridge:  # nor by another process
            bridge.watch(peer.canister_id)
            peer.put(New(7, b"x"))
            await until(lambda: bridge.counters.get("repeated"))
    assert runs == [7]
    assert [type(message) for message in peer.got] == [Ack]


async def test_a_request_of_which_nothing_was_done_is_processed_anew_when_it_comes_again(
    peer, bridge_to, until
) -> None:
    runs = []

    async def handler(request):
        runs.append(request.redelivered)
        return DEFERRED if len(runs) == 1 else b"done"

    async with MemoryStore() as store, bridge_to(store, handler=handler) as bridge:
        bridge.watch(peer.canister_id)
        peer.put(New(7, b"x"))
        await until(lambda: runs)
        await bridge.release(peer.canister_id, 7)
        assert await store.receiver_flow(peer.canister_id, 7) is None
        with pytest.raises(LocalProtocolError, match="there is no flow 7"):
            await bridge.release(peer.canister_id, 7)
        peer.put(New(7, b"x"))
        await until(lambda: Ack in peer.kinds(7))
    assert runs == [False, False]


async def test_a_dead_letter_is_told_to_the_operator_and_handed_over_again_when_asked(
    peer, bridge_to
) -> None:
    buried, taken, fails = asyncio.Queue(), asyncio.Queue(), True

    async def on_outcome(outcome):
        if fails:
            raise ZeroDivisionError("a bug")
        await taken.put(outcome)

    policy = dataclasses.replace(SHORT_POLICY, handler_attempts=1)
    async with (
        MemoryStore() as store,
        bridge_to(store, on_outcome=on_outcome, on_operator=buried.put, policy=policy) as bridge,
        asyncio.timeout(120),
    ):
        msg_id = await bridge.post(peer.canister_id, b"hello")
        telling = await buried.get()
        assert (telling.what, telling.response) == (Telling.DEAD_LETTER, b"hello")
        fails = False
        await bridge.revive(msg_id)
        outcome = await taken.get()
        assert (outcome.response, outcome.redelivered) == (b"hello", True)
        with pytest.raises(LocalProtocolError):
            await bridge.revive(msg_id)


# --- The end of a bridge, and the next one -------------------------------------------------------


async def test_a_bridge_that_ends_sends_what_it_decided_to_send(peer, bridge_to) -> None:
    peer.takes = 0.02
    async with MemoryStore() as store:
        async with bridge_to(store) as bridge:
            await bridge.send(peer.canister_id, b"hello", msg_id=1)
        assert peer.kinds(1) == [New, Fin]
        assert (await store.sender_flow(1)).state == SenderState.ACKNOWLEDGED


async def test_a_bridge_that_ends_says_so_to_who_waits_and_the_flow_goes_on(
    peer, bridge_to
) -> None:
    peer.answers = False
    async with MemoryStore() as store:
        async with bridge_to(store) as bridge:
            sending = asyncio.create_task(bridge.send(peer.canister_id, b"hello", msg_id=1))
            while not peer.got:  # noqa: ASYNC110 - it watches a stand-in
                await asyncio.sleep(0)
        with pytest.raises(LocalProtocolError, match="the bridge ended before flow 1 did"):
            await sending
        async with bridge_to(store) as bridge:
            peer.put(Ack(1, b"late but right", payload_hash(b"hello")))
            async with asyncio.timeout(120):
                assert await bridge.response(1) == b"late but right"


async def test_a_bridge_may_begin_again_where_it_ended(peer, bridge_to, until) -> None:
    told = asyncio.Queue()

    async def handler(_request):
        raise ZeroDivisionError("a bug")

    async with MemoryStore() as store:
        bridge = bridge_to(store, handler=handler, on_operator=told.put)
        for msg_id in (1, 2):
            async with bridge:
                bridge.watch(peer.canister_id)
                peer.put(New(msg_id, b"x"))
                assert await bridge.send(peer.canister_id, b"hello") == b"hello"
                async with asyncio.timeout(120):
                    while (await told.get()).msg_id != msg_id:
                        pass


async def test_the_log_says_what_ends_a_stalled_request_where_nobody_else_is_told(
    peer, bridge_to, until, caplog
) -> None:
    async def handler(_request):
        raise ZeroDivisionError("a bug")

    async with MemoryStore() as store, bridge_to(store, handler=handler) as bridge:
        bridge.watch(peer.canister_id)
        peer.put(New(1, b"x"))
        await until(lambda: "is stalled: bridge.rerun, answer or release ends" in caplog.text)


async def test_what_was_cut_off_is_in_flight_no_more(peer, bridge_to, until) -> None:
    policy = dataclasses.replace(SHORT_POLICY, in_flight=1)
    async with MemoryStore() as store:
        bridge = bridge_to(store, policy=policy, close_within=0)
        async with bridge:
            await bridge.post(peer.canister_id, b"x", msg_id=1)
            while not bridge._transmitter._in_flight.count(peer.canister_id, 0):  # noqa: ASYNC110 - the very moment
                await asyncio.sleep(0)
        peer.put(Ack(1, b"x", payload_hash(b"x")))
        async with bridge:
            assert bridge._transmitter.has_room(peer.canister_id)
            await until(lambda: Fin in peer.kinds(1))


async def test_a_handler_may_end_by_itself_when_its_bridge_ends(peer, bridge_to) -> None:
    begun = asyncio.Event()

    async def handler(_request):
        begun.set()
        await asyncio.sleep(0.01)
        return b"done"

    async with MemoryStore() as store:
        async with bridge_to(store, handler=handler) as bridge:
            bridge.watch(peer.canister_id)
            peer.put(New(7, b"x"))
            await begun.wait()
        assert [m for m in peer.got if isinstance(m, Ack)] == [Ack(7, b"done", payload_hash(b"x"))]


@pytest.mark.parametrize("how", ["cancelled", "waiting for its own flow"])
async def test_a_handler_that_does_not_end_with_its_bridge_is_stalled_and_told_by_the_next(
    peer, bridge_to, how
) -> None:
    begun, told = asyncio.Event(), asyncio.Queue()

    async def handler(_request):
        begun.set()
        if how == "cancelled":
            await asyncio.sleep(3600)
        return await bridge.send(peer.canister_id, b"a flow within")

    peer.answers = False
    policy = dataclasses.replace(SHORT_POLICY, rerun_stalled=how != "cancelled")
    async with MemoryStore() as store:
        async with bridge_to(store, handler=handler, policy=policy, close_within=0.01) as bridge:
            bridge.watch(peer.canister_id)
            peer.put(New(7, b"x"))
            await begun.wait()
        assert (await store.receiver_flow(peer.canister_id, 7)).state == ReceiverState.PROCESSING
        async with bridge_to(store, handler=handler, on_operator=told.put, close_within=0.01) as b:
            async with asyncio.timeout(120):
                telling = await told.get()
            assert (telling.what, telling.msg_id) == (Telling.STALLED, 7)
            await b.answer(peer.canister_id, 7, b"by hand")
        assert Ack(7, b"by hand", payload_hash(b"x")) in peer.got


async def test_a_deferred_request_waits_across_bridges(peer, bridge_to, until) -> None:
    asked = []

    async def handler(request):
        asked.append(request.msg_id)
        return DEFERRED

    async with MemoryStore() as store:
        async with bridge_to(store, handler=handler) as bridge:
            bridge.watch(peer.canister_id)
            peer.put(New(7, b"x"))
            await until(lambda: asked)
        async with bridge_to(store, handler=handler) as bridge:
            await bridge.answer(peer.canister_id, 7, b"at last")
            await until(lambda: Ack in peer.kinds(7))
    assert asked == [7]


async def test_a_request_that_comes_while_a_bridge_takes_up_its_work_is_not_taken_for_a_lost_one(
    peer, bridge_to, until, tmp_path
) -> None:
    waiting = [
        ReceiverFlow(
            peer=peer.canister_id,
            msg_id=n,
            dialect="unified",
            state=ReceiverState.PROCESSING,
            payload=b"",
            payload_hash=0,
            opened=0,
            changed=0,
            horizon=10**18,
            deferred=True,
            tries=1,
        )
        for n in range(350)
    ]
    told, ran, may_end = [], [], asyncio.Event()

    async def handler(request):
        ran.append(request.msg_id)
        await may_end.wait()
        return b"done"

    async def on_operator(telling):
        told.append(telling)

    peer.put(New(10**9, b"x"))
    async with SQLiteStore(tmp_path / "flows.db") as store:
        await store.commit(*(Change(None, record) for record in waiting))
        async with bridge_to(store, handler=handler, on_operator=on_operator):
            await until(lambda: ran)
            may_end.set()
            await until(lambda: peer.got)
    assert peer.got == [Ack(10**9, b"done", payload_hash(b"x"))]
    assert ran == [10**9]
    assert told == []


async def test_a_fin_that_was_lost_in_a_crash_is_given_when_its_ack_comes_again(
    peer, bridge_to, until
) -> None:
    def refuse(message):
        return CallOutcomeUnknownError("no answer") if isinstance(message, Fin) else None

    peer.refuse = refuse
    async with MemoryStore() as store:
        async with bridge_to(store) as bridge:
            assert await bridge.send(peer.canister_id, b"hello", msg_id=1) == b"hello"
        assert peer.kinds(1) == [New]
        peer.refuse = lambda _message: None
        peer.put(Ack(1, b"hello", payload_hash(b"hello")))
        async with bridge_to(store):
            await until(lambda: Fin in peer.kinds(1))


async def test_open_flows_go_on_under_their_own_name_only(peer, another_peer, bridge_to) -> None:
    async with MemoryStore() as store:
        peer.answers = False
        async with bridge_to(store) as bridge:
            await bridge.post(peer.canister_id, b"hello", msg_id=1)
        with pytest.raises(StoreError, match=f"open flows of {peer.principal}"):
            await bridge_to(store, agent=another_peer).__aenter__()
        async with bridge_to(store) as bridge:
            await bridge.cancel(1)
            with pytest.raises(FlowFailedError):
                await bridge.response(1)
        async with bridge_to(store, agent=another_peer) as bridge:
            assert not bridge._pollers, "what was said to another name is in another outbox"
            assert await bridge.send(peer.canister_id, b"hello", msg_id=2) == b"hello"


async def test_a_store_serves_one_bridge_at_a_time(peer, another_peer, bridge_to) -> None:
    async with MemoryStore() as store:
        async with bridge_to(store) as bridge:
            with pytest.raises(StoreError, match="another bridge works on this store"):
                async with bridge_to(store, agent=another_peer):
                    pass
            assert await bridge.send(peer.canister_id, b"hello") == b"hello"
        async with bridge_to(store) as bridge:
            assert await bridge.send(peer.canister_id, b"again") == b"again"


async def test_a_bridge_that_cannot_start_leaves_nothing_running(
    peer, bridge_to, monkeypatch
) -> None:
    async with MemoryStore() as store:
        async with bridge_to(store) as bridge:
            await bridge.send(peer.canister_id, b"hello", msg_id=1)

        async def fail(*_args, **_options):
            raise StoreError("the disk is gone")

        before = asyncio.all_tasks()
        monkeypatch.setattr(store, "peers", fail)
        with pytest.raises(StoreError, match="gone"):
            await bridge_to(store).__aenter__()
        assert asyncio.all_tasks() == before


async def test_a_bridge_that_is_left_while_its_user_is_cancelled_leaves_nothing_running(
    bridge_to,
) -> None:
    before = asyncio.all_tasks()

    async def use() -> None:
        async with MemoryStore() as store, bridge_to(store):
            asyncio.current_task().cancel()  # arrives where the bridge first waits as it ends

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(use())
    assert asyncio.all_tasks() == before


async def test_a_fault_in_serving_one_round_does_not_end_the_service(
    peer, bridge_to, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("bridge.service.bridge._PAUSE_AFTER_FAILURE", 0.001)
    async with MemoryStore() as store:
        due, faults = store.next_due, []

        async def once_faulty():
            if not faults:
                faults.append(1)
                raise ZeroDivisionError("a bug")
            return await due()

        monkeypatch.setattr(store, "next_due", once_faulty)
        async with bridge_to(store) as bridge:
            assert await bridge.send(peer.canister_id, b"hello") == b"hello"
    assert "a bug" in caplog.text


async def test_what_is_in_flight_is_counted_from_its_decision_on(peer, bridge_to, until) -> None:
    policy = dataclasses.replace(SHORT_POLICY, in_flight=2)
    peer.answers = False
    async with MemoryStore() as store, bridge_to(store, policy=policy, concurrency=1) as bridge:
        open_at_once = []
        began = bridge._transmitter.begin

        def begin(effect):
            token = began(effect)
            count = bridge._transmitter._in_flight.count(effect.peer, 0)
            open_at_once.append(count)
            return token

        bridge._transmitter.begin = begin
        for n in range(6):
            await bridge.post(peer.canister_id, b"x", msg_id=n)
        await until(lambda: len(peer.got) == 6)
        assert max(open_at_once) <= 2
        assert (await store.usage(Role.SENDER)).open == 6


async def test_a_peer_whose_calls_hang_does_not_hold_up_the_messages_to_others(
    peer, bridge_to
) -> None:
    hanging = Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")
    async with (
        MemoryStore() as store,
        bridge_to(store, concurrency=4, close_within=0) as bridge,
        asyncio.timeout(120),
    ):
        for _ in range(10):
            await bridge.post(hanging, b"x")
        while not bridge._transmitter._in_flight.count(hanging, 0):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        assert await bridge.send(peer.canister_id, b"hello") == b"hello"


async def test_an_ack_that_names_no_flow_is_answered_only_where_there_is_room(
    peer, bridge_to, until
) -> None:
    policy = dataclasses.replace(SHORT_POLICY, in_flight=1)
    async with MemoryStore() as store, bridge_to(store, policy=policy, close_within=0) as bridge:
        bridge.watch(peer.canister_id)
        peer.put(Ack(98, b"forgotten"))
        await until(lambda: Fin(98) in peer.got)
        in_flight = bridge._transmitter._in_flight
        await until(lambda: not in_flight.count(peer.canister_id, 0))
        peer.takes = 3_600
        await bridge.post(peer.canister_id, b"hello")
        await until(lambda: in_flight.count(peer.canister_id, 0) == 1)
        peer.put(Ack(99, b"forgotten"))
        await until(lambda: bridge.counters["unknown_ack"] == 2)
        assert in_flight.count(peer.canister_id, 0) == 1


# --- One role alone -----------------------------------------------------------------------------


async def test_a_side_that_only_receives_counts_acks_answers_requests_and_opens_no_flow(
    peer, bridge_to, until
) -> None:
    async def echo(request):
        return request.payload

    async with MemoryStore() as store, bridge_to(store, handler=echo, sends=False) as bridge:
        bridge.watch(peer.canister_id)
        peer.put(Ack(5, b"late"))
        await until(lambda: bridge.counters.get("ACK to a side that only receives"))
        peer.put(New(6, b"hello"))
        await until(lambda: Ack in peer.kinds(6))
        assert peer.kinds(5) == []
        with pytest.raises(LocalProtocolError, match="opens no flows"):
            await bridge.post(peer.canister_id, b"hello")


async def test_flows_that_are_open_go_on_when_the_next_bridge_only_receives(
    peer, bridge_to, until
) -> None:
    peer.answers = False
    async with MemoryStore() as store:
        async with bridge_to(store) as bridge:
            msg_id = await bridge.post(peer.canister_id, b"hello")
            await until(lambda: New in peer.kinds(msg_id))
        peer.answers = True
        async with bridge_to(store, sends=False) as bridge:
            assert await bridge.response(msg_id) == b"hello"
        assert Fin in peer.kinds(msg_id)
