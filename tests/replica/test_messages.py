"""Call contexts, responses, rejects, traps, callbacks: how messages move between canisters."""

import pytest

from bridge.principal import Principal
from bridge.replica.state.messages import Reject, Reply

SECOND = 1_000_000_000


def number(data):
    return int.from_bytes(data, "little")


def test_a_canister_replies_with_what_it_appended(driver, canister, program):
    answer = program().msg_reply_data_append(b"one ").msg_reply_data_append(b"two").msg_reply()
    assert driver.update(canister, answer) == b"one two"


def test_a_canister_rejects_with_its_text(driver, canister, program):
    reject = driver.reject(canister, program().msg_reject("not today"))
    assert (reject.code, reject.message) == (4, "not today")


@pytest.mark.covers("call contexts, callbacks, cleanup")
def test_silence_is_a_reject(driver, canister, program):
    reject = driver.reject(canister, program())
    assert (reject.code, reject.error_code) == (5, "IC0506")


@pytest.mark.covers("traps and queries leave no trace")
def test_a_trap_undoes_memory_globals_stable_memory_and_calls(driver, canister, other, program):
    before = program().store(512, 1).set_counter(1).stable64_grow(1).drop()
    driver.update(canister, before.stable64_write(0, 512, 8).reply(b""))
    received = program().set_counter(99).reply()
    trapping = (
        program().store(512, 2).set_counter(2).stable64_grow(5).drop()
        .call(other.raw, "update", bytes(received)).drop().msg_reply_data_append(b"lost")
        .msg_reply().certified_data_set(b"no").global_timer_set(1).drop().trap("on purpose")
    )  # fmt: skip
    reject = driver.reject(canister, trapping)
    assert (reject.code, reject.error_code) == (5, "IC0503")
    assert "on purpose" in reject.message
    read = program().load(512).append_number().counter().append_number()
    data = driver.update(canister, read.stable64_size().append_number().reply())
    assert [number(data[at : at + 8]) for at in (0, 8, 16)] == [1, 1, 1]
    assert driver.canisters[canister].certified_data == b""
    assert driver.canisters[canister].global_timer == 0
    assert number(driver.update(other, program().counter().append_number().reply())) == 0


def everything(program, other):
    """Changes all that a message can change."""
    received = program().set_counter(99).reply()
    made = program().store(512, 2).set_counter(2).stable64_grow(5).drop()
    made.stable64_write(0, 512, 8).certified_data_set(b"no").global_timer_set(1).drop()
    made.cycles_burn128(0, 10, 1024).grow(2).drop()
    return made if other is None else made.call(other.raw, "update", received, cycles=7).drop()


def in_context(driver, canister, other, wasm, program, context):
    """Change everything and trap, in one context."""
    trapping = everything(program, other if context in CALLING else None).unreachable()
    if context == "update":
        driver.reject(canister, trapping)
    elif context in ("reply", "reject"):
        callee = program().reply(b"") if context == "reply" else program().msg_reject("")
        calling = program().call(other.raw, "update", callee, **{context: trapping})
        driver.reject(canister, calling.drop())
    elif context == "cleanup":
        calling = program().call(
            other.raw, "update", program().reply(b""), reply=program().unreachable(),
            cleanup=program().store(512, 2).set_counter(2).stable64_grow(5).drop()
            .global_timer_set(1).drop().cycles_burn128(0, 10, 1024).grow(2).drop().unreachable(),
        )  # fmt: skip
        driver.reject(canister, calling.drop())
    elif context == "timer":
        hooked = program().hook("canister_global_timer", trapping).global_timer_set(1).drop()
        driver.update(canister, hooked.reply(b""))
        driver.advance(1)
    elif context == "replicated query":
        made = program().store(512, 2).set_counter(2).stable64_grow(5).drop()
        answer = driver.call(canister, "query", made.cycles_burn128(0, 10, 1024).unreachable())
        assert isinstance(answer, Reject)
    elif context == "pre-upgrade":
        driver.update(canister, program().hook("canister_pre_upgrade", trapping).reply(b""))
        assert isinstance(driver.install_raw(canister, wasm, mode="upgrade"), Reject)
    else:
        assert isinstance(driver.install_raw(canister, wasm, trapping, mode="upgrade"), Reject)


