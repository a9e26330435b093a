"""Every lie that a node could tell: none is believed, none hangs, each gives its own error."""

import asyncio
import random

import cbor2
import pytest
from aiohttp import web

from bridge import wire
from bridge.agent import Agent, Identity
from bridge.errors import (
    CallNeverExecutedError,
    CallOutcomeUnknownError,
    CallRejectedError,
    CertificateError,
    QuerySignatureError,
    RequestRefusedError,
    TransportError,
    TrustError,
)
from bridge.principal import Principal
from bridge.wire import bls, hashtree, keys, leb128

SECOND = 1_000_000_000
REPLY = b"DIDL\0\0reply"
IMPOSTOR = bls.SecretKey.generate(b"impostor")


def answered(certificate: bytes) -> bytes:
    return wire.encode({"status": "replied", "certificate": certificate})


def status_path(ask):
    """What is asked for: of a call its status, of a state read its paths."""
    content = ask.envelope.content
    if content["request_type"] == "call":
        ask.replica.take(ask.id, content["method_name"])
        return [(b"request_status", ask.id)]
    return content["paths"]


# --- Certificates -------------------------------------------------------------------------------


async def forged(ask):
    return answered(ask.replica.certify(status_path(ask), key=IMPOSTOR))


async def forged_delegation(ask):
    delegation = ask.replica.delegation(IMPOSTOR)
    return answered(ask.replica.certify(status_path(ask), delegation=delegation))


async def stale(ask):
    return answered(ask.replica.certify(status_path(ask), time_ns=ask.replica.now - 600 * SECOND))


async def future(ask):
    return answered(ask.replica.certify(status_path(ask), time_ns=ask.replica.now + 600 * SECOND))


async def truncated(ask):
    return answered(ask.replica.certify(status_path(ask))[:-60])


async def pruned(ask):
    status_path(ask)
    return answered(ask.replica.certify([]))


async def changed(ask):
    data = ask.replica.certify(status_path(ask))
    for honest, false in ((b"\0reply", b"\0wrong"), (b"hhhh", b"xxxx")):
        data = data.replace(honest, false)
    return answered(data.replace(ask.replica.node.public_key_der[-8:], bytes(8)))


async def wrong_subnet(ask):
    other = bls.SecretKey.generate(b"another subnet")
    honest = ask.replica.subnet
    ask.replica.subnet = other
    delegation = ask.replica.delegation()
    ask.replica.subnet = honest
    # Its own key and delegation are fine, but it is not the one that signed.
    return answered(ask.replica.certify(status_path(ask), delegation=delegation))


async def wrong_canister(ask):
    """A real subnet, whose ranges do not hold the canister."""
    replica = ask.replica
    ranges = wire.encode_ranges([(b"\0\0\0\0\0\0\xff\0\1\1", b"\0\0\0\0\0\0\xff\xff\1\1")])
    tree = hashtree.build(
        {
            b"time": leb128.encode(replica.now),
            b"subnet": {replica.subnet_id.raw: {b"public_key": replica.subnet.public_key_der}},
            b"canister_ranges": {replica.subnet_id.raw: {b"\0\0\0\0\0\0\xff\0\1\1": ranges}},
        }
    )
    certificate = wire.Certificate.sign(tree, replica.root).to_cbor()
    delegation = wire.SubnetDelegation(replica.subnet_id, certificate)
    return answered(replica.certify(status_path(ask), delegation=delegation))


def delegated_by(replica, delegation, *, time_ns=None, nested=None):
    """The root's delegation with another time, or with a delegation of its own."""
    honest = wire.Certificate.from_cbor(delegation.certificate)
    content = {
        b"time": leb128.encode(replica.now if time_ns is None else time_ns),
        b"subnet": hashtree.lookup_subtree(honest.tree, [b"subnet"]),
        b"canister_ranges": hashtree.lookup_subtree(honest.tree, [b"canister_ranges"]),
    }
    made = wire.Certificate.sign(hashtree.build(content), replica.root, nested)
    return wire.SubnetDelegation(delegation.subnet_id, made.to_cbor())


