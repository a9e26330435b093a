"""Faults between canisters: what may happen to which message, and chances that repeat."""

import random

import pytest

from bridge.errors import ReplicaError
from bridge.network import AdminClient
from bridge.replica.scheduler.faults import (
    BETWEEN_CANISTERS,
    REQUESTS,
    Action,
    Chances,
    Filter,
    Kind,
    Passing,
    Strike,
)
from bridge.replica.state.messages import RejectCode, Reply

SECOND = 10**9
ANSWERS = frozenset({Kind.RESPONSE})


def number(data):
    return int.from_bytes(data, "little")


@pytest.fixture
def wasm(universal_wasm):
    return universal_wasm(True)


def _fault(driver, action, *, kinds=REQUESTS, nth=1, code=2, text="", nanoseconds=0, **chosen):
    strike = Strike(action, RejectCode(code), text, nanoseconds)
    driver.machine.faults.add(Filter(kinds, **chosen), nth, strike)


def _calling(program, callee, received, **options):
    """A program that calls, and answers with what came back: the reply, or code and text."""
    on_reply = program().append_blob_of("msg_arg_data").reply()
    on_reject = program().msg_reject_code().append_number().append_blob_of("msg_reject_msg").reply()
    return (
        program()
        .call(callee.raw, "update", received, reply=on_reply, reject=on_reject, **options)
        .drop()
    )


def _append_args(program):
    return program().append_blob_of("msg_arg_data").reply()


def _one_way(program, *calls):
    sending = program()
    for callee, mark in calls:
        sending.call(callee.raw, "update", program().blob(mark).drop().drop(), one_way=True).drop()
    return sending.reply(b"")


def _marks(driver, receiver, outcome="executed"):
    """The last byte before the program's two drops of each request, in the order of execution."""
    return [
        entry.arg[-4:-3].decode()
        for entry in driver.machine.log.entries
        if entry.kind == "request" and entry.receiver == receiver and entry.outcome == outcome
    ]


@pytest.mark.covers("faults between canisters")
def test_a_rejected_call_brings_code_and_text(driver, canister, other, program):
    _fault(driver, Action.REJECT, code=1, text="no more of this", sender=canister)
    answer = driver.update(canister, _calling(program, other, program().reply(b"yes")))
    assert (number(answer[:8]), answer[8:]) == (1, b"no more of this")
    assert driver.update(canister, _calling(program, other, program().reply(b"yes"))) == b"yes"


def test_a_rejected_call_gives_its_cycles_back(driver, canister, other, program):
    before = driver.canisters[canister].cycles
    _fault(driver, Action.REJECT, sender=canister)
    driver.update(canister, _calling(program, other, program().reply(b""), cycles=10**9))
    assert driver.canisters[canister].cycles == before


def test_a_users_call_can_be_rejected_by_the_system(driver, canister, program):
    _fault(driver, Action.REJECT, code=2, text="busy", method="update")
    answer = driver.reject(canister, program().reply(b""))
    assert (answer.code, answer.message) == (RejectCode.SYS_TRANSIENT, "busy")


@pytest.mark.covers("faults between canisters")
def test_a_delayed_call_arrives_later(driver, canister, other, program):
    _fault(driver, Action.DELAY, nanoseconds=5 * SECOND, sender=canister)
    record = driver.submit(canister, "update", _calling(program, other, program().reply(b"late")))
    driver.settle()
    assert record.payload is None
    assert driver.machine.next_due() <= driver.machine.held.next_due()
    assert 0 < driver.machine.held.next_due() - driver.machine.time <= 5 * SECOND
    driver.advance(5 * SECOND)
    assert record.payload == Reply(b"late")


def test_later_calls_of_the_pair_wait_behind_a_delayed_one(driver, canister, other, wasm, program):
    third = driver.create(wasm)
    _fault(driver, Action.DELAY, nanoseconds=SECOND, sender=canister, receiver=other)
    driver.update(canister, _one_way(program, (other, "a"), (third, "b"), (other, "c")))
    driver.update(third, _one_way(program, (other, "d")))
    assert _marks(driver, third) == ["b"]
    assert _marks(driver, other) == ["d"]
    driver.advance(SECOND)
    assert _marks(driver, other) == ["d", "a", "c"]


def test_a_delayed_call_that_is_too_old_is_rejected(driver, canister, other, program):
    _fault(driver, Action.DELAY, nanoseconds=301 * SECOND, sender=canister)
    record = driver.submit(canister, "update", _calling(program, other, program().reply(b"late")))
    driver.settle()
    driver.advance(301 * SECOND)
    assert number(record.payload.data[:8]) == RejectCode.SYS_TRANSIENT