CALLING = ("update", "reply", "reject", "timer")


@pytest.mark.parametrize(
    "context", [*CALLING, "cleanup", "replicated query", "pre-upgrade", "post-upgrade"]
)
@pytest.mark.covers("traps and queries leave no trace")
def test_a_trap_undoes_everything_in_each_context(driver, canister, other, wasm, program, context):
    before = program().store(512, 1).set_counter(1).stable64_grow(1).drop()
    driver.update(canister, before.stable64_write(0, 512, 8).certified_data_set(b"yes").reply(b""))
    held = [driver.canisters[name].cycles for name in (canister, other)]
    in_context(driver, canister, other, wasm, program, context)
    driver.settle()
    read = program().load(512).append_number().counter().append_number()
    read.stable64_size().append_number().stable64_read(520, 0, 8).load(520).append_number()
    data = driver.update(canister, read.memory_size().append_number().reply())
    assert [number(data[at : at + 8]) for at in range(0, 40, 8)] == [1, 1, 1, 1, 4]
    assert driver.canisters[canister].certified_data == b"yes"
    assert driver.canisters[canister].global_timer == 0
    assert driver.canisters[canister].burned == 0
    assert [driver.canisters[name].cycles for name in (canister, other)] == held
    assert number(driver.update(other, program().counter().append_number().reply())) == 0


@pytest.mark.covers("traps and queries leave no trace")
def test_a_query_leaves_no_trace(driver, canister, program):
    asked = program().store(512, 7).set_counter(7).grow(3).drop().stable64_grow(1).drop()
    assert driver.query(canister, asked.reply(b"seen")) == Reply(b"seen")
    read = program().load(512).append_number().counter().append_number()
    read.memory_size().append_number().stable64_size().append_number().reply()
    answer = driver.query(canister, read)
    assert isinstance(answer, Reply)
    assert [number(answer.data[at : at + 8]) for at in (0, 8, 16, 24)] == [0, 0, 4, 0]


def test_a_query_called_as_update_keeps_no_memory(driver, canister, program):
    answer = driver.call(canister, "query", program().set_counter(5).reply(b"ok"))
    assert answer == Reply(b"ok")
    assert number(driver.update(canister, program().counter().append_number().reply())) == 0


@pytest.mark.covers("call contexts, callbacks, cleanup")
def test_an_answer_reaches_the_reply_callback(driver, canister, other, program):
    on_reply = program().append_blob_of("msg_arg_data").reply()
    calling = program().call(other.raw, "update", program().reply(b"pong"), reply=on_reply).drop()
    assert driver.update(canister, calling) == b"pong"


@pytest.mark.covers("call contexts, callbacks, cleanup")
def test_a_reject_reaches_the_reject_callback_with_code_and_text(driver, canister, other, program):
    on_reject = program().msg_reject_code().append_number()
    on_reject.append_blob_of("msg_reject_msg").reply()
    calling = program().call(other.raw, "update", program().msg_reject("no!"), reject=on_reject)
    data = driver.update(canister, calling.drop())
    assert (number(data[:8]), data[8:]) == (4, b"no!")


@pytest.mark.parametrize(
    ("callee", "method", "code"),
    [("missing", "update", 3), ("there", "nothing", 5), ("there", "composite", 5)],
)
def test_calls_that_cannot_be_delivered_are_rejected(
    driver, canister, other, program, callee, method, code
):
    target = other.raw if callee == "there" else Principal.from_text("aaaaa-aa").raw + b"\7\1\1"
    on_reject = program().msg_reject_code().append_number().reply()
    calling = program().call(target, method, b"", reject=on_reject).drop()
    assert number(driver.update(canister, calling)) == code


def test_a_callees_trap_is_a_reject_of_code_5(driver, canister, other, program):
    on_reject = program().msg_reject_code().append_number().reply()
    calling = program().call(other.raw, "update", program().unreachable(), reject=on_reject).drop()
    assert number(driver.update(canister, calling)) == 5