async def by_the_root(ask):
    """The root subnet answers honestly for itself: it has no such request and no such canister."""
    replica = ask.replica
    root_id = Principal.self_authenticating(replica.root.public_key_der).raw
    subnet = {
        b"canister_ranges": wire.encode_ranges([(b"\xff\1\1", b"\xff\xff\1\1")]),
        b"node": {replica.node_id.raw: {b"public_key": replica.node.public_key_der}},
    }
    content = {b"time": leb128.encode(replica.now), b"subnet": {root_id: subnet}}
    certificate = wire.Certificate.sign(hashtree.build(content), replica.root)
    return answered(certificate.pruned(status_path(ask)).to_cbor())


async def nested_delegation(ask):
    honest = ask.replica.delegation()
    delegation = delegated_by(ask.replica, honest, nested=honest)
    return answered(ask.replica.certify(status_path(ask), delegation=delegation))


async def old_delegation(ask):
    then = ask.replica.now - 31 * 86_400 * SECOND
    delegation = delegated_by(ask.replica, ask.replica.delegation(), time_ns=then)
    return answered(ask.replica.certify(status_path(ask), delegation=delegation))


async def no_delegation(ask):
    certificate = wire.Certificate.from_cbor(ask.replica.certify(status_path(ask)))
    bare = wire.Certificate(certificate.tree, certificate.signature)
    return answered(bare.to_cbor())


async def deep(_):
    return answered(b"\xa1dtree" + b"\x83\x02\x41a" * 50_000 + b"\x81\x00")


async def wide(_):
    tree = [2, b"a", [3, b""]]
    for number in range(120):
        tree = [1, tree, [2, b"b%03d" % number, [3, bytes(20_000)]]]
    return answered(cbor2.dumps({"tree": tree, "signature": bytes(48)}))


async def shared(_):
    return answered(b"\xa2dtree\x83\x01\xd8\x1c\x81\x00\xd8\x1d\x00isignature\x40")


async def no_certificate(_):
    return wire.encode({"status": "replied"})


CERTIFICATE_LIES = {
    forged: "signature is not the subnet's",
    forged_delegation: "not signed with the root key",
    stale: "600 s old",
    future: "in the future",
    truncated: "not CBOR",
    pruned: "neither shows nor denies",
    changed: "signature is not the subnet's",
    wrong_subnet: "signature is not the subnet's",
    wrong_canister: "may not speak of canister",
    nested_delegation: "one level is allowed",
    old_delegation: "delegation is 26784",
    no_delegation: "signature is not the subnet's",
    by_the_root: "root subnet answered for canister",
    deep: "nested more than",
    wide: "signature is not the subnet's|delegation|time",
    shared: "shared references",
}


@pytest.mark.parametrize(
    ("lie", "message"), CERTIFICATE_LIES.items(), ids=lambda x: getattr(x, "__name__", "")
)
async def test_a_false_certificate_of_a_call_is_not_believed(
    agent, replica, canister, lie, message
):
    replica.lie("call", lie)
    replica.lie("read_state", lie, forever=True)
    with pytest.raises(CertificateError, match=message):
        await agent.update(canister, "greet")


@pytest.mark.parametrize(
    ("lie", "message"), CERTIFICATE_LIES.items(), ids=lambda x: getattr(x, "__name__", "")
)
async def test_a_false_certificate_of_the_state_is_not_believed(
    agent, replica, canister, lie, message
):
    replica.lie("read_state", lie, forever=True)
    with pytest.raises(CertificateError, match=message):
        await agent.module_hash(canister)


@pytest.mark.parametrize("lie", [*CERTIFICATE_LIES, no_certificate], ids=lambda x: x.__name__)
async def test_one_bad_node_does_not_fail_a_call_that_the_subnet_has_taken(
    agent, replica, canister, lie
):
    replica.lie("call", lie)
    replica.lie("read_state", lie if lie is not no_certificate else forged)
    if lie in (deep, wide, shared, no_certificate):

        async def taken(ask):
            status_path(ask)
            return await lie(ask)

        replica.lie("call", taken)
    assert await agent.update(canister, "greet") == REPLY
    assert replica.runs == ["greet"]