@pytest.mark.covers("request: expired ones do not start")
def test_a_management_call_that_is_delayed_beyond_its_expiry_does_not_start(driver):
    _fault(driver, Action.DELAY, nanoseconds=301 * SECOND, kinds=frozenset({Kind.INGRESS}))
    creating = {"settings": None, "amount": None, "specified_id": None}
    assert driver.manage_raw(
        "provisional_create_canister_with_cycles", {**creating, "sender_canister_version": None}
    ) is None  # fmt: skip
    driver.advance(301 * SECOND)
    (record,) = driver.machine.subnet.history.records.values()
    assert (record.payload.code, record.payload.error_code) == (2, "IC0202")
    assert not driver.canisters


def test_a_bounded_call_does_not_wait_for_a_delayed_answer(driver, canister, other, program):
    _fault(driver, Action.DELAY, kinds=ANSWERS, nanoseconds=20 * SECOND, receiver=canister)
    sending = _calling(program, other, program().reply(b"late"), timeout=10, cycles=10**9)
    before = driver.canisters[canister].cycles
    record = driver.submit(canister, "update", sending)
    driver.settle()
    driver.advance(11 * SECOND)
    assert number(record.payload.data[:8]) == RejectCode.SYS_UNKNOWN
    assert driver.canisters[canister].cycles == before - 10**9
    driver.advance(20 * SECOND)
    assert driver.canisters[canister].cycles == before


@pytest.mark.covers("faults between canisters")
def test_a_reordered_call_lets_all_others_pass(driver, canister, other, wasm, program):
    third = driver.create(wasm)
    _fault(driver, Action.REORDER, sender=canister, receiver=other)
    first = driver.submit(canister, "update", _one_way(program, (other, "a"), (other, "b")))
    second = driver.submit(third, "update", _one_way(program, (other, "c"), (other, "d")))
    driver.settle()
    assert first.payload == second.payload == Reply(b"")
    assert _marks(driver, other) == ["c", "d", "a", "b"]


def test_a_reordered_answer_is_overtaken_by_a_later_one(driver, canister, other, program):
    _fault(driver, Action.REORDER, kinds=ANSWERS, contains=b"one")
    sending = program()
    for mark in (b"one", b"two"):
        sending.call(other.raw, "update", program().reply(mark)).drop()
    driver.update(canister, sending.reply(b""))
    answers = [entry.arg for entry in driver.machine.log.entries if entry.kind == "reply"]
    assert answers == [b"two", b"one"]


def test_a_lost_answer_leaves_the_call_done_and_its_outcome_unknown(
    driver, canister, other, program
):
    _fault(driver, Action.LOSE, kinds=ANSWERS, sender=other, receiver=canister)
    received = program().set_counter(7).reply(b"done")
    answer = driver.update(canister, _calling(program, other, received, timeout=60))
    assert number(answer[:8]) == RejectCode.SYS_UNKNOWN
    assert number(driver.update(other, program().counter().append_number().reply())) == 7


NOT_ALLOWED = {
    "the answer to an unbounded-wait call is never lost": (Action.LOSE, ANSWERS, 2),
    "an answer is never rejected": (Action.REJECT, ANSWERS, 2),
    "an unbounded-wait call never ends as unknown": (Action.REJECT, frozenset({Kind.REQUEST}), 6),
    "a user's call is rejected by system codes only": (
        Action.REJECT,
        frozenset({Kind.INGRESS}),
        5,
    ),
}


@pytest.mark.parametrize("name", NOT_ALLOWED)
@pytest.mark.covers("faults between canisters")
def test_what_the_ic_would_not_do_does_not_happen(driver, canister, other, program, name):
    action, kinds, code = NOT_ALLOWED[name]
    _fault(driver, action, kinds=kinds, code=code)
    assert driver.update(canister, _calling(program, other, program().reply(b"yes"))) == b"yes"
    assert driver.machine.faults.pending() == 1


def test_unknown_may_be_the_outcome_of_a_bounded_call(driver, canister, other, program):
    _fault(driver, Action.REJECT, code=6, sender=canister)
    sending = _calling(program, other, program().reply(b"yes"), timeout=60)
    assert number(driver.update(canister, sending)[:8]) == RejectCode.SYS_UNKNOWN


def test_a_deleted_canister_gets_no_late_answer(driver, canister, other, program):
    _fault(driver, Action.DELAY, kinds=ANSWERS, nanoseconds=SECOND, receiver=canister)
    driver.submit(canister, "update", _calling(program, other, program().reply(b"late")))
    driver.settle()
    driver.manage("uninstall_code", {"canister_id": canister, "sender_canister_version": None})
    driver.manage("stop_canister", {"canister_id": canister})
    driver.manage("delete_canister", {"canister_id": canister})
    driver.advance(SECOND)
    assert not driver.machine.held


