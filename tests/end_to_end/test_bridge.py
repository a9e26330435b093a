"""A `Bridge` with real Motoko canisters: what an application sees, in good and in bad times."""

import asyncio
import contextlib
import dataclasses
import random
import sys
from pathlib import Path

import pytest

from bridge import candid, dialects
from bridge.agent import Identity
from bridge.demo.compute import compute, means_the_same, random_payload, right_response
from bridge.errors import CallRejectedError, FlowFailedError, LocalProtocolError, StoreError
from bridge.flow import New, Role, Telling
from bridge.principal import Principal
from bridge.reference import SHORT_POLICY
from bridge.service import DEFERRED, Bridge, FinalFailure, RetryLater
from bridge.store import MemoryStore, PostgresStore, SQLiteStore

NOBODY = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


@contextlib.asynccontextmanager
async def bridge_on(stage, store=None, **options):
    """A bridge with short waits that watches all of the stage's canisters."""
    options.setdefault("policy", SHORT_POLICY)
    options.setdefault("poll_every", 0.1)
    async with contextlib.AsyncExitStack() as held:
        store = store or await held.enter_async_context(MemoryStore())
        bridge = await held.enter_async_context(Bridge(stage.agent, store, **options))
        yield bridge


async def until(ask, *, within: float = 120.0):
    """The first answer that is true."""
    async with asyncio.timeout(within):
        while not (answer := await ask()):  # noqa: ASYNC110 - it polls another process
            await asyncio.sleep(0.05)
        return answer


async def sender_ends(stage, sender, msg_id):
    """How a Motoko sender's flow ended."""
    return await until(lambda: sender.outcome(msg_id))


# --- As a sender --------------------------------------------------------------------------------


async def test_a_response_arrives_and_both_sides_reach_their_end_state(stage) -> None:
    payload = random_payload(random.Random(1))
    async with MemoryStore() as store, bridge_on(stage, store) as bridge:
        response = await bridge.send(stage.receiver.canister_id, payload)
        assert means_the_same(response, right_response(payload))
        [flow] = (await store.flows(role=Role.SENDER)).flows
        assert flow.attempts == 1

        async def sender_state():
            return (await store.sender_flow(flow.msg_id)).state == "acknowledged"

        await until(sender_state)

        async def receiver_state():
            view = await stage.receiver.flow("receiver", flow.msg_id)
            return view["state"].label == "finished"

        await until(receiver_state)
        assert await stage.receiver.handled(stage.us, flow.msg_id) == 1


async def test_a_hundred_flows_at_once_all_complete(stage) -> None:
    draw = random.Random(2)
    payloads = [random_payload(draw) for _ in range(100)]
    async with bridge_on(stage) as bridge:
        responses = await asyncio.gather(
            *(bridge.send(stage.receiver.canister_id, payload) for payload in payloads)
        )
    for payload, response in zip(payloads, responses, strict=True):
        assert means_the_same(response, right_response(payload))


@pytest.mark.parametrize("payload", [b"", b"\x00" * 1_500_000], ids=["empty", "1.5 MB"])
async def test_a_payload_is_carried_exactly(stage, payload: bytes) -> None:
    async with bridge_on(stage) as bridge:
        assert (await bridge.send(stage.echo.canister_id, payload) or b"") == payload


async def test_a_repeated_send_with_an_own_id_runs_the_work_once(stage) -> None:
    payload = random_payload(random.Random(3))
    async with bridge_on(stage) as bridge:
        msg_id = 10**20 + 3
        first = await bridge.send(stage.receiver.canister_id, payload, msg_id=msg_id)
        assert means_the_same(first, right_response(payload))
        with pytest.raises(LocalProtocolError, match="taken already"):
            await bridge.send(stage.receiver.canister_id, payload, msg_id=msg_id)
        with pytest.raises(LocalProtocolError):
            await bridge.send(stage.receiver.canister_id, b"another", msg_id=msg_id)
        assert await stage.receiver.handled(stage.us, msg_id) == 1