async def test_a_reply_without_proof_is_no_reply(agent, replica, canister):
    replica.lie("call", no_certificate)
    replica.lie("read_state", forged, forever=True)
    with pytest.raises(TrustError):
        await agent.update(canister, "greet")


async def test_another_request_s_reply_is_not_taken(agent, replica, canister):
    async def replayed(ask):
        other = bytes(32)
        ask.replica.statuses[other] = {b"status": b"replied", b"reply": b"other"}
        return answered(ask.replica.certify([(b"request_status", other)]))

    replica.lie("call", replayed)
    assert await agent.update(canister, "greet") != b"other"


async def test_a_reject_dressed_as_a_reply_stays_a_reject(agent, replica, canister):
    async def dressed(ask):
        status_path(ask)
        return answered(ask.replica.certify([(b"request_status", ask.id)]))

    replica.lie("call", dressed)
    with pytest.raises(CallRejectedError) as caught:
        await agent.update(canister, "fail")
    assert caught.value.certified


@pytest.mark.parametrize(
    "status",
    [
        {b"status": b"replied"},
        {b"status": b"rejected", b"reject_code": b"\4"},
        {b"status": b"rejected", b"reject_code": b"\x80", b"reject_message": b""},
        {b"status": b"finished"},
    ],
)
async def test_a_certified_status_that_makes_no_sense_is_an_error(agent, replica, canister, status):
    async def odd(ask):
        ask.replica.statuses[ask.id] = status
        return answered(ask.replica.certify([(b"request_status", ask.id)]))

    replica.lie("call", odd)
    with pytest.raises(CertificateError):
        await agent.update(canister, "greet")


# --- Outcomes that are not replies --------------------------------------------------------------


async def accepted(_):
    return web.Response(status=202)


async def test_a_call_that_nobody_takes_is_proved_never_to_run(connect, replica, canister):
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + SECOND // 4)
        replica.lie("call", accepted, forever=True)
        with pytest.raises(CallNeverExecutedError, match="never will") as caught:
            await agent.submit(call)
        assert "safe to call again" in caught.value.hint
    assert replica.runs == []


async def test_endless_202_and_endless_ignorance_end_as_unknown(connect, replica, canister):
    async with connect(Identity.generate()) as agent:
        replica.lie("call", accepted, forever=True)
        with pytest.raises(CallOutcomeUnknownError, match="is unknown: no outcome within"):
            await agent.update(canister, "greet", within=SECOND // 4)


async def test_a_call_that_ran_long_before_its_expiry_is_not_proved_absent_after_it(
    connect, replica, canister
):
    """The IC forgets a call five minutes after it ended, which may be right after its expiry."""
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + SECOND // 4)
        assert await agent.submit(call) == REPLY
        await asyncio.sleep(0.3)
        replica.statuses.clear()  # forgotten
        with pytest.raises(CallOutcomeUnknownError, match="cannot tell any more"):
            await agent.wait(call)


async def test_a_call_once_seen_under_way_is_never_proved_not_to_have_run(
    connect, replica, canister
):
    async def taken(ask):
        ask.replica.statuses[ask.id] = {b"status": b"processing"}
        return web.Response(status=202)

    async def seen(ask):
        data = ask.replica.certify(ask.envelope.content["paths"])
        ask.replica.statuses.clear()
        return wire.encode({"certificate": data})

    replica.lie("call", taken, accepted, forever=True)
    replica.lie("read_state", seen)
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + SECOND // 4)
        with pytest.raises(CallOutcomeUnknownError, match="cannot tell any more"):
            await agent.submit(call)


async def test_a_gap_in_what_is_known_is_no_proof(connect, replica, canister):
    """Unknown before it could run and long after: in between it may have come and gone."""
    ages = iter([290, -290])

    async def at_its_time(ask):
        time_ns = ask.replica.now - next(ages, -290) * SECOND
        tree = ask.replica.tree(time_ns=time_ns)
        return answered(ask.replica.certify(ask.envelope.content["paths"], tree=tree))

    replica.lie("call", accepted, forever=True)
    replica.lie("read_state", at_its_time, forever=True)
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + 10 * SECOND)
        with pytest.raises(CallOutcomeUnknownError, match="cannot tell any more"):
            await agent.submit(call)