@pytest.mark.covers("call contexts, callbacks, cleanup")
def test_a_trapping_callback_runs_its_cleanup_and_rejects_the_call(
    driver, canister, other, program
):
    cleanup = program().set_counter(77)
    calling = program().call(
        other.raw, "update", program().reply(b""),
        reply=program().set_counter(1).trap("in the callback"), cleanup=cleanup,
    )  # fmt: skip
    reject = driver.reject(canister, calling.drop())
    assert (reject.code, reject.error_code) == (5, "IC0503")
    assert number(driver.update(canister, program().counter().append_number().reply())) == 77


def test_a_cleanup_may_not_call(driver, canister, other, program):
    cleanup = program().set_counter(5).call(other.raw, "update", b"", one_way=True).drop()
    calling = program().call(
        other.raw, "update", program().reply(b""), reply=program().unreachable(), cleanup=cleanup
    )
    driver.reject(canister, calling.drop())
    assert number(driver.update(canister, program().counter().append_number().reply())) == 0


def test_no_cleanup_runs_where_the_callback_succeeds(driver, canister, other, program):
    calling = program().call(
        other.raw, "update", program().reply(b""),
        reply=program().reply(b"fine"), cleanup=program().set_counter(77),
    )  # fmt: skip
    assert driver.update(canister, calling.drop()) == b"fine"
    assert number(driver.update(canister, program().counter().append_number().reply())) == 0


@pytest.mark.covers("one-way calls")
def test_a_one_way_call_runs_and_its_answer_changes_nothing(driver, canister, other, program):
    received = program().set_counter(3).reply(b"ignored")
    calling = program().call(other.raw, "update", received, one_way=True).drop().reply(b"sent")
    assert driver.update(canister, calling) == b"sent"
    assert number(driver.update(other, program().counter().append_number().reply())) == 3
    assert not driver.canisters[canister].contexts
    assert not driver.canisters[canister].callbacks
    assert not driver.canisters[canister].in_flight


def test_a_canister_can_call_itself(driver, canister, program):
    on_reply = program().append_blob_of("msg_arg_data").reply()
    inner = program().reply(b"myself")
    calling = program().call(canister.raw, "update", inner, reply=on_reply).drop()
    assert driver.update(canister, calling) == b"myself"


@pytest.mark.covers("order of a pair, 500 in flight")
def test_messages_of_one_pair_arrive_in_order(driver, canister, other, program):
    calling = program()
    for value in range(20):
        received = program().store(512, value).reply()
        calling.call(other.raw, "update", received, one_way=True).drop()
    driver.update(canister, calling.reply(b""))
    entries = [
        entry for entry in driver.machine.log.entries
        if entry.kind == "request" and entry.receiver == other
    ]  # fmt: skip
    assert len(entries) == 20
    assert number(driver.update(other, program().load(512).append_number().reply())) == 19
    assert entries == sorted(entries, key=lambda entry: entry.seq)


@pytest.mark.covers("order of a pair, 500 in flight")
def test_five_hundred_calls_of_a_pair_may_be_in_flight(driver, canister, other, program):
    calling = program()
    for _ in range(500):
        calling.call(other.raw, "update", program().reply(b""), one_way=True).drop()
    calling.call(other.raw, "update", program().reply(b""), one_way=True).append_number()
    assert number(driver.update(canister, calling.reply())) == 2
    again = program().call(other.raw, "update", program().reply(b""), one_way=True)
    assert number(driver.update(canister, again.append_number().reply())) == 0


def test_a_canister_has_a_limited_number_of_calls_in_all(driver, canister, program, monkeypatch):
    monkeypatch.setattr("bridge.replica.scheduler.machine.MAX_CALLBACKS", 3)
    calling = program()
    for name in range(4):
        calling.call(bytes([name, 1, 1]), "update", one_way=True).append_number()
    data = driver.update(canister, calling.reply())
    assert [number(data[at : at + 8]) for at in (0, 8, 16, 24)] == [0, 0, 0, 2]


