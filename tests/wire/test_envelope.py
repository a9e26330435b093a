"""Envelopes: who signed a request, by which delegations, for how long."""

import itertools
import random
from dataclasses import replace

import canister_signatures
import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bridge import wire
from bridge.errors import EnvelopeError
from bridge.principal import Principal
from bridge.wire import keys

NOW = 1_700_000_000_000_000_000
MINUTE = 60 * 1_000_000_000
CANISTER = Principal(b"\0\0\0\0\0\0\0\x01\x01\x01")
OTHER = Principal(b"\0\0\0\0\0\0\0\x02\x01\x01")

KEYS = {
    "Ed25519": keys.Ed25519Key.generate,
    "secp256k1": lambda: keys.ECDSAKey.generate(ec.SECP256K1()),
    "P-256": lambda: keys.ECDSAKey.generate(ec.SECP256R1()),
}


def call(sender: Principal, **changes) -> wire.CallRequest:
    request = wire.CallRequest(sender, NOW + 4 * MINUTE, CANISTER, "greet", b"DIDL\0\0", b"nonce")
    return replace(request, **changes)


def owner(key) -> Principal:
    return Principal.self_authenticating(key.public_key_der)


def sent(envelope: wire.Envelope) -> wire.Envelope:
    return wire.Envelope.from_cbor(envelope.to_cbor())


@pytest.mark.parametrize("make", KEYS.values(), ids=KEYS)
def test_a_signed_request_comes_back_verified(make):
    key = make()
    request = call(owner(key))
    verified = wire.verify_envelope(sent(wire.Envelope.sign(request.content(), key)), now=NOW)
    assert verified.request == request
    assert verified.request_id == wire.request_id(request.content())
    assert verified.targets is None


@pytest.mark.parametrize(
    "request_",
    [
        call(Principal.anonymous()),
        wire.QueryRequest(Principal.anonymous(), 0, CANISTER, "peek", b""),
        wire.ReadStateRequest(Principal.anonymous(), 0, ((b"time",), ())),
    ],
    ids=["call", "query of any expiry", "read_state of any expiry"],
)
def test_anonymous_requests_need_no_signature(request_):
    envelope = sent(wire.Envelope.sign(request_.content(), None))
    assert wire.verify_envelope(envelope, now=NOW).request == request_


@pytest.mark.parametrize("make", KEYS.values(), ids=KEYS)
def test_a_changed_request_is_refused(make):
    key = make()
    envelope = wire.Envelope.sign(call(owner(key)).content(), key)
    changed = replace(envelope, content={**envelope.content, "method_name": "withdraw"})
    with pytest.raises(EnvelopeError, match="not signed by"):
        wire.verify_envelope(changed, now=NOW)


@pytest.mark.parametrize(
    ("offset", "message"),
    [(-1, "ingress_expiry passed"), (7 * MINUTE, "420 s ahead; at most 300 s")],
)
def test_an_expiry_out_of_the_window_is_refused(offset, message):
    key = keys.Ed25519Key.generate()
    for request in (
        call(owner(key), ingress_expiry=NOW + offset),
        wire.QueryRequest(owner(key), NOW + offset, CANISTER, "peek", b""),
        wire.ReadStateRequest(owner(key), NOW + offset, ()),
        call(Principal.anonymous(), ingress_expiry=NOW + offset),
    ):
        signer = None if request.sender.is_anonymous else key
        with pytest.raises(EnvelopeError, match=message):
            wire.verify_envelope(wire.Envelope.sign(request.content(), signer), now=NOW)


def test_a_key_must_be_the_sender_s():
    key, other = keys.Ed25519Key.generate(), keys.Ed25519Key.generate()
    envelope = wire.Envelope.sign(call(owner(other)).content(), key)
    with pytest.raises(EnvelopeError, match="its key is that of"):
        wire.verify_envelope(envelope, now=NOW)


def test_an_unsigned_request_of_a_named_sender_is_refused():
    key = keys.Ed25519Key.generate()
    with pytest.raises(EnvelopeError, match="no sender_pubkey"):
        wire.verify_envelope(wire.Envelope.sign(call(owner(key)).content(), None), now=NOW)


def test_an_anonymous_request_with_a_signature_is_refused():
    key = keys.Ed25519Key.generate()
    envelope = wire.Envelope.sign(call(Principal.anonymous()).content(), key)
    with pytest.raises(EnvelopeError, match="anonymous"):
        wire.verify_envelope(envelope, now=NOW)