async def test_a_call_that_the_ic_has_forgotten_is_unknown(agent, replica, canister):
    async def done(ask):
        ask.replica.statuses[ask.id] = {b"status": b"done"}
        return web.Response(status=202)

    replica.lie("call", done)
    with pytest.raises(CallOutcomeUnknownError, match="no longer kept"):
        await agent.update(canister, "greet")


async def test_a_call_that_expired_long_ago_is_unknown(connect, replica, canister):
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now - 400 * SECOND)
        with pytest.raises(CallOutcomeUnknownError, match="has expired, and the IC cannot tell"):
            await agent.wait(call)


async def test_a_call_that_any_subnet_may_have_taken_is_not_proved_absent_by_one(connect, replica):
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(
            Principal.management(),
            "provisional_create_canister_with_cycles",
            ingress_expiry=replica.now + SECOND // 4,
        )
        replica.lie("call", accepted, forever=True)
        with pytest.raises(CallOutcomeUnknownError, match="cannot tell any more"):
            await agent.submit(call)


async def test_a_node_s_own_reject_is_not_certified(agent, replica, canister):
    async def refuse(_):
        return wire.encode(
            {
                "status": "non_replicated_rejection",
                "reject_code": 3,
                "reject_message": "no such canister",
                "error_code": "IC0301",
            }
        )

    replica.lie("call", refuse)
    with pytest.raises(CallRejectedError, match="not certified") as caught:
        await agent.update(canister, "greet")
    assert (caught.value.code, caught.value.certified) == (3, False)


async def test_a_node_s_own_reject_of_a_call_that_the_subnet_has_taken_is_not_believed(
    agent, replica, canister
):
    async def lie(ask):
        ask.replica.take(ask.id, "greet")
        body = {"status": "non_replicated_rejection", "reject_code": 3, "reject_message": "no"}
        return wire.encode(body)

    replica.lie("call", lie)
    assert await agent.update(canister, "greet") == REPLY


@pytest.mark.parametrize("status", [400, 403, 413, 429])
async def test_a_node_that_refuses_a_call_which_the_subnet_has_taken_is_not_believed(
    agent, replica, canister, status
):
    async def lie(ask):
        ask.replica.take(ask.id, "greet")
        return web.Response(status=status, text="no")

    replica.lie("call", *[lie] * 4)
    assert await agent.update(canister, "greet") == REPLY
    assert replica.runs == ["greet"]


async def test_a_node_s_own_reject_of_what_may_have_arrived_before_is_not_believed(
    agent, replica, canister
):
    late = []

    async def drop(ask):
        late.append(ask.id)  # on its way to the subnet, though not there yet
        ask.http.transport.close()
        return web.Response()

    async def refuse(_):
        return wire.encode({"status": "rejected", "reject_code": 2, "reject_message": "busy"})

    async def arrives(ask):
        ask.replica.take(late[0], "greet")

    replica.lie("call", drop, refuse)
    replica.lie("read_state", None, arrives)
    assert await agent.update(canister, "greet") == REPLY
    assert replica.runs == ["greet"]


async def test_a_dropped_connection_after_the_call_was_taken_runs_it_once(agent, replica, canister):
    async def drop(ask):
        ask.replica.take(ask.id, "greet")
        ask.http.transport.close()

    replica.lie("call", drop, drop)
    assert await agent.update(canister, "greet") == REPLY
    assert replica.runs == ["greet"]
    assert len(set(replica.seen_ids)) == 1