# --- chances --------------------------------------------------------------------------------------


def _chances(seed, **of):
    per = {Action(name): chance for name, chance in of.items()}
    return Chances(seed, Filter(BETWEEN_CANISTERS), per, 10 * SECOND)


def _message(sender, receiver, content=b"", kind=Kind.REQUEST, *, bounded=True):
    return Passing(kind, sender, receiver, "m", content, bounded)


def test_what_happens_does_not_depend_on_what_else_goes_on(canister, other):
    one = _chances(5, lose=200, delay=300, reorder=100)
    alone = [one.draw(_message(canister, other, b"%d" % n)) for n in range(300)]
    again = _chances(5, lose=200, delay=300, reorder=100)
    among = []
    for n in range(300):
        again.draw(_message(other, canister))
        among.append(again.draw(_message(canister, other, b"something else %d" % n)))
        again.draw(_message(canister, other, kind=Kind.RESPONSE))
    assert alone == among
    assert {strike.action for strike in alone if strike} == {
        Action.LOSE, Action.DELAY, Action.REORDER,
    }  # fmt: skip
    other_seed = _chances(6, lose=200, delay=300, reorder=100)
    assert [other_seed.draw(_message(canister, other)) for n in range(300)] != alone


def test_chances_are_about_as_often_as_asked_for(canister, other):
    drawing = _chances(1, lose=100, reject=50, delay=250)
    drawn = [drawing.draw(_message(canister, other)) for _ in range(4000)]
    for action, share in ((Action.LOSE, 0.1), (Action.REJECT, 0.05), (Action.DELAY, 0.25)):
        count = sum(strike is not None and strike.action is action for strike in drawn)
        assert abs(count / 4000 - share) < 0.03
    waits = [strike.nanoseconds for strike in drawn if strike and strike.action is Action.DELAY]
    assert 0 < min(waits) < SECOND
    assert 9 * SECOND < max(waits) <= 10 * SECOND


def test_calls_to_oneself_are_left_alone_unless_asked_for(canister):
    always = _chances(1, lose=1000)
    assert always.draw(_message(canister, canister)) is None
    chosen = Chances(1, Filter(BETWEEN_CANISTERS, receiver=canister), {Action.LOSE: 1000}, 1)
    assert chosen.draw(_message(canister, canister)).action is Action.LOSE


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.covers("faults between canisters")
def test_under_all_faults_every_call_ends_once_in_order_and_no_cycle_is_lost(
    driver, wasm, program, seed
):
    canisters = [driver.create(wasm) for _ in range(3)]
    before = sum(driver.canisters[name].cycles for name in canisters)
    driver.machine.faults.chances = _chances(seed, lose=100, reject=100, delay=200, reorder=200)
    chance = random.Random(seed)
    sent = 0
    for step in range(60):
        sender, receiver = chance.sample(canisters, 2)
        sending = program()
        for call in range(chance.randint(1, 4)):
            mark = b"%08d" % (step * 10 + call)
            received = program().blob(mark).drop().drop().reply(b"r")
            timeout = chance.choice([None, 1, 5, 60])
            cycles = chance.choice([0, 10**6])
            sending.call(
                receiver.raw, "update", received, timeout=timeout, cycles=cycles
            ).drop()  # fmt: skip
            sent += 1
        driver.update(sender, sending.reply(b""))
        if chance.random() < 0.3:
            driver.advance(chance.randrange(3 * SECOND))
    for _ in range(3):  # the answer to a delayed call may be delayed again
        driver.advance(20 * SECOND)
    log = driver.machine.log.entries
    answers = [e for e in log if e.kind in ("reply", "reject") and e.outcome == "executed"]
    assert len(answers) == sent
    executed = {}
    for entry in log:
        if entry.kind == "request" and entry.outcome == "executed":
            executed.setdefault((entry.sender, entry.receiver), []).append(entry.arg[5:13])
    assert all(marks == sorted(marks) for marks in executed.values())
    assert not driver.machine.held
    assert not any(driver.canisters[name].contexts for name in canisters)
    assert sum(driver.canisters[name].cycles for name in canisters) == before
    struck = driver.machine.faults.struck
    assert all(struck[action.value] for action in Action)


