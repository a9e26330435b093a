"""Cycles: none is made or lost, whatever happens to messages; and canisters freeze without them."""

import random

import pytest

from bridge.candid import Case
from bridge.principal import Principal
from bridge.replica.management.types import SIGNATURES
from bridge.replica.state.messages import Reject, Reply

HOUR = 3600 * 1_000_000_000
DAY = 24 * HOUR


def number(data):
    return int.from_bytes(data, "little")


def total(driver):
    """All cycles there are: of canisters, on the way, in open calls, and burned."""
    held = 0
    for canister in driver.canisters.values():
        held += canister.cycles + canister.burned
        held += sum(context.available for context in canister.contexts.values())
        held += sum(getattr(message, "cycles", 0) for message in canister.queue)
        held += sum(getattr(message, "refund", 0) for message in canister.queue)
        held += sum(request.cycles for request in canister.stop_requests)
    return held


def random_calls(program, rng, canisters, depth=0):
    """A program that calls at random, accepts, burns, and ends in every possible way."""
    made = program()
    if rng.random() < 0.5:
        made.msg_cycles_accept128(0, rng.randrange(2000), 1024)
    if rng.random() < 0.2:
        made.cycles_burn128(0, rng.randrange(50), 1024)
    if depth < 3:
        for _ in range(rng.randrange(3)):
            callbacks = {
                name: ending(program(), rng) for name in ("reply", "reject") if rng.random() < 0.7
            }
            made.call(
                rng.choice(canisters).raw,
                rng.choice(["update", "update", "update", "query", "missing"]),
                random_calls(program, rng, canisters, depth + 1),
                cycles=rng.randrange(5000),
                timeout=rng.choice([None, None, 1]),
                cleanup=ending(program(), rng) if rng.random() < 0.3 else None,
                **callbacks,
            ).drop()
    return ending(made, rng)


def ending(made, rng):
    way = rng.randrange(6)
    if way == 0:
        return made.unreachable()
    if way == 1:
        return made.trap("on purpose")
    if way == 2:
        return made.msg_reject("no")
    if way == 3:
        return made
    return made.reply(b"yes")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.covers("cycles are conserved")
def test_cycles_are_conserved_whatever_calls_end_in(driver, universal_wasm, program, seed):
    rng = random.Random(seed)
    canisters = [driver.create(universal_wasm(True)) for _ in range(3)]
    before = total(driver)
    for _ in range(15):
        driver.submit(rng.choice(canisters), "update", random_calls(program, rng, canisters))
        if rng.random() < 0.3:
            with driver.machine.lock:
                for _ in range(rng.randrange(10)):
                    if driver.machine.has_work():
                        driver.machine.execute_next()
            driver.machine.clock.advance(2_000_000_000)
        name = rng.choice(canisters)
        if rng.random() < 0.1:
            driver.submit(Principal.management(), "stop_canister", stop_argument(name))
        elif rng.random() < 0.2:
            driver.submit(Principal.management(), "start_canister", stop_argument(name))
        assert total(driver) == before
    driver.settle()
    driver.advance(HOUR)
    assert total(driver) == before
    for canister in driver.canisters.values():
        assert not canister.callbacks
        assert not canister.contexts
        assert not canister.in_flight


def stop_argument(canister):
    return SIGNATURES["stop_canister"].argument.encode({"canister_id": canister})


def test_cycles_sent_with_a_call_to_stop_come_back(driver, canister, other, program):
    driver.update_settings(other, controllers=[canister])
    before = total(driver)
    calling = program().call(
        b"", "stop_canister", stop_argument(other),
        reply=program().append_128("msg_cycles_refunded128").reply(), cycles=700,
    )  # fmt: skip
    assert number(driver.update(canister, calling.drop())) == 700
    assert total(driver) == before


def test_the_hooks_of_an_upgrade_cannot_burn_the_same_cycles_twice(driver, wasm, program):
    canister = driver.create(wasm, cycles=1000)
    burn = program().cycles_burn128(0, 800, 1024)
    driver.update(canister, program().hook("canister_pre_upgrade", burn).reply(b""))
    driver.install(canister, wasm, program().cycles_burn128(0, 800, 1024), mode="upgrade")
    assert driver.canisters[canister].cycles == 0
    assert driver.canisters[canister].burned == 1000


# --- freezing ----------------------------------------------------------------------------------


@pytest.fixture
def paying(make_driver):
    """A driver whose subnet takes fees."""
    made = make_driver()
    made.machine.charge_fees(True)
    return made


LONG = 10**13  # seconds: nobody can pay for that


