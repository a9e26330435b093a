"""The HTTP interface: certificates, query signatures, refusals and their texts."""

import asyncio
import io
import time

import pytest

from bridge import wire
from bridge.candid import Case
from bridge.principal import Principal
from bridge.replica.http import api
from bridge.replica.management.types import SIGNATURES
from bridge.wire import NodeSignature
from bridge.wire.hashtree import Absent, Found
from bridge.wire.keys import Ed25519Key

MISSING = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


@pytest.fixture
async def canister(client, universal_wasm):
    return await client.create(universal_wasm(True))


@pytest.mark.covers("status")
async def test_the_status_tells_the_root_key_and_health(client, replica):
    async with client.session.get(replica.url + "/api/v2/status") as response:
        status = wire.decode(await response.read(), "the status", ValueError)
    assert status["root_key"] == replica.root_key
    assert status["replica_health_status"] == "healthy"
    assert status["ic_api_version"]


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.covers("call: answered at once with its certificate (v4)")
@pytest.mark.covers("certificates, up to the root key")
async def test_a_call_is_answered_with_a_certificate(client, replica, canister, program, version):
    status, body, request_id = await client.call(
        canister, "update", program().reply(b"pong"), version=version
    )
    assert (status, body["status"]) == (200, "replied")
    certificate = wire.Certificate.from_cbor(body["certificate"])
    certificate.verify(
        replica.root_key, canister, now=time.time_ns(), sharded_ranges_only=version == 4
    )
    assert certificate.value((b"request_status", request_id, b"reply")) == b"pong"


def layouts(certificate):
    """Under which of the two paths a certificate's delegation shows canister ranges."""
    subnet = certificate.delegation.subnet_id.raw
    granted = wire.Certificate.from_cbor(certificate.delegation.certificate)
    found = {
        "unsharded": isinstance(granted.lookup((b"subnet", subnet, b"canister_ranges")), Found),
        "sharded": bool(dict(granted.children((b"canister_ranges", subnet)) or {})),
    }
    return {name for name, there in found.items() if there}


@pytest.mark.covers("certificates, up to the root key")
async def test_each_address_has_its_layout_of_canister_ranges(client, replica, canister, program):
    shown = {}
    for version in (3, 4):
        _, body, _ = await client.call(canister, "update", program().reply(b""), version=version)
        certificate = wire.Certificate.from_cbor(body["certificate"])
        certificate.verify(replica.root_key, canister, now=time.time_ns())
        shown["call", version] = layouts(certificate)
    asked = program().append_blob_of("data_certificate").reply()
    for version in (2, 3):
        _, certificate = await client.read_state(canister, [(b"time",)], version=version)
        certificate.verify(replica.root_key, canister, now=time.time_ns())
        shown["read_state", version] = layouts(certificate)
        _, body, _ = await client.query(canister, "query", asked, version=version)
        certificate = wire.Certificate.from_cbor(body["reply"]["arg"])
        certificate.verify(replica.root_key, canister, now=time.time_ns())
        shown["query", version] = layouts(certificate)
        subnet = certificate.delegation.subnet_id
        _, certificate = await client.read_state(
            subnet, [(b"time",)], version=version, kind="subnet"
        )
        certificate.verify(replica.root_key, now=time.time_ns(), subnet_id=subnet)
        shown["subnet", version] = layouts(certificate)
    assert shown == {
        ("call", 3): {"unsharded"},
        ("call", 4): {"sharded"},
        ("read_state", 2): {"unsharded"},
        ("read_state", 3): {"sharded"},
        ("query", 2): {"unsharded"},
        ("query", 3): {"sharded"},
        ("subnet", 2): {"unsharded"},
        ("subnet", 3): set(),
    }


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.covers("read_state: keys, nodes and ranges of the subnet")
async def test_the_root_subnet_speaks_for_itself(client, replica, canister, version):
    root = Principal.self_authenticating(replica.root_key)
    _, certificate = await client.read_state(canister, [(b"time",)])
    subnet = certificate.delegation.subnet_id
    paths = [(b"subnet",), (b"canister_ranges", subnet.raw)]
    status, certificate = await client.read_state(root, paths, version=version, kind="subnet")
    assert status == 200
    assert certificate.delegation is None
    certificate.verify(replica.root_key, now=time.time_ns(), subnet_id=root)
    assert certificate.value((b"subnet", root.raw, b"public_key")) == replica.root_key
    assert certificate.value((b"subnet", subnet.raw, b"type")) == b"application"
    assert certificate.children((b"canister_ranges", subnet.raw))


