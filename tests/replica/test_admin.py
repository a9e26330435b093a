"""The admin interface: losing messages, the message log, moving time; and that it is off."""

import aiohttp
import pytest

from bridge.errors import ReplicaError
from bridge.replica import Replica


def number(data):
    return int.from_bytes(data, "little")


@pytest.fixture
async def pair(client, universal_wasm):
    return await client.create(universal_wasm(True)), await client.create(universal_wasm(True))


def _sending(program, other, mark=b"mark"):
    received = program().add_to_counter(1)
    received.blob(mark).drop().drop().reply()
    on_reject = program().msg_reject_code().append_number().reply()
    on_reply = program().reply(b"arrived")
    return lambda **options: (
        program()
        .call(other.raw, "update", received, reply=on_reply, reject=on_reject, **options)
        .drop()
    )


async def _log(client, after=0):
    _, body = await client.admin("GET", f"/messages?after={after}")
    return body["messages"]


@pytest.mark.covers("faults between canisters")
async def test_the_nth_message_of_a_pair_is_lost(client, pair, program):
    one, other = pair
    status, body = await client.admin(
        "POST", "/faults", json={"from": str(one), "to": str(other), "nth": 2, "action": "lose"}
    )
    assert (status, body) == (200, {"id": 1})
    sending = _sending(program, other)
    replies = [(await client.certified(one, "update", sending()))(b"reply") for _ in range(3)]
    assert [replies[0], replies[2]] == [b"arrived", b"arrived"]
    assert number(replies[1]) == 2
    outcomes = [
        line["outcome"] for line in await _log(client)
        if line["kind"] == "request" and line["from"] == str(one)
    ]  # fmt: skip
    assert outcomes == ["executed", "lost", "executed"]


async def test_a_lost_bounded_wait_call_ends_as_unknown(client, pair, program):
    one, other = pair
    await client.admin("POST", "/faults", json={"from": str(one), "nth": 1})
    reply = (await client.certified(one, "update", _sending(program, other)(timeout=60)))(b"reply")
    assert number(reply) == 6


async def test_faults_choose_by_method_and_content(client, pair, program):
    one, other = pair
    for fault in (
        {"method": "another", "nth": 1},
        {"contains": b"mark of another".hex(), "nth": 1},
        {"to": str(one), "from": str(other), "nth": 1},
    ):
        assert (await client.admin("POST", "/faults", json=fault))[0] == 200
    reply = (await client.certified(one, "update", _sending(program, other)()))(b"reply")
    assert reply == b"arrived"
    fault = {"contains": b"special".hex(), "to": str(other), "nth": 1}
    await client.admin("POST", "/faults", json=fault)
    sending = _sending(program, other, b"special")
    assert number((await client.certified(one, "update", sending()))(b"reply")) == 2


async def test_faults_can_be_taken_back(client, pair, program):
    one, other = pair
    await client.admin("POST", "/faults", json={"from": str(one), "nth": 1})
    assert (await client.admin("GET", "/status"))[1]["pending_faults"] == 1
    assert (await client.admin("DELETE", "/faults"))[0] == 200
    reply = (await client.certified(one, "update", _sending(program, other)()))(b"reply")
    assert reply == b"arrived"


async def test_a_lost_ingress_message_stays_unknown(client, pair, program):
    one, _ = pair
    fault = {"from": str(client.sender), "to": str(one), "nth": 1}
    await client.admin("POST", "/faults", json=fault)
    status, _, request_id = await client.call(one, "update", program().reply(b""), version=2)
    assert status == 202
    await client.admin("POST", "/time", json={"quiet": True})
    _, certificate = await client.read_state(one, [(b"request_status", request_id)])
    assert certificate.value((b"request_status", request_id, b"status")) is None
    assert (await _log(client))[-1]["outcome"] == "lost"


@pytest.mark.covers("message log")
async def test_the_log_tells_who_what_and_how_it_ended(client, pair, program):
    one, _ = pair
    seen = (await _log(client))[-1]["seq"] if await _log(client) else 0
    await client.certified(one, "update", program().trap("logged"))
    (line,) = await _log(client, seen)
    assert line["from"] == str(client.sender)
    assert line["to"] == str(one)
    assert (line["method"], line["kind"], line["outcome"]) == ("update", "ingress", "trapped")
    assert "logged" in line["text"]
    assert bytes.fromhex(line["arg"]) == bytes(program().trap("logged"))
    _, body = await client.admin("GET", f"/messages?after={seen}&max_arg=2")
    assert len(body["messages"][0]["arg"]) == 4


def _timer(program, seconds):
    hook = program().set_counter(5)
    setup = program().hook("canister_global_timer", hook).time().push(seconds * 10**9).add()
    return setup.global_timer_set().drop().reply(b"")


async def _fired(client):
    return sum(line["method"] == "canister_global_timer" for line in await _log(client))


@pytest.mark.covers("time")
async def test_time_moves_ahead_and_timers_fire(client, pair, program):
    one, _ = pair
    await client.certified(one, "update", _timer(program, 3600))
    _, body = await client.admin("POST", "/time", json={"quiet": True})
    assert await _fired(client) == 0
    assert body["next_due"] > body["time"]
    ask = {"advance": 3601 * 10**9, "quiet": True}
    assert (await client.admin("POST", "/time", json=ask))[0] == 200
    assert await _fired(client) == 1
    assert (await client.admin("GET", "/status"))[1]["ahead"] == 3601 * 10**9