def test_without_fees_nobody_freezes_or_pays(driver, canister, program):
    driver.update_settings(canister, freezing_threshold=LONG, compute_allocation=10)
    before = driver.canisters[canister].cycles
    driver.advance(30 * DAY)
    assert driver.update(canister, program().reply(b"alive")) == b"alive"
    assert driver.canisters[canister].cycles == before


@pytest.mark.covers("freezing")
def test_a_frozen_canister_takes_no_calls_until_it_is_thawed(paying, wasm, program):
    frozen, caller = paying.create(wasm), paying.create(wasm)
    paying.update_settings(frozen, freezing_threshold=LONG)
    refused = paying.call(frozen, "update", program().reply(b""))
    assert isinstance(refused, Reject)
    assert (refused.code, refused.error_code) == (2, "IC0207")
    assert "Top it up" in refused.message
    asked = paying.query(frozen, program().reply(b""))
    assert isinstance(asked, Reject)
    assert asked.code == 2
    on_reject = program().msg_reject_code().append_number().reply()
    calling = program().call(frozen.raw, "update", program().reply(b""), reject=on_reject)
    assert number(paying.update(caller, calling.drop())) == 2
    paying.advance(8 * HOUR)
    paying.update_settings(frozen, freezing_threshold=0)
    assert paying.update(frozen, program().reply(b"thawed")) == b"thawed"


@pytest.mark.covers("freezing")
def test_a_frozen_canister_still_gets_its_answers_but_cannot_call(paying, wasm, program):
    canister, other = paying.create(wasm), paying.create(wasm)
    again = program().call(other.raw, "update", b"", one_way=True).append_number().reply()
    calling = program().call(other.raw, "update", program().reply(b""), reply=again)
    record = paying.submit(canister, "update", calling.drop())
    with paying.machine.lock:
        paying.machine.execute_next()
    paying.update_settings(canister, freezing_threshold=LONG)
    paying.settle()
    assert isinstance(record.payload, Reply)
    assert number(record.payload.data) == 2


@pytest.mark.covers("freezing")
def test_what_would_freeze_a_canister_cannot_be_spent(paying, wasm, program):
    canister = paying.create(wasm, cycles=10**12)
    asked = program().append_128("canister_cycle_balance128")
    asked.append_128("canister_liquid_cycle_balance128").reply()
    data = paying.update(canister, asked)
    balance, liquid = number(data[:16]), number(data[16:])
    assert 0 < liquid < balance
    sending = program().call(canister.raw, "update", b"", one_way=True, cycles=liquid + 1)
    assert paying.reject(canister, sending).error_code == "IC0504"
    paying.update(canister, program().cycles_burn128(0, balance, 1024).reply(b""))
    assert paying.canisters[canister].burned == liquid


def test_the_timer_of_a_frozen_canister_waits_for_it(paying, wasm, program):
    canister = paying.create(wasm)
    hook = program().set_counter(7)
    armed = program().hook("canister_global_timer", hook).time().push(HOUR).add()
    paying.update(canister, armed.global_timer_set().drop().reply(b""))
    paying.update_settings(canister, freezing_threshold=LONG)
    paying.advance(8 * HOUR)
    paying.update_settings(canister, freezing_threshold=0)
    paying.settle()
    assert number(paying.update(canister, program().counter().append_number().reply())) == 7


def test_memory_and_compute_allocation_cost_by_time(paying, wasm):
    canister = paying.create(wasm)
    paying.update_settings(canister, compute_allocation=1, memory_allocation=2**30)
    before = paying.canisters[canister].cycles
    paying.advance(DAY)
    paid = before - paying.canisters[canister].cycles
    a_day = 86_400 * (127_000 + 10_000_000)
    assert a_day <= paid < a_day * 1.01
    status = paying.manage("canister_status", {"canister_id": canister})
    assert a_day <= status["idle_cycles_burned_per_day"] < a_day * 1.01
    metrics = paying.manage("canister_metrics", {"canister_id": canister})["cycles_consumed"]
    assert metrics["memory"] + metrics["compute_allocation"] == paid


def test_a_canister_without_cycles_loses_its_code(paying, wasm, program):
    canister = paying.create(wasm, cycles=10**10)
    paying.update_settings(canister, compute_allocation=100, freezing_threshold=0)
    paying.advance(HOUR)
    assert paying.canisters[canister].cycles == 0
    assert paying.canisters[canister].module_hash is None
    assert paying.canisters[canister].settings.compute_allocation == 0
    answer = paying.call(canister, "update", program().reply(b""))
    assert isinstance(answer, Reject)


def test_nothing_is_installed_on_a_frozen_canister(paying, wasm):
    canister = paying.create(wasm)
    paying.update_settings(canister, freezing_threshold=LONG)
    answer = paying.install_raw(canister, wasm, mode="reinstall")
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0207"
    assert Case("running") == paying.manage("canister_status", {"canister_id": canister})["status"]