async def test_an_outcome_that_nobody_waits_for_goes_to_on_outcome_until_it_is_taken(stage) -> None:
    told = asyncio.Queue()

    async def on_outcome(outcome):
        await told.put(outcome)
        if not outcome.redelivered:
            raise RuntimeError("not yet")

    policy = dataclasses.replace(SHORT_POLICY, first_retry=SHORT_POLICY.first_retry)
    payload = random_payload(random.Random(4))
    async with (
        MemoryStore() as store,
        bridge_on(stage, store, on_outcome=on_outcome, policy=policy) as bridge,
    ):
        msg_id = await bridge.post(stage.receiver.canister_id, payload)
        first = await asyncio.wait_for(told.get(), 120)
        second = await asyncio.wait_for(told.get(), 120)
        assert (first.msg_id, first.redelivered) == (msg_id, False)
        assert (second.msg_id, second.redelivered) == (msg_id, True)
        assert means_the_same(second.response, right_response(payload))

        async def acknowledged():
            return (await store.sender_flow(msg_id)).state == "acknowledged"

        await until(acknowledged)


async def test_a_canister_without_the_protocol_refuses_and_nothing_was_done(stage) -> None:
    empty = await stage.network.deploy(stage.agent, b"\x00asm\x01\x00\x00\x00")
    async with bridge_on(stage) as bridge:
        with pytest.raises(FlowFailedError, match="nothing was done") as caught:
            await bridge.send(empty, b"hello")
    assert caught.value.failure == "refused"
    assert caught.value.certainly_not_done


async def test_a_receiver_that_never_answers_ends_as_unknown(stage) -> None:
    policy = dataclasses.replace(
        SHORT_POLICY, attempts=2, first_retry=1_300_000_000, max_delay=1_300_000_000
    )
    async with bridge_on(stage, policy=policy) as bridge:
        with pytest.raises(FlowFailedError, match="may have been done") as caught:
            await bridge.send(NOBODY, b"hello")
    assert caught.value.failure == "unknown"
    assert not caught.value.certainly_not_done


async def test_a_cancelled_flow_ends_at_once_and_its_response_comes_late(stage) -> None:
    late = asyncio.Queue()
    payload = random_payload(random.Random(5))
    async with bridge_on(stage, on_outcome=late.put) as bridge:
        sending = asyncio.create_task(bridge.send(stage.receiver.canister_id, payload, msg_id=55))
        await asyncio.sleep(0)
        while True:  # the flow is opened by a task of its own
            with contextlib.suppress(LocalProtocolError):
                await bridge.cancel(55)
                break
            await asyncio.sleep(0)
        with pytest.raises(FlowFailedError) as caught:
            await sending
        assert caught.value.failure in ("unsent", "cancelled")
        if caught.value.failure == "cancelled":
            outcome = await asyncio.wait_for(late.get(), 120)
            assert outcome.late
            assert means_the_same(outcome.response, right_response(payload))


async def test_a_response_that_finds_no_free_bytes_comes_again_until_it_does(stage) -> None:
    size, room = 12_000, SHORT_POLICY.response_room
    full = size + 2 * room + 1_000
    policy = dataclasses.replace(SHORT_POLICY, bytes_per_peer=full, bytes_stored=full)
    payload, taken = random.Random(6).randbytes(size), asyncio.Queue()
    async with bridge_on(stage, policy=policy, on_outcome=taken.put) as bridge:
        held = await bridge.post(NOBODY, b"takes room for its response")
        wanted = await bridge.post(stage.echo.canister_id, payload)

        async def refused():
            return bridge.counters.get("refused.quota_bytes", 0) >= 2

        assert await until(refused)
        assert taken.empty()
        await bridge.cancel(held)
        outcomes = [await asyncio.wait_for(taken.get(), 120) for _ in range(2)]
        assert [outcome.msg_id for outcome in outcomes] == [held, wanted]
        assert outcomes[1].response == payload


async def test_a_payload_over_the_limit_is_the_callers_error(stage) -> None:
    async with MemoryStore() as store, bridge_on(stage, store) as bridge:
        with pytest.raises(LocalProtocolError, match="too large"):
            await bridge.send(stage.echo.canister_id, bytes(1_900_001))
        assert (await store.usage(Role.SENDER)).open == 0


async def test_the_dialect_is_read_from_the_canisters_metadata(stage, caplog) -> None:
    metadata = await stage.agent.metadata(stage.receiver.canister_id, "candid:service")
    assert dialects.detect(metadata.decode()) == "unified"
    caplog.set_level("INFO", logger="bridge.service")
    async with bridge_on(stage) as bridge:
        await bridge.send(stage.receiver.canister_id, random_payload(random.Random(10)))
        assert "does not tell its dialect" not in caplog.text