def _life(driver, wasm, program, seed):
    """Calls and timers under chances, in virtual time; every message and what became of it."""
    one, other = driver.create(wasm), driver.create(wasm)
    driver.machine.faults.chances = _chances(seed, lose=150, reject=100, delay=250, reorder=150)
    for number in range(40):
        driver.update(one, _one_way(program, (other, b"a%d" % number), (other, b"b%d" % number)))
        driver.update(other, _one_way(program, (one, b"c%d" % number)))
        driver.advance(SECOND // 2)
    driver.advance(20 * SECOND)
    return [
        (entry.time, entry.sender, entry.receiver, entry.arg, entry.kind, entry.outcome)
        for entry in driver.machine.log.entries
    ]


def test_a_life_under_chances_repeats_itself(make_virtual, wasm, program):
    first, again, different = (
        _life(make_virtual(), wasm, program, seed) for seed in (1, 1, 2)
    )  # fmt: skip
    assert first == again
    assert first != different
    assert {"lost", "rejected", "delayed", "reordered"} <= {entry[5] for entry in first}


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
async def pair(client, universal_wasm):
    return await client.create(universal_wasm(True)), await client.create(universal_wasm(True))


@pytest.fixture
def admin(replica):
    return AdminClient(replica.url)


@pytest.mark.covers("faults between canisters")
async def test_a_program_can_plan_each_fault(client, pair, program, admin):
    one, other = pair
    sending = _calling(program, other, program().reply(b"yes"))
    assert await admin.fault("reject", sender=one, code=1, text="planned") == 1
    answer = (await client.certified(one, "update", sending))(b"reply")
    assert (number(answer[:8]), answer[8:]) == (1, b"planned")
    await admin.fault("reorder", kinds=["response"], receiver=one)
    assert (await client.certified(one, "update", sending))(b"reply") == b"yes"
    status = await admin.status()
    assert (status["faults"], status["pending_faults"]) == ({"reject": 1, "reorder": 1}, 0)


@pytest.mark.covers("queues and call contexts")
async def test_queues_and_call_contexts_show_what_is_held(client, pair, program, admin):
    one, other = pair
    await admin.pause()
    await admin.fault("delay", sender=one, nanoseconds=3 * SECOND)
    _, _, request_id = await client.call(
        one, "update", _calling(program, other, program().reply(b"yes"), cycles=5), version=2
    )
    assert await admin.advance(0, quiet=True) is not None
    queues = await admin.queues()
    (held,) = queues["held"]
    assert (held["from"], held["to"], held["cycles"]) == (str(one), str(other), 5)
    assert held["until"] == (await admin.status())["time"] + 3 * SECOND
    (queue,) = queues["queues"]
    assert (queue["canister"], queue["in_flight"]) == (str(one), {str(other): 1})
    (context,) = await admin.call_contexts()
    assert (context["origin"], context["request_id"]) == ("user", request_id.hex())
    assert context["caller"] == str(client.sender)
    assert [call["to"] for call in context["calls"]] == [str(other)]
    lines = await admin.messages()
    assert [(line.kind, line.outcome) for line in lines][-1] == ("held", "delayed")
    await admin.advance(3 * SECOND, quiet=True)
    assert await admin.call_contexts() == []
    assert await admin.queues() == {"queues": [], "held": []}
    await admin.resume()


async def test_chances_can_be_set_and_taken_back(client, pair, program, admin):
    one, other = pair
    sending = _calling(program, other, program().reply(b"yes"))
    await admin.chances(1, reject=1000, code=1, text="by chance", sender=one)
    answer = (await client.certified(one, "update", sending))(b"reply")
    assert answer[8:] == b"by chance"
    assert (await admin.status())["chances"] is True
    await admin.clear_faults()
    assert (await client.certified(one, "update", sending))(b"reply") == b"yes"


BAD_FAULTS = [
    {"action": "delay"},
    {"action": "lose", "nanoseconds": 5},
    {"action": "lose", "code": 2},
    {"action": "reject", "code": 7},
    {"action": "reject", "text": 3},
    {"action": "reject", "kinds": ["response"]},
    {"kinds": []},
    {"kinds": ["letter"]},
    {"kinds": [[]]},
    {"method": 3},
    {"nth": True},
]
BAD_CHANCES = [
    {},
    {"seed": "one"},
    {"seed": 1, "lose": 600, "delay": 600},
    {"seed": 1, "lose": -1},
    {"seed": 1, "longest_delay": 0},
    {"seed": 1, "nth": 2},
]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/faults", body) for body in BAD_FAULTS] + [("/chances", body) for body in BAD_CHANCES],
)
async def test_what_makes_no_sense_is_refused(client, path, body):
    status, text = await client.admin("POST", path, json=body)
    assert status == 400
    assert "Traceback" not in text


async def test_the_client_says_why_a_fault_is_refused(admin, replica):
    with pytest.raises(ReplicaError, match="cannot be rejected on its way"):
        await admin.fault("reject", kinds=["response"])
