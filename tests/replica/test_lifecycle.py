"""Stopping, upgrading, uninstalling and deleting while calls and timers are open."""

import pytest

from bridge.principal import Principal
from bridge.replica.management.types import SIGNATURES
from bridge.replica.state.messages import Reject, Reply

MINUTE = 60 * 1_000_000_000


def number(data):
    return int.from_bytes(data, "little")


def counter(driver, canister, program):
    return number(driver.update(canister, program().counter().append_number().reply()))


def step(driver):
    """Run one message."""
    with driver.machine.lock:
        driver.machine.begin_round()
        driver.machine.execute_next()


def manage_later(driver, method, canister):
    """Submit a call to the management canister without running rounds."""
    arg = SIGNATURES[method].argument.encode({"canister_id": canister})
    return driver.submit(Principal.management(), method, arg)


def waiting_call(driver, canister, other, program, on_reply):
    """A call whose answer has not been processed."""
    calling = program().call(
        other.raw, "update", program().reply(b""), reply=on_reply, reject=program().reply(b"no")
    )
    record = driver.submit(canister, "update", calling.drop())
    step(driver)
    return record


@pytest.mark.covers("timers and heartbeats")
def test_a_timer_that_comes_due_while_stopped_fires_after_the_start(driver, canister, program):
    armed = program().hook("canister_global_timer", program().set_counter(7))
    driver.update(canister, armed.time().push(MINUTE).add().global_timer_set().drop().reply(b""))
    driver.manage("stop_canister", {"canister_id": canister})
    driver.advance(5 * MINUTE)
    driver.manage("start_canister", {"canister_id": canister})
    driver.settle()
    assert counter(driver, canister, program) == 7
    assert driver.canisters[canister].global_timer == 0


def test_a_timer_set_anew_before_its_task_runs_does_not_fire(driver, canister, program):
    armed = program().hook("canister_global_timer", program().set_counter(7))
    driver.update(canister, armed.time().push(MINUTE).add().global_timer_set().drop().reply(b""))
    driver.machine.clock.advance(2 * MINUTE)
    with driver.machine.lock:
        driver.machine.begin_round()
        driver.machine.set_global_timer(driver.canisters[canister], 0)
    driver.settle()
    assert counter(driver, canister, program) == 0


def test_many_settings_of_the_timer_plan_one_look_at_it(driver, canister, program):
    far = program().time().push(10**18).add().global_timer_set().drop().reply(b"")
    before = len(driver.machine._due)
    for _ in range(20):
        driver.update(canister, far)
    assert len(driver.machine._due) == before + 1


def test_a_failed_upgrade_leaves_the_timer_armed(driver, canister, wasm, program):
    armed = program().hook("canister_global_timer", program().set_counter(7))
    driver.update(canister, armed.time().push(MINUTE).add().global_timer_set().drop().reply(b""))
    assert isinstance(
        driver.install_raw(canister, wasm, program().unreachable(), mode="upgrade"), Reject
    )
    driver.advance(2 * MINUTE)
    assert counter(driver, canister, program) == 7


def test_the_pre_upgrade_hook_sees_the_timer_and_sets_none(driver, canister, wasm, program):
    hook = program().time().push(MINUTE).add().global_timer_set().store(512)
    hook.stable64_grow(1).drop().stable64_write(0, 512, 8)
    armed = program().hook("canister_pre_upgrade", hook)
    driver.update(canister, armed.push(10**19).global_timer_set().drop().reply(b""))
    driver.install(canister, wasm, mode="upgrade")
    assert driver.canisters[canister].global_timer == 0
    read = program().stable64_read(520, 0, 8).msg_reply_data_append(520, 8).reply()
    assert number(driver.update(canister, read)) == 10**19


@pytest.mark.covers("call contexts, callbacks, cleanup")
def test_an_answer_after_an_upgrade_runs_in_the_new_code(driver, canister, other, wasm, program):
    record = waiting_call(driver, canister, other, program, program().reply(b"old"))
    driver.install(canister, wasm, mode="upgrade")
    driver.settle()
    # The heap that held the callback's program is gone with the old code, the call is not.
    assert isinstance(record.payload, Reject)
    assert record.payload.code == 5
    assert not driver.canisters[canister].contexts
    assert not driver.canisters[canister].callbacks
    assert driver.update(canister, program().reply(b"alive")) == b"alive"


def test_uninstalling_a_stopping_canister_answers_all_and_stops_it(
    driver, canister, other, program
):
    record = waiting_call(driver, canister, other, program, program().reply(b"late"))
    stop = manage_later(driver, "stop_canister", canister)
    assert stop.payload is None
    manage_later(driver, "uninstall_code", canister)
    assert isinstance(record.payload, Reject)
    assert record.payload.code == 4
    assert isinstance(stop.payload, Reply)
    assert driver.canisters[canister].status == 3
    driver.settle()
    assert not driver.canisters[canister].in_flight


def test_requests_queued_at_a_deletion_are_rejected(driver, canister, other, program):
    driver.manage("stop_canister", {"canister_id": other})
    on_reject = program().msg_reject_code().append_number().reply()
    calling = program().call(other.raw, "update", program().reply(b""), reject=on_reject)
    record = driver.submit(canister, "update", calling.drop())
    step(driver)
    manage_later(driver, "delete_canister", other)
    assert other not in driver.canisters
    driver.settle()
    assert isinstance(record.payload, Reply)
    assert number(record.payload.data) == 5


def test_a_stop_that_takes_too_long_is_rejected_and_goes_on(driver, canister, other, program):
    record = waiting_call(driver, canister, other, program, program().reply(b"late"))
    stop = manage_later(driver, "stop_canister", canister)
    with driver.machine.lock:
        driver.machine.clock.advance(6 * MINUTE)
        driver.machine.begin_round()
    assert isinstance(stop.payload, Reject)
    assert (stop.payload.code, stop.payload.error_code) == (2, "IC0206")
    driver.settle()
    assert record.payload is not None
    assert driver.canisters[canister].status == 3


@pytest.mark.covers("stop, start, delete")
def test_starting_cancels_a_stop(driver, canister, other, program):
    waiting_call(driver, canister, other, program, program().reply(b"late"))
    stop = manage_later(driver, "stop_canister", canister)
    manage_later(driver, "start_canister", canister)
    assert isinstance(stop.payload, Reject)
    assert driver.update(canister, program().reply(b"runs")) == b"runs"


@pytest.mark.parametrize("minutes", [4, 6])
def test_a_call_waits_in_its_queue_for_five_minutes_at_most(
    driver, canister, other, program, minutes
):
    on_reject = program().msg_reject_code().append_number().reply()
    calling = program().call(
        other.raw, "update", program().set_counter(9).reply(b""),
        reply=program().push(0).append_number().reply(), reject=on_reject, cycles=50,
    )  # fmt: skip
    before = driver.canisters[canister].cycles
    record = driver.submit(canister, "update", calling.drop())
    step(driver)
    driver.advance(minutes * MINUTE)
    assert isinstance(record.payload, Reply)
    assert number(record.payload.data) == (2 if minutes > 5 else 0)
    assert counter(driver, other, program) == (0 if minutes > 5 else 9)
    assert driver.canisters[canister].cycles == before