async def test_the_outbox_is_empty_once_its_messages_were_taken(stage) -> None:
    args = candid.Codec([candid.Record({"after": candid.Opt(candid.Nat64), "limit": candid.Nat32})])
    result = candid.Codec(
        [candid.Vec(candid.Record({"seq": candid.Nat64, "message": candid.Reserved}))]
    )
    arg = args.encode({"after": None, "limit": 10})
    canister = stage.receiver.canister_id
    async with bridge_on(stage) as bridge:
        await bridge.send(canister, random_payload(random.Random(6)))

        async def empty():
            (entries,) = result.decode(await stage.agent.query(canister, "asyncFlow_outbox", arg))
            return not entries

        await until(empty)


# --- As a receiver ------------------------------------------------------------------------------


async def test_a_motoko_sender_gets_what_the_handler_answers(stage, sender) -> None:
    payload = random_payload(random.Random(7))
    async with MemoryStore() as store, bridge_on(stage, store, handler=compute) as bridge:
        bridge.watch(sender.canister_id)
        msg_id = await sender.send(stage.us, payload)
        outcome = await sender_ends(stage, sender, msg_id)
        assert outcome.label == "answered"
        assert means_the_same(outcome.value["response"], right_response(payload))

        async def finished():
            record = await store.receiver_flow(sender.canister_id, msg_id)
            return record.state == "finished"

        await until(finished)


async def test_a_handler_that_says_later_is_asked_again_by_the_senders_next_new(
    stage, sender
) -> None:
    seen = []

    async def handler(request):
        seen.append(request.msg_id)
        if seen.count(request.msg_id) == 1:
            raise RetryLater
        return b"second time"

    async with bridge_on(stage, handler=handler) as bridge:
        bridge.watch(sender.canister_id)
        msg_id = await sender.send(stage.us, b"x")
        outcome = await sender_ends(stage, sender, msg_id)
        assert outcome.value["response"] == b"second time"
        assert seen.count(msg_id) == 2


async def test_a_final_failure_is_an_answer(stage, sender) -> None:
    async def handler(_request):
        raise FinalFailure(b"no such account")

    async with bridge_on(stage, handler=handler) as bridge:
        bridge.watch(sender.canister_id)
        outcome = await sender_ends(stage, sender, await sender.send(stage.us, b"x"))
        assert (outcome.label, outcome.value["response"]) == ("answered", b"no such account")


async def test_a_deferred_request_is_answered_later_and_only_once(stage, sender) -> None:
    requests = asyncio.Queue()

    async def handler(request):
        await requests.put(request)
        return DEFERRED

    async with bridge_on(stage, handler=handler) as bridge:
        bridge.watch(sender.canister_id)
        msg_id = await sender.send(stage.us, b"x")
        request = await asyncio.wait_for(requests.get(), 120)
        assert await sender.outcome(msg_id) is None
        await bridge.answer(request.peer, request.msg_id, b"at last")
        outcome = await sender_ends(stage, sender, msg_id)
        assert outcome.value["response"] == b"at last"
        with pytest.raises(LocalProtocolError):
            await bridge.answer(request.peer, request.msg_id, b"again")


async def test_a_crashing_handler_stalls_the_request_tells_the_operator_and_can_be_rerun(
    stage, sender, caplog
) -> None:
    told = asyncio.Queue()
    runs = []

    async def handler(request):
        runs.append(request.redelivered)
        if len(runs) == 1:
            raise ZeroDivisionError("a bug")
        return b"mended"

    async with bridge_on(stage, handler=handler, on_operator=told.put) as bridge:
        bridge.watch(sender.canister_id)
        msg_id = await sender.send(stage.us, b"x")
        telling = await asyncio.wait_for(told.get(), 120)
        assert (telling.what, telling.msg_id) == (Telling.STALLED, msg_id)
        await bridge.rerun(telling.peer, telling.msg_id)
        outcome = await sender_ends(stage, sender, msg_id)
        assert outcome.value["response"] == b"mended"
    assert runs == [False, True]
    assert "a bug" in caplog.text


async def test_a_bridge_without_a_handler_ignores_requests_and_counts_them(stage) -> None:
    sender = await stage.deploy("sender", attempts=1)
    async with bridge_on(stage) as bridge:
        bridge.watch(sender.canister_id)
        await sender.send(stage.us, b"x")

        async def counted():
            return bridge.counters.get("NEW to a side that only sends")

        assert await until(counted) >= 1