@pytest.mark.covers("time")
async def test_time_can_stand_still(client, pair, program):
    one, _ = pair
    _, before = await client.admin("POST", "/time", json={"pause": True, "quiet": True})
    asked = program().time().append_number().reply()
    times = {number((await client.certified(one, "update", asked))(b"reply")) for _ in range(3)}
    assert times == {before["time"]}
    _, after = await client.admin("POST", "/time", json={"advance": 5, "quiet": True})
    assert after["time"] == before["time"] + 5
    await client.admin("POST", "/time", json={"pause": False})
    running = number((await client.certified(one, "update", asked))(b"reply"))
    assert running > after["time"]


@pytest.mark.covers("freezing")
async def test_fees_freeze_a_canister_and_let_it_thaw(client, pair, program):
    canister, _ = pair
    value = {"canister_id": canister, "sender_canister_version": None}
    high = {**client.no_settings, "freezing_threshold": 10**13}
    await client.manage("update_settings", {**value, "settings": high}, effective=canister)
    alive = await client.certified(canister, "update", program().reply(b"alive"))
    assert alive(b"reply") == b"alive"
    assert await client.admin("POST", "/fees", json={"charge": True}) == (200, {"fees": True})
    assert (await client.admin("GET", "/status"))[1]["fees"] is True
    _, body, _ = await client.call(canister, "update", program().reply(b""))
    assert (body["status"], body["reject_code"]) == ("non_replicated_rejection", 2)
    assert await client.admin("POST", "/fees", json={"charge": False}) == (200, {"fees": False})
    alive = await client.certified(canister, "update", program().reply(b"thawed"))
    assert alive(b"reply") == b"thawed"


async def test_quiet_waits_until_all_messages_are_processed(client, pair, program):
    one, other = pair
    sending = program()
    for _ in range(100):
        sending.call(other.raw, "update", program().reply(b""), one_way=True).drop()
    await client.call(one, "update", sending.reply(b""), version=2)
    await client.admin("POST", "/time", json={"quiet": True})
    done = [line for line in await _log(client) if line["kind"] == "request"]
    assert len(done) == 100


BAD_ASKS = [
    ("POST", "/faults", {"json": {"nth": 0}}),
    ("POST", "/faults", {"json": {"nth": "1"}}),
    ("POST", "/faults", {"json": {"action": "explode"}}),
    ("POST", "/faults", {"json": {"surprise": 1}}),
    ("POST", "/faults", {"json": {"from": "nobody"}}),
    ("POST", "/faults", {"json": {"contains": "xyz"}}),
    ("POST", "/faults", {"json": [1]}),
    ("POST", "/faults", {"data": b"{"}),
    ("POST", "/time", {"json": {"advance": -1}}),
    ("POST", "/time", {"json": {"advance": 2**63 - 1}}),
    ("POST", "/time", {"json": {"quiet": 1}}),
    ("POST", "/time", {"data": b"[" * 100_000}),
    ("POST", "/time", {"json": {"pause": 1}}),
    ("POST", "/time", {"json": {"tomorrow": True}}),
    ("GET", "/messages?after=-1", {}),
]


@pytest.mark.parametrize(("method", "path", "options"), BAD_ASKS)
async def test_what_makes_no_sense_is_refused(client, method, path, options):
    status, text = await client.admin(method, path, **options)
    assert status == 400
    assert text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Host": "evil.example:80"},
    ],
)
@pytest.mark.covers("off by default, closed to web pages")
async def test_web_pages_cannot_use_it(client, headers):
    status, _ = await client.admin("GET", "/status", headers=headers)
    assert status == 403


@pytest.mark.covers("off by default, closed to web pages")
async def test_it_is_off_by_default():
    async with (
        Replica() as replica,
        aiohttp.ClientSession() as session,
        session.get(replica.url + "/_admin/status") as response,
    ):
        assert response.status == 404


async def test_a_taken_port_is_one_clear_error():
    async with Replica() as replica:
        port = int(replica.url.rsplit(":", 1)[1])
        with pytest.raises(ReplicaError, match="cannot be had"):
            async with Replica(port=port):
                pass


async def test_a_replica_that_does_not_serve_has_no_url():
    with pytest.raises(ReplicaError, match="does not serve"):
        _ = Replica().url


def test_the_log_is_bounded_in_lines_and_bytes(driver, monkeypatch):
    from bridge.principal import Principal
    from bridge.replica.scheduler import message_log

    monkeypatch.setattr(message_log, "_MAX_ENTRIES", 50)
    monkeypatch.setattr(message_log, "_MAX_BYTES", 1000)
    log = message_log.MessageLog(enabled=True)
    for size in [10] * 60 + [200] * 10:
        log.add(0, None, Principal(b"x"), "m", bytes(size), "request", "executed")
    assert len(log.entries) <= 50
    assert sum(len(entry.arg) for entry in log.entries) <= 1000
    assert [entry.seq for entry in log.after(68)] == [69, 70]
    assert log.after(0)[0].seq == log.entries[0].seq
    for _ in range(10):
        log.add(0, None, Principal(b"x"), "m" * 150, b"", "request", "rejected", "t" * 150)
    assert len(log.entries) == 3