def test_a_message_sends_a_limited_number_of_bytes(driver, canister, other, program, monkeypatch):
    monkeypatch.setattr("bridge.replica.execution.api_calls._MAX_SENT", 1000)
    calling = program().call(other.raw, "update", bytes(600), one_way=True).append_number()
    calling.call(other.raw, "update", bytes(600), one_way=True, cycles=5).append_number()
    before = driver.canisters[canister].cycles
    data = driver.update(canister, calling.reply())
    assert [number(data[at : at + 8]) for at in (0, 8)] == [0, 2]
    assert driver.canisters[canister].cycles == before


def test_a_call_not_performed_is_dropped(driver, canister, other, program):
    unfinished = program().blob(other.raw).blob("update").push(0).push(0).push(0).push(0)
    unfinished.call_new().call_cycles_add128(0, 1000).reply(b"")
    before = driver.canisters[canister].cycles
    driver.update(canister, unfinished)
    assert driver.canisters[canister].cycles == before
    assert not driver.canisters[canister].callbacks


@pytest.mark.covers("call contexts, callbacks, cleanup")
def test_only_one_response_is_possible(driver, canister, program):
    assert driver.reject(canister, program().reply(b"1").msg_reply()).error_code == "IC0504"
    assert driver.reject(canister, program().reply(b"1").msg_reject("2")).error_code == "IC0504"


def test_reply_data_without_a_reply_is_dropped(driver, canister, other, program):
    on_reply = program().reply(b"second")
    calling = program().msg_reply_data_append(b"first")
    calling.call(other.raw, "update", program().reply(b""), reply=on_reply).drop()
    assert driver.update(canister, calling) == b"second"


@pytest.mark.covers("cycles are conserved")
def test_cycles_travel_are_accepted_in_part_and_come_back(driver, canister, other, program):
    before = [driver.canisters[name].cycles for name in (canister, other)]
    received = program().msg_cycles_accept128(0, 300, 1024).append_128(
        "msg_cycles_available128"
    ).reply()  # fmt: skip
    on_reply = program().append_128("msg_cycles_refunded128").append_blob_of("msg_arg_data")
    calling = program().call(other.raw, "update", received, reply=on_reply.reply(), cycles=1000)
    data = driver.update(canister, calling.drop())
    assert (number(data[:16]), number(data[16:])) == (700, 700)
    after = [driver.canisters[name].cycles for name in (canister, other)]
    assert (after[0] - before[0], after[1] - before[1]) == (-300, 300)


def test_cycles_of_a_trapping_callee_all_come_back(driver, canister, other, program):
    before = driver.canisters[canister].cycles
    received = program().msg_cycles_accept128(0, 300, 1024).unreachable()
    on_reject = program().append_128("msg_cycles_refunded128").reply()
    calling = program().call(other.raw, "update", received, reject=on_reject, cycles=1000)
    assert number(driver.update(canister, calling.drop())) == 1000
    assert driver.canisters[canister].cycles == before


def test_more_cycles_than_there_are_cannot_be_sent(driver, wasm, program):
    poor = driver.create(wasm, cycles=10)
    calling = program().call(poor.raw, "update", b"", one_way=True, cycles=11)
    assert driver.reject(poor, calling).error_code == "IC0504"


def test_burnt_cycles_are_gone(driver, canister, program):
    before = driver.canisters[canister].cycles
    burn = program().cycles_burn128(0, 12, 1024).msg_reply_data_append(1024, 16).reply()
    assert number(driver.update(canister, burn)) == 12
    assert driver.canisters[canister].cycles == before - 12


@pytest.mark.covers("bounded-wait calls")
def test_a_bounded_wait_call_whose_answer_comes_late_ends_as_unknown(
    driver, canister, other, program
):
    on_reject = program().msg_reject_code().append_number().reply()
    # The callee answers only after a call of its own to itself, which is still in the queue.
    received = (
        program()
        .set_counter(9)
        .call(other.raw, "update", program().reply(b""), reply=program().reply(b"too late"))
    )
    calling = program().call(other.raw, "update", received.drop(), reject=on_reject, timeout=10)
    record = driver.submit(canister, "update", calling.drop())
    step(driver)
    step(driver)
    driver.machine.clock.advance(11 * SECOND)
    driver.settle()
    assert isinstance(record.payload, Reply)
    assert number(record.payload.data) == 6
    assert number(driver.update(other, program().counter().append_number().reply())) == 9
    assert not driver.canisters[canister].callbacks
    assert not driver.canisters[other].contexts