@pytest.mark.covers("call: 202, then polling (v4)")
async def test_a_call_that_takes_long_is_polled_for(client, canister, program, monkeypatch):
    monkeypatch.setattr(api, "SYNC_CALL_SECONDS", 0.05)
    fault = {"action": "delay", "nanoseconds": 100 * 10**9, "from": str(canister)}
    await client.admin("POST", "/faults", json=fault)
    calling = program().call(
        canister.raw, "update", program().reply(b""), reply=program().reply(b"late")
    )
    status, body, request_id = await client.call(canister, "update", calling.drop())
    assert (status, body) == (202, "")
    path = (b"request_status", request_id)
    _, certificate = await client.read_state(canister, [path])
    assert certificate.value((*path, b"status")) == b"processing"
    await client.admin("POST", "/time", json={"advance": 101 * 10**9, "quiet": True})
    _, certificate = await client.read_state(canister, [path])
    assert certificate.value((*path, b"reply")) == b"late"


async def wait_in_inbox(replica, number):
    """Until so many requests wait for the next round, which the test holds up."""
    for _ in range(3000):
        if len(replica._rounds._inbox) >= number:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the requests do not arrive")


@pytest.mark.covers("request: expired ones do not start")
async def test_a_call_that_expires_before_it_is_taken_in_is_refused(
    client, replica, canister, program
):
    machine = replica._machine
    counting = program().add_to_counter(1).reply(b"")
    with machine.lock:  # no round begins before the time has come
        waiting = asyncio.create_task(client.call(canister, "update", counting))
        await wait_in_inbox(replica, 1)
        machine.clock.advance(5 * 60 * 10**9)
    status, body, request_id = await waiting
    assert (status, body["status"]) == (200, "non_replicated_rejection")
    assert (body["reject_code"], body["error_code"]) == (2, "IC0202")
    assert request_id not in machine.subnet.history.records


async def test_what_may_be_read_is_decided_by_the_state_that_is_shown(
    client, make_client, replica, canister, program
):
    content = client.content(
        "call",
        canister_id=canister.raw,
        method_name="update",
        arg=bytes(program().reply(b"secret")),
    )
    other = make_client(replica, client.session)
    other.key = Ed25519Key.from_seed(b"\7" * 32)
    other.sender = Principal.self_authenticating(other.key.public_key_der)
    path = (b"request_status", wire.request_id(content))
    assert (await other.read_state(canister, [path]))[0] == 200  # it is not there yet
    with replica._machine.lock:  # both come into one round
        peeping = asyncio.create_task(other.read_state(canister, [path]))
        calling = asyncio.create_task(client.call(canister, "update", content=content))
        await wait_in_inbox(replica, 2)
    assert (await calling)[1]["status"] == "replied"
    assert (await peeping)[0] == 403


@pytest.mark.covers("rejects: code, text, error code")
async def test_a_trap_is_certified(client, canister, program):
    status = await client.certified(canister, "update", program().trap("boom"))
    assert status(b"status") == b"rejected"
    assert status(b"reject_code") == b"\5"
    assert status(b"error_code") == b"IC0503"
    assert b"boom" in status(b"reject_message")


@pytest.mark.covers("call: asynchronous, then polling (v2)")
async def test_version_2_calls_are_polled_for(client, replica, canister, program):
    status, body, request_id = await client.call(
        canister, "update", program().reply(b"polled"), version=2
    )
    assert (status, body) == (202, "")
    for _ in range(3_000):
        _, certificate = await client.read_state(canister, [(b"request_status", request_id)])
        certificate.verify(replica.root_key, canister, now=time.time_ns())
        if certificate.value((b"request_status", request_id, b"status")) == b"replied":
            break
        await asyncio.sleep(0.01)
    assert certificate.value((b"request_status", request_id, b"reply")) == b"polled"


