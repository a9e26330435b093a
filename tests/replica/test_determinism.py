"""Virtual time: with a seed and a given time, everything follows from what is asked."""

import pytest

from bridge.replica.scheduler.clock import Clock

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def story(driver, wasm, program):
    """Heartbeats, timers, randomness, calls and traps; the log and the certified state."""
    canisters = [driver.create(wasm) for _ in range(4)]
    first, second = canisters[:2]
    beat = program().call(second.raw, "update", program().reply(b""), one_way=True).drop()
    for canister in canisters:
        driver.update(canister, program().hook("canister_heartbeat", beat).reply(b""))
    on_reply = program().append_blob_of("msg_arg_data").reply()
    random = driver.update(first, program().call(b"", "raw_rand", b"DIDL\0\0",
                                                 reply=on_reply).drop())  # fmt: skip
    armed = program().hook("canister_global_timer", program().certified_data_set(b"fired"))
    driver.update(second, armed.time().push(SECOND).add().global_timer_set().drop().reply(b""))
    for _ in range(5):
        driver.advance(SECOND)
    driver.reject(first, program().trap("on purpose"))
    entries = [
        (entry.time, entry.sender, entry.receiver, entry.method, entry.kind, entry.outcome)
        for entry in driver.machine.log.entries
    ]
    certificate = driver.machine.subnet.certify(driver.machine.time)
    return random, entries, certificate.to_cbor()


@pytest.mark.covers("same seed, same story")
def test_the_same_story_has_the_same_end(make_virtual, universal_wasm, program):
    told = [story(make_virtual(), universal_wasm(True), program) for _ in range(2)]
    assert told[0] == told[1]
    random, entries, _ = told[0]
    assert len(random) > 32
    assert {entry[0] for entry in entries} >= {START, START + SECOND}


def test_a_given_time_stands_still_until_it_is_moved():
    clock = Clock(START)
    assert (clock.paused, clock.now(), clock.now()) == (True, START, START)
    clock.advance(5)
    assert clock.now() == START + 5


def test_canisters_take_turns(driver, universal_wasm, program):
    busy, other = driver.create(universal_wasm(True)), driver.create(universal_wasm(True))
    for _ in range(50):
        driver.submit(busy, "update", program().reply(b""))
    last = driver.submit(other, "update", program().reply(b"soon"))
    with driver.machine.lock:
        for _ in range(2):
            driver.machine.execute_next()
    assert last.payload is not None
