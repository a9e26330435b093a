"""Certificates that a node could make up, keep back or borrow: none is believed."""

import asyncio
import random
import time

import cbor2
import pytest
from replica_lies import accepted, answered

from bridge import wire
from bridge.agent import Identity
from bridge.errors import (
    CallRejectedError,
    CertificateError,
    TransportError,
    TrustError,
)
from bridge.principal import Principal
from bridge.wire import bls, hashtree, leb128

SECOND = 1_000_000_000
REPLY = b"DIDL\0\0reply"
IMPOSTOR = bls.SecretKey.generate(b"impostor")


def status_path(ask):
    """What is asked for: of a call its status, of a state read its paths."""
    content = ask.envelope.content
    if content["request_type"] == "call":
        ask.replica.take(ask.id, content["method_name"])
        return [(b"request_status", ask.id)]
    return content["paths"]


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


async def test_another_subnet_s_state_is_not_taken_for_the_one_that_was_asked(agent, replica):
    other = Principal.self_authenticating(IMPOSTOR.public_key_der)
    await agent.read_subnet_state(replica.subnet_id, [(b"time",)])
    with pytest.raises(CertificateError, match="is of subnet"):
        await agent.read_subnet_state(other, [(b"time",)])


@pytest.mark.parametrize("kind", ["call", "read_state"])
async def test_ranges_in_the_old_layout_are_not_taken_where_the_new_one_is_due(
    agent, replica, canister, kind
):
    """Unsharded ranges do not follow canisters that have moved."""
    replica.flat_ranges = True
    with pytest.raises(CertificateError, match="may not speak of canister"):
        await (agent.update(canister, "greet") if kind == "call" else agent.time(canister))
    replica.missing_versions = {"v3", "v4"}
    assert await agent.update(canister, "greet") == REPLY


async def test_old_ignorance_of_a_call_is_not_taken_for_the_present(agent, replica, canister):
    async def old_ignorance(ask):
        time_ns = ask.replica.now - 400 * SECOND
        return answered(ask.replica.certify(ask.envelope.content["paths"], time_ns=time_ns))

    replica.lie("call", accepted, forever=True)
    replica.lie("read_state", old_ignorance, forever=True)
    with pytest.raises(CertificateError, match="400 s old"):
        await agent.update(canister, "greet")


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


async def test_another_subnet_s_ranges_do_not_pass_for_the_root_subnet_s(agent, replica, canister):
    replica.lie("read_state", by_the_root, None)
    with pytest.raises(CertificateError, match="root subnet answered for canister"):
        await agent.module_hash(canister)


async def test_old_ranges_of_the_root_subnet_are_not_used(connect, replica, canister):
    replica.subnet = replica.root

    async def old(ask):
        time_ns = ask.replica.now - 400 * SECOND
        return answered(ask.replica.certify(ask.envelope.content["paths"], time_ns=time_ns))

    async with connect() as agent:
        replica.lie("read_state", None, old)
        with pytest.raises(CertificateError, match="400 s old"):
            await agent.module_hash(canister)


async def test_ranges_of_the_root_subnet_are_fetched_again_after_an_hour(
    connect, replica, canister
):
    replica.subnet = replica.root
    async with connect(clock=lambda: time.time_ns() + replica.skew) as agent:
        for replica.skew, fetched in ((0, 1), (3500 * SECOND, 1), (3700 * SECOND, 2)):
            await agent.update(canister, "greet")
            assert replica.asked.count(("read_state", "v3")) == fetched


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