def test_a_key_of_another_scheme_is_refused():
    key = keys.Ed25519Key.generate()
    junk = b"\x30\x03\x02\x01\x01"
    content = call(Principal.self_authenticating(junk)).content()
    envelope = replace(wire.Envelope.sign(content, key), sender_pubkey=junk)
    with pytest.raises(EnvelopeError, match="not a DER-encoded public key"):
        wire.verify_envelope(envelope, now=NOW)


# --- Delegations --------------------------------------------------------------------------------


def chain(*holders, expiration=NOW + MINUTE, targets=None, permissions=None):
    return [
        wire.SignedDelegation.sign(
            wire.Delegation(taker.public_key_der, expiration, targets, permissions), giver
        )
        for giver, taker in itertools.pairwise(holders)
    ]


def delegated(request, holders, links) -> wire.Envelope:
    return sent(
        wire.Envelope.sign(
            request.content(),
            holders[-1],
            delegations=links,
            sender_pubkey=holders[0].public_key_der,
        )
    )


@pytest.mark.covers("chains of delegations")
def test_a_chain_of_delegations_signs_for_its_first_key():
    holders = [make() for make in KEYS.values()]
    envelope = delegated(call(owner(holders[0])), holders, chain(*holders))
    assert wire.verify_envelope(envelope, now=NOW).request.sender == owner(holders[0])


@pytest.mark.covers("limits of delegations: targets, expiry, queries only, length")
def test_twenty_links_are_allowed_and_no_more():
    holders = [keys.Ed25519Key.generate() for _ in range(22)]
    request = call(owner(holders[0]))
    wire.verify_envelope(delegated(request, holders[:21], chain(*holders[:21])), now=NOW)
    with pytest.raises(EnvelopeError, match="chain of 21"):
        wire.verify_envelope(delegated(request, holders, chain(*holders)), now=NOW)


def test_expired_wrongly_signed_and_circular_delegations_are_refused():
    first, second, third = (keys.Ed25519Key.generate() for _ in range(3))
    request = call(owner(first))
    cases = {
        "expired": ([first, second], chain(first, second, expiration=NOW - MINUTE)),
        "not signed by its giver": ([first, second], chain(third, second)),
        "leads back": ([first, second, first], chain(first, second, first)),
        "not signed by": ([first, third], chain(first, second)),
    }
    for message, (holders, links) in cases.items():
        with pytest.raises(EnvelopeError, match=message):
            wire.verify_envelope(delegated(request, holders, links), now=NOW)


@pytest.mark.covers("limits of delegations: targets, expiry, queries only, length")
def test_targets_are_the_intersection_of_all_links():
    holders = [keys.Ed25519Key.generate() for _ in range(3)]
    links = [
        *chain(*holders[:2], targets=(CANISTER, OTHER)),
        *chain(*holders[1:], targets=(CANISTER,)),
    ]
    request = call(owner(holders[0]))
    verified = wire.verify_envelope(delegated(request, holders, links), now=NOW)
    assert verified.targets == {CANISTER}
    elsewhere = replace(request, canister_id=OTHER)
    with pytest.raises(EnvelopeError, match="do not allow calls to"):
        wire.verify_envelope(delegated(elsewhere, holders, links), now=NOW)


@pytest.mark.covers("limits of delegations: targets, expiry, queries only, length")
def test_a_delegation_for_queries_does_not_allow_updates():
    holders = [keys.Ed25519Key.generate() for _ in range(2)]
    links = chain(*holders, permissions="queries")
    query = wire.QueryRequest(owner(holders[0]), NOW + MINUTE, CANISTER, "peek", b"")
    wire.verify_envelope(delegated(query, holders, links), now=NOW)
    with pytest.raises(EnvelopeError, match="queries only"):
        wire.verify_envelope(delegated(call(owner(holders[0])), holders, links), now=NOW)


# --- Keys that are canisters' -------------------------------------------------------------------


def canister_signed(world, seed: bytes, payload: bytes, *, canister=CANISTER) -> bytes:
    tree = canister_signatures.signed(seed, payload)
    content = {b"canister": {canister.raw: {b"certified_data": tree.digest()}}}
    certificate = world.certificate(content, key=world.subnet, delegation=world.delegation())
    return canister_signatures.signature(certificate.to_cbor(), tree)