async def test_a_refused_repetition_of_what_may_have_arrived_is_no_refusal(
    agent, replica, canister
):
    async def drop(ask):
        ask.replica.take(ask.id, "greet")
        ask.http.transport.close()

    async def refuse(_):
        return web.Response(status=400, text="duplicate")

    replica.lie("call", drop, refuse)
    assert await agent.update(canister, "greet") == REPLY


async def test_polling_stops_when_the_replica_only_fails(agent, replica, canister):
    async def broken(_):
        return web.Response(status=500, text="out of order")

    replica.lie("call", broken, forever=True)
    replica.lie("read_state", broken, forever=True)
    with pytest.raises(CallOutcomeUnknownError, match="out of order"):
        await agent.update(canister, "greet")


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
async def test_one_node_that_refuses_to_tell_does_not_end_the_polls(
    agent, replica, canister, status
):
    async def refuse(_):
        return web.Response(status=status, text="not you")

    async def taken(ask):
        ask.replica.take(ask.id, "greet")
        return web.Response(status=202)

    replica.lie("call", taken)
    replica.lie("read_state", refuse, refuse)
    assert await agent.update(canister, "greet") == REPLY


async def test_polling_stops_when_the_replica_refuses_to_tell(agent, replica, canister):
    async def refuse(_):
        return web.Response(status=403, text="not you")

    replica.lie("call", accepted)
    replica.lie("read_state", refuse, forever=True)
    with pytest.raises(CallOutcomeUnknownError, match="not you"):
        await agent.update(canister, "greet")


# --- Overload -----------------------------------------------------------------------------------


def busy(status):
    async def answer(_):
        return web.Response(status=status, headers={"Retry-After": "0"}, text="too much")

    return answer


@pytest.mark.parametrize("status", [429, 503])
async def test_a_passing_overload_is_waited_out(agent, replica, canister, status):
    for kind in ("call", "query", "read_state"):
        replica.lie(kind, busy(status), busy(status))
    assert await agent.update(canister, "greet") == REPLY
    assert await agent.query(canister, "peek") == REPLY
    assert replica.runs == ["greet"]


async def test_a_storm_of_429_ends_as_a_refusal(agent, replica, canister):
    for kind, ask in (("call", agent.update), ("query", agent.query)):
        replica.lie(kind, busy(429), forever=True)
        with pytest.raises(RequestRefusedError, match="too much") as caught:
            await ask(canister, "greet")
        assert caught.value.status == 429
        assert "overloaded" in caught.value.hint
        assert len([each for each, _ in replica.asked if each == kind]) == 4
    assert replica.runs == []


# --- Queries ------------------------------------------------------------------------------------


def query_lie(change):
    """An answer whose parts a test changes after they were signed."""

    async def answer(ask):
        response = {"status": "replied", "reply": {"arg": REPLY}}
        return wire.encode(change(ask, response, ask.replica.sign_query(response, ask.id)))

    answer.__name__ = change.__name__
    return answer


def unsigned(ask, response, signature):
    return response


def no_signatures(ask, response, signature):
    return {**response, "signatures": []}


def changed_reply(ask, response, signature):
    return {"status": "replied", "reply": {"arg": b"else"}, "signatures": [signature]}


def dressed_reject(ask, response, signature):
    reject = {"status": "rejected", "reject_code": 4, "reject_message": "no"}
    return {**response, "signatures": [ask.replica.sign_query(reject, ask.id)]}


def resigned(ask, response, signature):
    forged = ask.replica.sign_query(response, ask.id, key=keys.Ed25519Key.generate())
    return {**response, "signatures": [forged]}


def by_a_stranger(ask, response, signature):
    return {**response, "signatures": [{**signature, "identity": b"\1" * 28 + b"\2"}]}


def partly_signed(ask, response, signature):
    forged = ask.replica.sign_query(response, ask.id, key=keys.Ed25519Key.generate())
    return {**response, "signatures": [signature, forged]}