@pytest.mark.covers("bounded-wait calls")
def test_a_bounded_wait_call_still_queued_at_its_deadline_does_not_run(
    driver, canister, other, program
):
    before = driver.canisters[canister].cycles
    on_reject = program().msg_reject_code().append_number().reply()
    received = program().set_counter(9).reply(b"")
    calling = program().call(other.raw, "update", received, reject=on_reject, timeout=10, cycles=50)
    record = driver.submit(canister, "update", calling.drop())
    step(driver)
    driver.machine.clock.advance(11 * SECOND)
    driver.settle()
    assert isinstance(record.payload, Reply)
    assert number(record.payload.data) == 6
    assert number(driver.update(other, program().counter().append_number().reply())) == 0
    assert driver.canisters[canister].cycles == before


def step(driver):
    """Run one message."""
    with driver.machine.lock:
        driver.machine.begin_round()
        driver.machine.execute_next()


def test_the_callee_sees_the_deadline(driver, canister, other, program):
    received = program().msg_deadline().append_number().reply()
    on_reply = program().append_blob_of("msg_arg_data").reply()
    calling = program().call(other.raw, "update", received, reply=on_reply, timeout=10**9)
    deadline = number(driver.update(canister, calling.drop()))
    assert 0 < deadline - driver.machine.time <= 300 * SECOND
    unbounded = program().call(other.raw, "update", received, reply=on_reply)
    assert number(driver.update(canister, unbounded.drop())) == 0


@pytest.mark.covers("request: expired ones do not start")
def test_an_ingress_message_past_its_expiry_does_not_start(driver, canister, program):
    record = driver.submit(canister, "update", program().set_counter(1).reply(b""))
    record.expiry = driver.machine.time - 1
    driver.settle()
    assert isinstance(record.payload, Reject)
    assert record.payload.error_code == "IC0202"
    assert number(driver.update(canister, program().counter().append_number().reply())) == 0


def test_unknown_methods_are_named(driver, canister):
    answer = driver.call(canister, "nonsense")
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0536"
    assert "has no update method 'nonsense'" in answer.message


@pytest.mark.covers("stop, start, delete")
def test_a_stopped_canister_takes_no_calls_until_it_is_started(driver, canister, program):
    driver.manage("stop_canister", {"canister_id": canister})
    assert driver.canisters[canister].status == 3
    refused = driver.call(canister, "update", program().reply(b""))
    assert isinstance(refused, Reject)
    assert refused.error_code == "IC0508"
    driver.manage("start_canister", {"canister_id": canister})
    assert driver.update(canister, program().reply(b"back")) == b"back"


@pytest.mark.covers("stop, start, delete")
def test_stopping_waits_for_open_calls(driver, canister, other, program):
    on_reply = program().reply(b"late")
    record = driver.submit(
        canister, "update", program().call(other.raw, "update", program().reply(b""),
                                           reply=on_reply).drop()
    )  # fmt: skip
    step(driver)  # the caller has sent its call and waits
    stop = driver.submit(Principal.management(), "stop_canister", _id_argument(canister))
    assert stop.payload is None
    assert driver.canisters[canister].status == 2
    refused = driver.submit(canister, "update", program().reply(b"")).payload
    assert isinstance(refused, Reject)
    assert refused.error_code == "IC0509"
    driver.settle()
    assert record.payload == Reply(b"late")
    assert isinstance(stop.payload, Reply)
    assert driver.canisters[canister].status == 3


def _id_argument(canister):
    from bridge.replica.management.types import SIGNATURES

    return SIGNATURES["stop_canister"].argument.encode({"canister_id": canister})