@pytest.mark.covers("request: executed once")
async def test_one_request_is_executed_once(client, canister, program):
    counting = program().add_to_counter(1)
    counting.counter().append_number().reply()
    content = client.content(
        "call", canister_id=canister.raw, method_name="update", arg=bytes(counting)
    )
    answers = [await client.call(canister, "update", content=content) for _ in range(3)]
    replies = {
        wire.Certificate.from_cbor(body["certificate"]).value(
            (b"request_status", request_id, b"reply")
        )
        for _, body, request_id in answers
    }
    assert replies == {(1).to_bytes(8, "little")}


async def test_many_calls_at_once_are_all_answered(client, canister, program):
    answers = await asyncio.gather(
        *(client.certified(canister, "update", program().reply(b"%d" % n)) for n in range(64))
    )
    assert [status(b"reply") for status in answers] == [b"%d" % n for n in range(64)]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.covers("query")
@pytest.mark.covers("query signatures, by a certified node key")
async def test_a_query_is_signed_by_a_certified_node(client, replica, canister, program, version):
    status, body, request_id = await client.query(
        canister, "query", program().reply(b"read"), version=version
    )
    assert (status, body["status"], body["reply"]["arg"]) == (200, "replied", b"read")
    (raw,) = body["signatures"]
    signature = NodeSignature.from_raw(raw)
    _, certificate = await client.read_state(canister, [(b"subnet",)])
    certificate.verify(replica.root_key, canister, now=time.time_ns())
    subnet = certificate.signer(replica.root_key)
    path = (b"subnet", subnet.raw, b"node", signature.identity.raw, b"public_key")
    signature.verify(certificate.value(path), body, request_id)


@pytest.mark.covers("query signatures, by a certified node key")
async def test_a_rejected_query_is_signed_too(client, canister, program):
    status, body, _ = await client.query(canister, "query", program().trap("no"))
    assert (status, body["status"], body["reject_code"]) == (200, "rejected", 5)
    assert body["error_code"] == "IC0503"
    assert body["signatures"]


@pytest.mark.covers("rejects: code, text, error code")
async def test_a_missing_canister_is_told_before_the_call_is_taken(client):
    status, body, _ = await client.call(MISSING, "anything")
    assert status == 200
    assert body["status"] == "non_replicated_rejection"
    assert (body["reject_code"], body["error_code"]) == (3, "IC0301")
    assert body["reject_message"] == f"Canister {MISSING} not found"


@pytest.mark.covers("rejects: code, text, error code")
async def test_an_unknown_method_is_a_certified_reject(client, canister):
    status = await client.certified(canister, "nonsense")
    assert status(b"error_code") == b"IC0536"


def _expired(client, content):
    return client.signed({**content, "ingress_expiry": time.time_ns() - 10**9})


def _far(client, content):
    return client.signed({**content, "ingress_expiry": time.time_ns() + 3600 * 10**9})


def _other_key(_, content):
    return wire.Envelope.sign(content, Ed25519Key.from_seed(b"\1" * 32)).to_cbor()


def _changed(client, content):
    signed = wire.Envelope.sign(content, client.key)
    return wire.Envelope(
        {**content, "arg": b"changed"}, signed.sender_pubkey, signed.sender_sig
    ).to_cbor()


def _unsigned(_, content):
    return wire.Envelope(content).to_cbor()


def _wrong_type(client, content):
    return client.signed({**content, "request_type": "query"})


BAD_ENVELOPES = {
    "expired": (_expired, "ingress_expiry"),
    "too far ahead": (_far, "ingress_expiry"),
    "signed by another key": (_other_key, "key is that of"),
    "changed after signing": (_changed, "not signed by"),
    "unsigned": (_unsigned, "sender_pubkey"),
    "of another type": (_wrong_type, "does not take"),
    "no CBOR": (lambda *_: b"\xff\xff", "CBOR"),
    "empty": (lambda *_: b"", "envelope"),
    "no map": (lambda *_: wire.encode([1, 2]), "map"),
    "without content": (lambda *_: wire.encode({"content": 3}), "content"),
}


@pytest.mark.parametrize("name", BAD_ENVELOPES)
@pytest.mark.covers("refusals: malformed, forged, misaddressed requests")
async def test_a_bad_envelope_is_refused_with_a_reason(client, canister, name):
    make, words = BAD_ENVELOPES[name]
    content = client.content("call", canister_id=canister.raw, method_name="update", arg=b"\0")
    status, text = await client.post(f"/api/v4/canister/{canister}/call", make(client, content))
    assert status == 400
    assert words in text
    assert "Traceback" not in text