@pytest.mark.covers("canister signatures")
def test_a_canister_may_sign_a_delegation(world):
    public_key = canister_signatures.public_key(CANISTER, b"seed")
    sender = Principal.self_authenticating(public_key)
    session = keys.Ed25519Key.generate()
    delegation = wire.Delegation(session.public_key_der, NOW + MINUTE)
    link = wire.SignedDelegation(delegation, canister_signed(world, b"seed", delegation.payload()))
    envelope = wire.Envelope.sign(
        call(sender).content(), session, delegations=[link], sender_pubkey=public_key
    )
    root_key = world.root.public_key_der
    assert wire.verify_envelope(envelope, now=NOW, root_key=root_key).request.sender == sender
    with pytest.raises(EnvelopeError, match="without a root key"):
        wire.verify_envelope(envelope, now=NOW)
    for seed, canister in ((b"other", CANISTER), (b"seed", OTHER)):
        forged = wire.SignedDelegation(
            delegation, canister_signed(world, seed, delegation.payload(), canister=canister)
        )
        with pytest.raises(EnvelopeError, match="not signed by its giver"):
            wire.verify_envelope(
                replace(envelope, sender_delegation=(forged,)), now=NOW, root_key=root_key
            )


def test_sender_info_must_be_signed_by_the_canister_of_the_sender_s_key(world):
    public_key = canister_signatures.public_key(CANISTER, b"seed")
    sender = Principal.self_authenticating(public_key)
    proof = canister_signed(world, b"seed", wire.SENDER_INFO + b"info")
    root_key = world.root.public_key_der
    for info, message in ((b"info", None), (b"else", "has not signed")):
        fields = {"info": info, "signer": CANISTER.raw, "sig": proof}
        content = call(sender, sender_info=fields).content()
        payload = wire.REQUEST + wire.request_id(content)
        envelope = wire.Envelope(content, public_key, canister_signed(world, b"seed", payload))
        if message is None:
            wire.verify_envelope(sent(envelope), now=NOW, root_key=root_key)
        else:
            with pytest.raises(EnvelopeError, match=message):
                wire.verify_envelope(sent(envelope), now=NOW, root_key=root_key)


# --- Malformed ----------------------------------------------------------------------------------

GOOD = call(Principal.anonymous()).content()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**GOOD, "request_type": "steal"}, "request_type"),
        ({**GOOD, "sender": "text"}, "sender is a text"),
        ({**GOOD, "sender": bytes(30)}, "sender is a byte string of 30"),
        ({**GOOD, "ingress_expiry": "soon"}, "ingress_expiry"),
        ({**GOOD, "ingress_expiry": 1 << 64}, "ingress_expiry"),
        ({**GOOD, "nonce": bytes(33)}, "nonce"),
        ({**GOOD, "method_name": b"bytes"}, "method_name"),
        ({**GOOD, "arg": None}, "arg is null"),
        ({**GOOD, "sender_info": {}}, "sender_info"),
        ({key: value for key, value in GOOD.items() if key != "canister_id"}, "canister_id"),
        ({**GOOD, "extra": None}, "no id"),
        ({**GOOD, "request_type": "read_state"}, "paths"),
        ({**GOOD, "request_type": "read_state", "paths": [[]] * 1001}, "1001 paths"),
        ({**GOOD, "request_type": "read_state", "paths": [[b""] * 128]}, "128 labels"),
        ({**GOOD, "request_type": "read_state", "paths": [["time"]]}, "path is"),
    ],
)
def test_malformed_requests_are_refused_by_name_of_the_field(content, message):
    envelope = wire.Envelope.from_cbor(cbor2.dumps({"content": content}))
    with pytest.raises(EnvelopeError, match=message):
        wire.verify_envelope(envelope, now=NOW)