def replayed(ask, response, signature):
    return {**response, "signatures": [ask.replica.sign_query(response, bytes(32))]}


def stale_signature(ask, response, signature):
    old = ask.replica.now - 400 * SECOND
    return {**response, "signatures": [ask.replica.sign_query(response, ask.id, timestamp=old)]}


def future_signature(ask, response, signature):
    new = ask.replica.now + 400 * SECOND
    return {**response, "signatures": [ask.replica.sign_query(response, ask.id, timestamp=new)]}


def too_many(ask, response, signature):
    return {**response, "signatures": [signature] * 1000}


def malformed(ask, response, signature):
    return {**response, "signatures": [{"identity": "me"}]}


QUERY_LIES = {
    unsigned: "not signed by any node",
    no_signatures: "not signed by any node",
    changed_reply: "not what node",
    dressed_reject: "not what node",
    resigned: "not what node",
    by_a_stranger: "no node of subnet",
    partly_signed: "not what node",
    replayed: "not what node",
    stale_signature: "400 s ago",
    future_signature: "in the future",
    too_many: "1000 signatures",
    malformed: "a node signature has",
}


@pytest.mark.parametrize(
    ("change", "message"), QUERY_LIES.items(), ids=lambda x: getattr(x, "__name__", "")
)
async def test_a_false_answer_to_a_query_is_not_believed(agent, replica, canister, change, message):
    replica.lie("query", query_lie(change), forever=True)
    with pytest.raises(QuerySignatureError, match=message):
        await agent.query(canister, "peek")


async def test_an_unknown_signer_has_the_keys_fetched_once_more(agent, replica, canister):
    assert await agent.query(canister, "peek") == REPLY
    replica.node = keys.Ed25519Key.generate()  # a node has joined
    assert await agent.query(canister, "peek") == REPLY
    assert replica.asked.count(("read_state", "v3")) == 2


@pytest.mark.parametrize(
    ("lie", "message"), CERTIFICATE_LIES.items(), ids=lambda x: getattr(x, "__name__", "")
)
async def test_node_keys_that_nothing_proves_are_not_used(agent, replica, canister, lie, message):
    replica.lie("read_state", lie, forever=True)
    with pytest.raises(CertificateError):
        await agent.query(canister, "peek")


async def test_the_root_subnet_s_word_proves_nothing_of_other_subnets_canisters(
    connect, replica, canister
):
    replica.lie("read_state", by_the_root, forever=True)
    async with connect(Identity.generate()) as agent:
        call = agent.sign_update(canister, "greet", ingress_expiry=replica.now + SECOND // 10)
        replica.lie("call", accepted, forever=True)
        for ask in (
            lambda: agent.query(canister, "peek"),
            lambda: agent.module_hash(canister),
            lambda: agent.time(canister),
            lambda: agent.submit(call),
            lambda: agent.wait(call),
        ):
            with pytest.raises(CertificateError, match="root subnet answered for canister"):
                await ask()


async def test_the_root_subnet_s_own_canisters_are_served_with_one_look_at_its_ranges(
    connect, replica, canister
):
    replica.subnet = replica.root
    async with connect(Identity.generate()) as agent:
        replies = [agent.update(canister, "greet") for _ in range(5)]
        assert await asyncio.gather(*replies) == [REPLY] * 5
        assert [kind for kind, _ in replica.asked].count("read_state") == 1
        assert await agent.query(canister, "peek") == REPLY
        assert await agent.module_hash(canister) == b"h" * 32


async def test_unsigned_queries_are_taken_only_by_the_loudly_named_choice(
    connect, replica, canister, caplog
):
    replica.lie("query", query_lie(unsigned), forever=True)
    async with connect(dangerously_believe_unsigned_queries=True) as agent:
        assert await agent.query(canister, "peek") == REPLY
    assert "NOT verified" in caplog.text


# --- What is not even an answer -----------------------------------------------------------------


async def garbage(_):
    return b"\xff\xfe<html>not a replica</html>"


async def empty(_):
    return b""


async def a_list(_):
    return wire.encode([1, 2, 3])


async def cut_off(ask):
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(ask.http)
    await response.write(b"\xd9\xd9\xf7")
    ask.http.transport.close()
    return response


async def no_http(ask):
    ask.http.transport.write(b"\0\1\2 hello\r\n\r\n")
    ask.http.transport.close()


async def redirected(_):
    return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})