@pytest.mark.covers("refusals: malformed, forged, misaddressed requests")
async def test_the_address_must_name_the_callee(client, canister, program):
    status, text, _ = await client.call(canister, "update", program().reply(b""), effective=MISSING)
    assert status == 400
    assert "effective canister id" in text


@pytest.mark.covers("refusals: malformed, forged, misaddressed requests")
async def test_an_address_that_is_no_principal_is_refused(client):
    status, text = await client.post("/api/v4/canister/not-a-principal/call", b"")
    assert status == 400
    assert "not a principal" in text


@pytest.mark.covers("refusals: malformed, forged, misaddressed requests")
async def test_another_content_type_is_refused(client, canister):
    status, text = await client.post(
        f"/api/v4/canister/{canister}/call", b"{}", content_type="application/json"
    )
    assert status == 400
    assert "application/cbor" in text


@pytest.mark.covers("refusals: bodies that are too large")
async def test_a_body_that_is_too_large_is_refused(client, canister):
    body = io.BytesIO(bytes(5 * 1024 * 1024))
    status, _ = await client.post(f"/api/v4/canister/{canister}/call", body)
    assert status == 413


async def test_unknown_addresses_are_404(client):
    status, _ = await client.post("/api/v9/canister/aaaaa-aa/call", b"")
    assert status == 404


@pytest.mark.covers("inspect_message")
async def test_a_canister_refuses_at_inspection(client, canister, program):
    closing = program().hook("canister_inspect_message", program().push(0).drop()).reply(b"")
    await client.certified(canister, "update", closing)
    status, body, _ = await client.call(canister, "update", program().reply(b""))
    assert status == 200
    assert body["status"] == "non_replicated_rejection"
    assert (body["reject_code"], body["error_code"]) == (4, "IC0406")


@pytest.mark.covers("read_state: module hash and controllers")
async def test_module_hash_and_controllers_can_be_read(client, canister):
    prefix = (b"canister", canister.raw)
    status, certificate = await client.read_state(
        canister, [(*prefix, b"module_hash"), (*prefix, b"controllers")]
    )
    assert status == 200
    assert len(certificate.value((*prefix, b"module_hash"))) == 32
    controllers = wire.decode(certificate.value((*prefix, b"controllers")), "x", ValueError)
    assert list(controllers) == [client.sender.raw]


@pytest.mark.covers("read_state: absence is proved")
async def test_the_absence_of_a_request_is_proved(client, replica, canister):
    path = (b"request_status", bytes(32))
    _, certificate = await client.read_state(canister, [path])
    certificate.verify(replica.root_key, canister, now=time.time_ns())
    assert certificate.lookup((*path, b"status")) == Absent()


async def test_a_requests_status_is_for_its_sender_only(client, canister, program):
    _, _, request_id = await client.call(canister, "update", program().reply(b"secret"))
    client.key = Ed25519Key.from_seed(b"\7" * 32)
    client.sender = Principal.self_authenticating(client.key.public_key_der)
    status, text = await client.read_state(canister, [(b"request_status", request_id)])
    assert status == 403
    assert "sender" in text


