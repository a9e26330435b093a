"""The thread that drives the machine: one execution a request, whoever sends it again and when."""

import threading

import pytest

from bridge.replica.management import ingress_filter
from bridge.replica.scheduler import rounds as rounds_module
from bridge.replica.scheduler.rounds import Rounds, Submission
from bridge.replica.state.messages import FromUser, Reply, Request
from bridge.replica.state.requests import RequestRecord


@pytest.fixture
def rounds(driver):
    made = Rounds(driver.machine, ingress_filter)
    yield made
    made.stop()
    made.join(5)


def _submission(driver, canister, program, request_id, **options):
    sender = driver.canisters[canister].settings.controllers[0]
    expiry = driver.machine.clock.now() + 10**11
    record = RequestRecord(request_id, expiry, sender.raw, canister.raw, canister.raw)
    request = Request(FromUser(request_id), sender, canister, "update", bytes(program))
    return record, request


def _counting(program):
    made = program().add_to_counter(1)
    return made.counter().append_number().reply()


@pytest.mark.covers("request: executed once")
def test_a_request_that_comes_twice_while_it_is_inspected_runs_once(
    driver, canister, program, rounds, monkeypatch
):
    """As when two threads ask the canister whether it takes the same message in."""
    asked = rounds._refusal
    told = []

    def refusal(request):
        if not told:
            told.append("first")
            rounds._submit(Submission(*again, told.append, None))
        return asked(request)

    monkeypatch.setattr(rounds, "_refusal", refusal)
    first = _submission(driver, canister, _counting(program), b"i" * 32)
    again = _submission(driver, canister, _counting(program), b"i" * 32)
    with driver.machine.lock:
        rounds._submit(Submission(*first, told.append, None))
    driver.settle()
    assert told == ["first", None, None]
    read = program().counter().append_number().reply()
    assert driver.update(canister, read) == (1).to_bytes(8, "little")


def test_a_slow_execution_gives_the_rounds_to_another_thread(
    make_driver, universal_wasm, program, monkeypatch, hold
):
    monkeypatch.setattr(rounds_module, "_SLOW_SECONDS", 0.005)
    driver = make_driver(update=100_000_000)
    slow, quick = driver.create(universal_wasm(True)), driver.create(universal_wasm(True))
    rounds = Rounds(driver.machine, ingress_filter)
    ended = {name: threading.Event() for name in ("slow", "quick", "after")}
    order = []

    def submit(name, canister, made):
        def answered(_):
            order.append(name)
            ended[name].set()

        record, request = _submission(driver, canister, made, name.encode().ljust(32, b"."))
        rounds.submit(Submission(record, request, lambda _: None, answered))
        return record

    rounds.start()
    try:
        looping = submit("slow", slow, program().debug_print(hold.WORD).spin())
        after = submit("after", slow, program().reply(b"after"))
        meanwhile = submit("quick", quick, program().reply(b"quick"))
        assert ended["quick"].wait(hold.PATIENCE)
        hold.let_go()
        for event in ended.values():
            assert event.wait(hold.PATIENCE)
    finally:
        rounds.stop()
        rounds.join(10)
    assert order[0] == "quick"
    assert looping.payload.error_code == "IC0522"
    assert meanwhile.payload == Reply(b"quick")
    assert after.payload == Reply(b"after")


def test_a_defect_in_one_action_does_not_end_the_rounds(driver, rounds, caplog):
    rounds.start()
    done = threading.Event()

    def fail():
        raise RuntimeError("a defect")

    rounds.do(fail)
    rounds.do(done.set)
    assert done.wait(240)
    assert "a defect" in caplog.text