async def too_large(ask):
    response = web.StreamResponse(headers={"Content-Length": str(1 << 40)})
    await response.prepare(ask.http)
    return response


async def endless(ask):
    response = web.StreamResponse()
    await response.prepare(ask.http)
    while True:
        await response.write(bytes(65_536))


NONSENSE = [garbage, empty, a_list, cut_off, no_http, redirected, too_large, endless]


@pytest.mark.parametrize("lie", NONSENSE, ids=lambda lie: lie.__name__)
async def test_nonsense_is_a_transport_error_of_a_query(connect, limits, replica, canister, lie):
    replica.lie("query", lie, forever=True)
    async with connect(limits=limits(response=1 << 20)) as agent:
        with pytest.raises(TransportError):
            await agent.query(canister, "peek")


@pytest.mark.parametrize("lie", NONSENSE, ids=lambda lie: lie.__name__)
async def test_nonsense_about_a_call_leaves_its_outcome_to_the_polls(
    connect, limits, replica, canister, lie
):
    async def taken(ask):
        ask.replica.take(ask.id, "greet")
        return await lie(ask)

    replica.lie("call", taken, forever=True)
    async with connect(Identity.generate(), limits=limits(response=1 << 20)) as agent:
        assert await agent.update(canister, "greet") == REPLY
        replica.lie("read_state", lie, forever=True)
        with pytest.raises(CallOutcomeUnknownError):
            await agent.update(canister, "greet", within=2 * SECOND)