REFUSED = {
    "the whole tree": ([], 404),
    "all canisters": ([b"canister"], 404),
    "a whole canister": ([b"canister", b"<id>"], 404),
    "certified data": ([b"canister", b"<id>", b"certified_data"], 404),
    "another canister": ([b"canister", MISSING.raw, b"module_hash"], 400),
    "no principal": ([b"canister", bytes(30), b"module_hash"], 400),
    "ranges at a canister's address": ([b"canister_ranges", b"x"], 404),
    "metrics at a canister's address": ([b"subnet", b"x", b"metrics"], 404),
    "more of a boundary node": ([b"api_boundary_nodes", b"x", b"secrets"], 404),
    "too short a request id": ([b"request_status", b"x"], 400),
    "more of a request": ([b"request_status", bytes(32), b"sender"], 404),
    "nonsense": ([b"nonsense"], 404),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_paths_that_are_not_served_are_refused(client, canister, name):
    path, expected = REFUSED[name]
    path = [canister.raw if label == b"<id>" else label for label in path]
    status, text = await client.read_state(canister, [path])
    assert status == expected
    assert ("Invalid path requested" in text) == (expected == 404)


async def test_a_canisters_state_and_requests_are_not_at_the_subnets_address(client, canister):
    _, certificate = await client.read_state(canister, [(b"time",)])
    subnet = certificate.delegation.subnet_id
    for version, path, expected in (
        (2, (b"canister", canister.raw, b"module_hash"), 404),
        (3, (b"canister", canister.raw, b"module_hash"), 404),
        (2, (b"request_status", bytes(32)), 404),
        (3, (b"request_status", bytes(32)), 200),
    ):
        status, _ = await client.read_state(subnet, [path], version=version, kind="subnet")
        assert status == expected


async def test_two_requests_cannot_be_asked_for_at_once(client, canister):
    status, text = await client.read_state(
        canister, [(b"request_status", bytes(32)), (b"request_status", b"\1" * 32)]
    )
    assert status == 400
    assert "one is allowed" in text


@pytest.mark.covers("read_state: keys, nodes and ranges of the subnet")
async def test_the_subnets_address_shows_sharded_ranges(client, replica, canister):
    _, certificate = await client.read_state(canister, [(b"time",)])
    subnet = certificate.signer(replica.root_key)
    status, certificate = await client.read_state(
        subnet, [(b"canister_ranges", subnet.raw)], kind="subnet"
    )
    assert status == 200
    certificate.verify(replica.root_key, None, now=time.time_ns(), subnet_id=subnet)
    shards = dict(certificate.children((b"canister_ranges", subnet.raw)))
    ranges = [pair for leaf in shards.values() for pair in wire.decode_ranges(leaf.value)]
    assert any(low <= canister.raw <= high for low, high in ranges)


@pytest.mark.covers("read_state: keys, nodes and ranges of the subnet")
async def test_unsharded_ranges_are_version_2s(client, replica, canister):
    _, certificate = await client.read_state(canister, [(b"time",)])
    path = (b"subnet", certificate.signer(replica.root_key).raw, b"canister_ranges")
    assert (await client.read_state(canister, [path]))[0] == 404
    status, certificate = await client.read_state(canister, [path], version=2)
    assert status == 200
    assert certificate.value(path)


@pytest.mark.covers("read_state: metadata, private ones for controllers")
async def test_private_metadata_is_for_controllers(client, universal_wasm):
    from bridge.replica.execution.binary import _sized

    wasm = universal_wasm(True)
    for name, content in (("icp:public open", b"1"), ("icp:private shut", b"2")):
        wasm += b"\0" + _sized(_sized(name.encode()) + content)
    canister = await client.create(wasm)
    paths = {name: (b"canister", canister.raw, b"metadata", name) for name in (b"open", b"shut")}
    for name, path in paths.items():
        _, certificate = await client.read_state(canister, [path])
        assert certificate.value(path) == (b"1" if name == b"open" else b"2")
    client.key = Ed25519Key.from_seed(b"\7" * 32)
    client.sender = Principal.self_authenticating(client.key.public_key_der)
    assert (await client.read_state(canister, [paths[b"open"]]))[0] == 200
    assert (await client.read_state(canister, [paths[b"shut"]]))[0] == 403


async def test_one_canister_in_an_endless_loop_does_not_hold_up_another(
    client, canister, universal_wasm, program, hold
):
    other = await client.create(universal_wasm(True))
    endless = program().debug_print(hold.WORD).spin()
    looping = asyncio.create_task(client.certified(canister, "update", endless))
    await hold.reached()
    status = await client.certified(other, "update", program().reply(b"meanwhile"))
    assert status(b"reply") == b"meanwhile"
    assert not looping.done()
    hold.let_go()
    ended = await looping
    assert ended(b"error_code") == b"IC0522"
    status = await client.certified(canister, "update", program().reply(b"afterwards"))
    assert status(b"reply") == b"afterwards"


@pytest.mark.covers("instruction limits")
async def test_a_long_query_ends_at_its_limit_and_holds_nobody_up(
    client, canister, universal_wasm, program, hold
):
    other = await client.create(universal_wasm(True))
    endless = program().debug_print(hold.WORD).spin()
    looping = asyncio.create_task(client.query(canister, "query", endless))
    await hold.reached()
    _, body, _ = await client.query(other, "query", program().reply(b"meanwhile"))
    assert body["reply"]["arg"] == b"meanwhile"
    assert not looping.done()
    hold.let_go()
    _, body, _ = await looping
    assert body["error_code"] == "IC0522"


@pytest.mark.covers("canister_status")
async def test_status_can_be_queried_at_the_management_canister(client, canister):
    signature = SIGNATURES["canister_status"]
    content = client.content(
        "query",
        canister_id=b"",
        method_name="canister_status",
        arg=signature.argument.encode({"canister_id": canister}),
    )
    status, body = await client.post(f"/api/v3/canister/{canister}/query", client.signed(content))
    assert (status, body["status"]) == (200, "replied"), body
    (told,) = signature.result.decode(body["reply"]["arg"])
    assert told["status"] == Case("running")


@pytest.mark.covers("read_state: keys, nodes and ranges of the subnet")
async def test_the_subnets_metrics_are_at_its_own_address(client, replica, canister):
    _, certificate = await client.read_state(canister, [(b"time",)])
    subnet = certificate.signer(replica.root_key)
    path = (b"subnet", subnet.raw, b"metrics")
    _, certificate = await client.read_state(subnet, [path], kind="subnet")
    metrics = wire.decode(certificate.value(path), "the metrics", ValueError)
    assert metrics["num_canisters"] == 1
    assert metrics["canister_state_bytes"] >= 4 * 65_536
    assert metrics["update_transactions_total"] >= 0


async def test_metrics_are_not_told_at_another_subnets_address(client, replica, canister):
    _, certificate = await client.read_state(canister, [(b"time",)])
    subnet = certificate.signer(replica.root_key)
    root = Principal.self_authenticating(replica.root_key)
    status, text = await client.read_state(
        root, [(b"subnet", subnet.raw, b"metrics")], kind="subnet"
    )
    assert status == 400
    assert "does not match requested principal id" in text


async def test_the_ranges_of_one_subnet_only_can_be_asked_for(client, replica, canister):
    _, certificate = await client.read_state(canister, [(b"time",)])
    subnet = certificate.signer(replica.root_key)
    paths = [(b"canister_ranges", subnet.raw), (b"canister_ranges", b"another")]
    status, text = await client.read_state(subnet, paths, kind="subnet")
    assert status == 400
    assert "one is allowed" in text


@pytest.mark.covers("composite queries")
async def test_composite_queries_call_other_canisters(client, canister, universal_wasm, program):
    other = await client.create(universal_wasm(False))
    asked = program().call(
        other.raw, "query", program().reply(b"from afar"),
        reply=program().append_blob_of("msg_arg_data").reply(),
    )  # fmt: skip
    status, body, _ = await client.query(canister, "composite", asked.drop())
    assert (status, body["status"]) == (200, "replied"), body
    assert body["reply"]["arg"] == b"from afar"


@pytest.mark.covers("composite queries")
async def test_a_composite_query_cannot_come_back_to_itself(client, canister, program):
    asked = program().call(
        canister.raw, "query", program().reply(b""),
        reject=program().append_blob_of("msg_reject_msg").reply(),
    )  # fmt: skip
    _, body, _ = await client.query(canister, "composite", asked.drop())
    assert b"Loops" in body["reply"]["arg"]


async def test_queries_and_updates_of_one_canister_may_run_at_once(client, canister, program):
    """Queries that grow the memory make a new instance; nobody may look at the old one then."""

    async def ask():
        growing = program().grow(3).drop().reply(b"asked")
        for _ in range(15):
            _, body, _ = await client.query(canister, "query", growing)
            assert body["reply"]["arg"] == b"asked"

    async def change():
        for _ in range(15):
            status = await client.certified(canister, "update", program().reply(b"changed"))
            assert status(b"reply") == b"changed"

    await asyncio.gather(*(ask() for _ in range(4)), *(change() for _ in range(4)))


@pytest.mark.covers("web pages of any origin")
async def test_pages_of_any_origin_may_use_the_interface(client, replica):
    headers = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
    address = replica.url + "/api/v3/canister/bkyz2-fmaaa-aaaaa-qaaaq-cai/query"
    async with client.session.options(address, headers=headers) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    async with client.session.get(replica.url + "/api/v2/status", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "*"