@pytest.mark.parametrize(
    "value",
    [2**200_000, 2**20_000, "x" * 1_000_000, -(2**90_000), [1] * 9_000],
    ids=["number", "shorter number", "text", "negative", "array"],
)
@pytest.mark.parametrize("name", ["request_type", "sender", "ingress_expiry", "nonce", "paths"])
def test_large_values_are_not_quoted_back(name, value):
    content = {**GOOD, "request_type": "read_state", "paths": [], name: value}
    data = cbor2.dumps({"content": content})
    with pytest.raises(EnvelopeError) as caught:
        wire.verify_envelope(wire.Envelope.from_cbor(data), now=NOW)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not CBOR"),
        (cbor2.dumps([]), "not a CBOR map"),
        (cbor2.dumps({}), "content is null"),
        (cbor2.dumps({"content": {1: 2}}), "named fields"),
        (cbor2.dumps({"content": GOOD, "sender_sig": 1}), "sender_sig"),
        (cbor2.dumps({"content": GOOD, "sender_delegation": 1}), "sender_delegation"),
        (cbor2.dumps({"content": GOOD, "sender_delegation": [{}]}), "sender_delegation"),
        (b"\xa1\x67content\xd8\x1c\xa1\x61a\xd8\x1d\x00", "shared references"),
    ],
)
@pytest.mark.covers("refusals: malformed, forged, misaddressed requests")
def test_malformed_envelopes_are_refused(raw, message):
    with pytest.raises(EnvelopeError, match=message):
        wire.Envelope.from_cbor(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pubkey": 1}, "pubkey"),
        ({"expiration": -1}, "expiration"),
        ({"targets": [b"x" * 30]}, "targets"),
        ({"targets": [b""] * 1001}, "1001 targets"),
        ({"permissions": "everything"}, "permissions"),
    ],
)
def test_malformed_delegations_are_refused(change, message):
    inner = {"pubkey": b"key", "expiration": NOW} | change
    raw = {"content": GOOD, "sender_delegation": [{"delegation": inner, "signature": b""}]}
    with pytest.raises(EnvelopeError, match=message):
        wire.Envelope.from_cbor(cbor2.dumps(raw))


# --- Chance -------------------------------------------------------------------------------------


def many_kinds_of_envelopes(world):
    holders = [make() for make in KEYS.values()]
    public_key = canister_signatures.public_key(CANISTER, b"seed")
    sender = Principal.self_authenticating(public_key)
    delegation = wire.Delegation(holders[0].public_key_der, NOW + MINUTE, (CANISTER,), "all")
    proof = canister_signed(world, b"seed", delegation.payload())
    info = canister_signed(world, b"seed", wire.SENDER_INFO + b"info")
    fields = {"info": b"info", "signer": CANISTER.raw, "sig": info}
    return [
        wire.Envelope.sign(call(owner(holders[0])).content(), holders[0]),
        delegated(call(owner(holders[0])), holders, chain(*holders, targets=(CANISTER,))),
        wire.Envelope.sign(
            call(sender, sender_info=fields).content(),
            holders[0],
            delegations=[wire.SignedDelegation(delegation, proof)],
            sender_pubkey=public_key,
        ),
        wire.Envelope.sign(
            wire.ReadStateRequest(owner(holders[1]), NOW, ((b"time",), (b"a", b"b"))).content(),
            holders[1],
        ),
    ]


def test_no_damaged_envelope_passes_or_raises_anything_else(world):
    rng = random.Random(3)
    root_key = world.root.public_key_der
    envelopes = many_kinds_of_envelopes(world)
    for envelope in envelopes:
        wire.verify_envelope(sent(envelope), now=NOW, root_key=root_key)
    refused = 0
    for number in range(2_000):
        envelope = envelopes[number % len(envelopes)]
        data = bytearray(envelope.to_cbor())
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(3, len(data))
            match rng.randrange(3):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randint(1, 4)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 4))
        try:
            changed = wire.Envelope.from_cbor(bytes(data))
            verified = wire.verify_envelope(changed, now=NOW, root_key=root_key)
        except EnvelopeError:
            refused += 1
        else:
            assert verified.request_id == envelope.request_id
    assert refused > 1_500


@pytest.mark.parametrize(
    "value",
    [2**128, 2**20_000, -1, 1.5, {"a": {1: 2}}, [[[None]]]],
    ids=["129 bits", "20,001 bits", "negative", "float", "unnamed field", "null"],
)
def test_contents_that_have_no_hash_are_refused(value):
    envelope = wire.Envelope.from_cbor(cbor2.dumps({"content": {**GOOD, "extra": value}}))
    with pytest.raises(EnvelopeError, match="no id"):
        wire.verify_envelope(envelope, now=NOW)