async def test_a_half_closed_connection_ends_with_the_request(connect, replica, canister):
    from dataclasses import replace

    from bridge.agent import Timeouts

    async def half_closed(ask):
        transport = ask.http.transport
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n\xd9\xd9\xf7")
        transport.write_eof()  # nothing more will come, and the other direction stays open
        await asyncio.sleep(3600)

    for kind in ("query", "call"):
        replica.lie(kind, half_closed)
    timeouts = replace(Timeouts(), request=SECOND, first_poll=SECOND // 1000)
    async with connect(Identity.generate(), timeouts=timeouts) as agent:
        assert await agent.query(canister, "peek") == REPLY
        assert await agent.update(canister, "greet") == REPLY
    assert replica.asked.count(("query", "v3")) == 2


async def test_a_slow_drip_ends_with_the_request(connect, replica, canister):
    from dataclasses import replace

    from bridge.agent import Timeouts

    async def drip(ask):
        response = web.StreamResponse()
        await response.prepare(ask.http)
        while True:
            await response.write(b"\0")
            await asyncio.sleep(0.01)

    replica.lie("query", drip, forever=True)
    timeouts = replace(Timeouts(), request=SECOND // 10)
    async with connect(timeouts=timeouts) as agent:
        with pytest.raises(TransportError, match="did not answer within"):
            await agent.query(canister, "peek")


@pytest.mark.parametrize("body", [b"", b"\x01", wire.encode({"root_key": 7})])
async def test_a_replica_without_a_root_key_is_no_local_replica(replica, body):
    replica.status_body = body
    with pytest.raises(TransportError):
        await Agent.local(replica.url)


async def test_an_endless_storm_ends_at_the_deadline(connect, replica, canister):
    from bridge.agent import Retries

    stubborn = Retries(attempts=10**6, first_delay=SECOND // 1000, longest_delay=SECOND // 1000)
    async with connect(Identity.generate(), retries=stubborn) as agent:
        for kind in ("query", "read_state"):
            replica.lie(kind, busy(503), forever=True)
        for ask in (
            agent.query(canister, "peek", within=SECOND // 10),
            agent.read_state(canister, [(b"time",)], within=SECOND // 10),
            agent.read_subnet_state(replica.subnet_id, [(b"time",)], within=SECOND // 10),
        ):
            with pytest.raises(TransportError, match="had no answer within"):
                await ask


# --- Chance -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["query", "call", "read_state"])
async def test_no_damaged_answer_is_taken_for_another_one(agent, replica, canister, kind):
    """Bytes of honest answers are changed, cut out or doubled: the truth or an error comes out."""
    rng = random.Random(f"damage {kind}")

    async def damaged(ask):
        if kind == "query":
            response = {"status": "replied", "reply": {"arg": REPLY}}
            signatures = [ask.replica.sign_query(response, ask.id)]
            data = bytearray(wire.encode({**response, "signatures": signatures}))
        else:
            data = bytearray(answered(ask.replica.certify(status_path(ask))))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at : at + rng.randint(1, 8)]
                case 2:
                    data[at:at] = data[at : at + rng.randint(1, 8)]
        return bytes(data)

    await agent.query(canister, "peek")
    asks = {
        "query": (lambda: agent.query(canister, "peek"), REPLY),
        "call": (lambda: agent.update(canister, "greet"), REPLY),
        "read_state": (lambda: agent.module_hash(canister), b"h" * 32),
    }
    ask, truth = asks[kind]
    outcomes = []
    for _ in range(60):
        replica.lie(kind, damaged, *([damaged] * 9 if kind != "call" else []))
        if kind == "call":
            replica.lie("read_state", *[damaged] * 9)
        try:
            outcomes.append(await ask())
        except (TrustError, TransportError):
            outcomes.append(None)
    assert set(outcomes) <= {truth, None}
    assert outcomes.count(None) > 30 or kind == "call"


# --- What is shown ------------------------------------------------------------------------------

LOUD = "\x1b[31m\x07evil\u202e\r" + "x" * 1_000_000


@pytest.mark.parametrize("certified", [True, False])
async def test_a_reject_is_shown_short_and_harmless_and_kept_whole(
    agent, replica, canister, certified
):
    async def loud(ask):
        if not certified:
            body = {"status": "rejected", "reject_code": 5, "reject_message": LOUD}
            return wire.encode({**body, "error_code": LOUD})
        ask.replica.statuses[ask.id] = {
            b"status": b"rejected",
            b"reject_code": b"\5",
            b"reject_message": LOUD.encode(),
            b"error_code": LOUD.encode(),
        }
        return answered(ask.replica.certify([(b"request_status", ask.id)]))

    replica.lie("call", loud)
    with pytest.raises(CallRejectedError, match="evil") as caught:
        await agent.update(canister, "greet")
    error = caught.value
    assert (error.reject_message, error.error_code, error.certified) == (LOUD, LOUD, certified)
    assert len(str(error)) < 3_000
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "code", [2**20_000, -1, 2**64, "4", None, True], ids=lambda code: type(code).__name__
)
async def test_a_node_s_reject_without_a_proper_code_is_no_reject(agent, replica, canister, code):
    async def odd(_):
        body = {"status": "rejected", "reject_message": "no", "reject_code": code}
        return wire.encode(body)

    replica.lie("call", odd)
    assert await agent.update(canister, "greet") == REPLY


async def test_what_http_says_is_shown_short_and_harmless(agent, replica, canister):
    async def loud(_):
        return web.Response(status=400, text=LOUD)

    async def long_header(ask):
        ask.http.transport.write(b"HTTP/1.1 200 OK\r\nX-Evil: \x1b[31m" + b"x" * 100_000)

    for lie in (loud, long_header):
        replica.lie("query", lie, forever=True)
        with pytest.raises(TransportError) as caught:
            await agent.query(canister, "peek")
        assert len(str(caught.value)) < 1_000
        assert str(caught.value).replace("\n", "").isprintable()