async def test_a_canister_that_is_not_accepted_gets_no_answer(stage, sender) -> None:
    async with bridge_on(stage, handler=compute, accept=frozenset({NOBODY})) as bridge:
        bridge.watch(sender.canister_id)
        await sender.send(stage.us, b"x")

        async def counted():
            return bridge.counters.get("refused.access")

        assert await until(counted) >= 1


# --- Across the end of a process ----------------------------------------------------------------


async def test_what_was_open_when_a_bridge_ended_goes_on_with_the_next(stage, tmp_path) -> None:
    payload = random_payload(random.Random(8))
    async with SQLiteStore(tmp_path / "flows.db") as store:
        async with bridge_on(stage, store) as bridge:
            msg_id = await bridge.post(stage.receiver.canister_id, payload)
        async with bridge_on(stage, store) as bridge:
            response = await asyncio.wait_for(bridge.response(msg_id), 120)
            assert means_the_same(response, right_response(payload))
            assert await stage.receiver.handled(stage.us, msg_id) == 1


KILLED = """
import asyncio, sys
from pathlib import Path
from bridge import Agent, Bridge, Identity, PostgresStore, Principal, SQLiteStore
from bridge.reference import SHORT_POLICY
from bridge.service import DEFERRED

async def handle(request):
    if request.payload == b"later":
        return DEFERRED
    print("running", request.msg_id, flush=True)
    await asyncio.sleep(600)

async def as_sender(bridge, store, peer):
    for _ in range(20):
        print(await bridge.post(peer, bytes.fromhex(sys.argv[6])), flush=True)

async def as_receiver(bridge, store, peer):
    bridge.watch(peer)
    while True:
        for flow in (await store.flows()).flows:
            if flow.deferred:
                print("deferred", flow.msg_id, flush=True)
        await asyncio.sleep(0.1)

async def main(url, root_key, pem, database, peer, payload, role):
    identity = Identity.from_pem(Path(pem))
    async with (
        Agent(url, identity=identity, root_key=bytes.fromhex(root_key)) as agent,
        (PostgresStore if "://" in database else SQLiteStore)(database) as store,
        Bridge(agent, store, policy=SHORT_POLICY, handler=handle) as bridge,
    ):
        await globals()[role](bridge, store, Principal.from_text(peer))
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@dataclasses.dataclass
class Takeover:
    """Where a process that is killed keeps its flows, and how another takes them over.

    Args:
        location: The place.
        stands_by: Whether the other waits while the process lives, as only a server lets it.
    """

    location: str
    stands_by: bool

    @contextlib.asynccontextmanager
    async def from_killed(self, process):
        """The store, after `kill -9` of the process that owns it."""
        async with contextlib.AsyncExitStack() as held:
            if self.stands_by:
                with pytest.raises(StoreError, match="in use"):
                    await PostgresStore(self.location).open()
                standby = PostgresStore(self.location, standby=True)
                opening = asyncio.create_task(held.enter_async_context(standby))
            process.kill()
            await process.wait()
            if self.stands_by:
                yield await asyncio.wait_for(opening, 120)
            else:
                yield await held.enter_async_context(SQLiteStore(self.location))


@pytest.fixture(params=["sqlite", "postgres"])
def takeover(request: pytest.FixtureRequest, tmp_path: Path) -> Takeover:
    if request.param == "sqlite":
        return Takeover(str(tmp_path / "flows.db"), stands_by=False)
    return Takeover(request.getfixturevalue("postgres").location, stands_by=True)


async def process_to_be_killed(
    stage, folder: Path, location: str, peer: Principal, payload: bytes, role: str
):
    """The program above, with the stage's identity."""
    pem = folder / "identity.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(stage.agent.identity.to_pem())
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        KILLED,
        stage.network.url,
        stage.network.root_key.hex(),
        str(pem),
        location,
        str(peer),
        payload.hex(),
        role,
        stdout=asyncio.subprocess.PIPE,
    )


