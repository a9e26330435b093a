"""Settings, status, flows page by page, the bounded history."""

import pytest

from bridge import candid
from bridge.errors import CallRejectedError

S = 1_000_000_000
BAD = {
    "echo_min must be below first_retry": {"echo_min": 10 * S},
    "call_timeout + call_margin must be at most first_retry": {"call_margin": 3 * S},
    "lifetime + slack must be below horizon": {"horizon": 610 * S},
    "lifetime must be at most linger": {"linger": 590 * S},
    "lifetime must be at most retention": {"retention": 590 * S},
    "answer_within must be below horizon": {"answer_within": 1_200 * S},
    "skew must be below horizon": {"skew": 1_200 * S},
    "in_flight must be from 1 to 500": {"in_flight": 501},
    "open_flows_per_peer must be at most open_flows": {"open_flows": 999},
    "tombstones_per_peer must be at most tombstones": {"tombstones": 99_999},
    "bytes_per_peer must be at most bytes": {"bytes": 1},
    "min_cycles must be 0": {"min_cycles": 1},
    "backoff must be at least 1": {"backoff": 0},
    "attempts must be from 1": {"attempts": 0},
    "century": {"lifetime": 2**64 - 1},
}


@pytest.mark.parametrize("reason", BAD)
async def test_a_bad_value_is_refused_with_the_reason_and_changes_nothing(world, reason):
    a = await world.deploy("echo")
    before = (await a.call("asyncFlow_status"))["settings"]
    assert reason in await a.configure(BAD[reason])
    assert (await a.call("asyncFlow_status"))["settings"] == before


async def test_a_bad_install_argument_makes_the_installation_fail_with_the_reason(world):
    with pytest.raises(CallRejectedError, match="echo_min must be below first_retry"):
        await world.deploy("echo", {"echo_min": 20 * S})


async def test_the_defaults_are_those_of_the_page(world, page_defaults):
    echo = await world.deploy_with("echo", None)
    settings = (await echo.call("asyncFlow_status"))["settings"]
    assert {name: settings[name] for name in page_defaults} == page_defaults


@pytest.fixture
def page_defaults():
    from bridge.flow import Policy

    policy = Policy()
    own = {"bytes_stored", "attach_cycles", "peers", "rerun_stalled", "oneway_new"}
    values = {name: getattr(policy, name) for name in policy.__dataclass_fields__}
    return {name: value for name, value in values.items() if name not in own} | {
        "bytes": policy.bytes_stored
    }


async def test_a_setting_left_out_keeps_its_value(world):
    a = await world.deploy("echo")
    before = (await a.call("asyncFlow_status"))["settings"]
    assert await a.configure({"attempts": 7}) is None
    assert (await a.call("asyncFlow_status"))["settings"] == before | {"attempts": 7}


@pytest.mark.parametrize(
    ("access", "why"),
    [
        ({"agents": [candid.Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")]}, "self-auth"),
        ({"canisters": [candid.Principal.anonymous()]}, "not a canister"),
        ({"monitors": [candid.Principal.anonymous()]}, "anonymous"),
    ],
)
async def test_a_bad_list_is_refused_with_the_reason(world, access, why):
    a = await world.deploy("echo")
    assert why in await a.configure(access=access)


async def test_flows_come_page_by_page_each_once(world):
    a = await world.deploy("player")
    ids = await a.call("burst", {"to": a.id, "payload": b"x", "times": 25})
    for msg_id in ids:
        await a.until(msg_id, "acknowledged")
    seen, cursor, pages = [], None, 0
    while True:
        page = await a.call(
            "asyncFlow_flows", {"role": None, "state": None, "cursor": cursor, "limit": 7}
        )
        assert len(page["flows"]) <= 7
        seen += [(flow["role"].label, flow["msg_id"]) for flow in page["flows"]]
        cursor, pages = page["next"], pages + 1
        if cursor is None:
            break
    assert sorted(seen) == sorted(
        (role, msg_id) for role in ("sender", "receiver") for msg_id in ids
    )
    assert pages >= 8


async def test_the_history_is_bounded_and_keeps_the_latest(world):
    a = await world.deploy("player", {"events": 10})
    for msg_id in range(5):
        await a.open(a.id, msg_id)
        await a.until(msg_id, "acknowledged")
    events = await a.call("asyncFlow_events", {"after": 0, "limit": 1000})
    assert len(events) == 10
    assert [e["seq"] for e in events] == list(range(events[0]["seq"], events[0]["seq"] + 10))
    assert events[-1]["msg_id"] == 4
    later = await a.call("asyncFlow_events", {"after": events[4]["seq"], "limit": 2})
    assert later == events[5:7]


async def test_a_quiet_canister_sends_nothing_and_has_nothing_due(world, eventually):
    a, b = await world.deploy("sender"), await world.deploy("receiver")
    msg_id = await a.send(b.id)
    await a.until(msg_id, "acknowledged")
    await b.until(msg_id, "finished")
    sent = (await a.counters(), await b.counters())
    await world.advance(30)
    assert (await a.counters(), await b.counters()) == sent


async def test_after_a_standstill_a_late_duplicate_still_meets_its_tombstone(world):
    async with world.another_agent() as agent:
        b = await world.deploy("player", {"time_gap": 1_000_000_000}, {"agents": [agent.principal]})
        await b.speak(agent, "NEW", msg_id=1, payload=b"x")
        await b.speak(agent, "FIN", msg_id=1)
        await world.advance(3 * 24 * 360)  # three days
        await b.speak(agent, "NEW", msg_id=1, payload=b"x")
        assert await b.state(1) == "finished"
        assert (await b.gauges())["time lag"] > 0