async def test_kill_9_loses_no_flow_and_runs_none_twice(
    stage, tmp_path: Path, takeover: Takeover
) -> None:
    payload = random_payload(random.Random(9))
    process = await process_to_be_killed(
        stage, tmp_path, takeover.location, stage.receiver.canister_id, payload, "as_sender"
    )
    opened = [int(await asyncio.wait_for(process.stdout.readline(), 120)) for _ in range(20)]
    async with takeover.from_killed(process) as store, bridge_on(stage, store) as bridge:
        for msg_id in opened:
            try:
                response = await asyncio.wait_for(bridge.response(msg_id), 120)
            except LocalProtocolError as error:  # ended before the kill, with nobody waiting
                assert "taken already" in str(error)  # noqa: PT017 - either end is right
            else:
                assert means_the_same(response, right_response(payload))
            assert await stage.receiver.handled(stage.us, msg_id) == 1


async def test_kill_9_while_handlers_run_runs_none_again_unasked_and_tells_of_it(
    stage, tmp_path: Path, takeover: Takeover
) -> None:
    sender = await stage.deploy("sender")
    process = await process_to_be_killed(
        stage, tmp_path, takeover.location, sender.canister_id, b"", "as_receiver"
    )
    running = await sender.send(stage.us, b"now")
    deferred = await sender.send(stage.us, b"later")
    said = set()
    async with asyncio.timeout(120):
        while not {f"running {running}", f"deferred {deferred}"} <= said:
            said.add((await process.stdout.readline()).decode().strip())
    told, runs = asyncio.Queue(), []

    async def handler(request):
        runs.append((request.msg_id, request.redelivered))
        return b"run again"

    async with (
        takeover.from_killed(process) as store,
        bridge_on(stage, store, handler=handler, on_operator=told.put) as bridge,
    ):
        telling = await asyncio.wait_for(told.get(), 120)
        assert (telling.what, telling.msg_id) == (Telling.STALLED, running)
        await bridge.answer(sender.canister_id, deferred, b"as if nothing had been")
        outcome = await sender_ends(stage, sender, deferred)
        assert outcome.value["response"] == b"as if nothing had been"
        assert runs == []
        await bridge.rerun(sender.canister_id, running)
        outcome = await sender_ends(stage, sender, running)
        assert outcome.value["response"] == b"run again"
    assert runs == [(running, True)]
    assert told.empty()


async def test_flows_go_on_both_ways_while_the_server_of_their_store_crashes(
    stage, sender, postgres
) -> None:
    draw, handled = random.Random(10), []

    async def handler(request):
        handled.append(request.msg_id)
        return await compute(request)

    payloads = [random_payload(draw) for _ in range(40)]
    async with (
        PostgresStore(postgres.location) as store,
        bridge_on(stage, store, handler=handler) as bridge,
    ):
        sending = [
            asyncio.create_task(bridge.send(stage.receiver.canister_id, payload, msg_id=msg_id))
            for msg_id, payload in enumerate(payloads, 70_001)
        ]
        bridge.watch(sender.canister_id)
        asked = [await sender.send(stage.us, payload) for payload in payloads[:10]]
        await asyncio.to_thread(postgres.server.restart)
        asked += [await sender.send(stage.us, payload) for payload in payloads[10:20]]
        postgres.end_sessions()
        async with asyncio.timeout(240):
            for msg_id, payload in enumerate(payloads, 70_001):
                assert means_the_same(await sending[msg_id - 70_001], right_response(payload))
                assert await stage.receiver.handled(stage.us, msg_id) == 1
            for msg_id, payload in zip(asked, payloads, strict=False):
                outcome = await sender_ends(stage, sender, msg_id)
                assert means_the_same(outcome.value["response"], right_response(payload))
        assert sorted(handled) == sorted(asked), "each once"


async def test_a_bridge_that_is_not_running_says_so(stage) -> None:
    async with MemoryStore() as store:
        bridge = Bridge(stage.agent, store)
        with pytest.raises(LocalProtocolError, match="not running"):
            await bridge.send(NOBODY, b"")


async def test_an_agent_that_is_not_listed_is_refused(stage) -> None:
    async with stage.network.agent(Identity.generate()) as stranger:
        method, arg = dialects.get("unified").call_for(New(1, b"x"))
        # A one-way method replies before its body runs, unless the replica inspects the message.
        with contextlib.suppress(CallRejectedError):
            await stranger.update(stage.receiver.canister_id, method, arg)
        # What is sent later is run later: once it is answered, the first was run or never will be.
        payload = random_payload(random.Random(10))
        async with bridge_on(stage) as bridge:
            response = await bridge.send(stage.receiver.canister_id, payload)
        assert means_the_same(response, right_response(payload))
        assert await stage.receiver.handled(stranger.principal, 1) == 0
