"""Signatures of every scheme that the IC takes, and of none that it does not."""

import base64
import json
from hashlib import sha256

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from bridge import wire
from bridge.errors import IdentityError, QuerySignatureError, SignatureError
from bridge.principal import Principal
from bridge.wire import keys, signature

NODE = Principal(b"\1" * 28 + b"\2")
REQUEST_ID = bytes(range(32))
REPLIED = {"status": "replied", "reply": {"arg": b"DIDL\0\0"}}
REJECTED = {"status": "rejected", "reject_code": 4, "reject_message": "no", "error_code": "IC0406"}


@pytest.mark.parametrize("response", [REPLIED, REJECTED], ids=["replied", "rejected"])
def test_a_node_s_signature_holds_for_its_answer_query_and_time(response):
    key = keys.Ed25519Key.generate()
    made = wire.sign_query_response(
        response, request_id=REQUEST_ID, timestamp=7, node_id=NODE, key=key
    )
    node = wire.NodeSignature.from_raw(cbor2.loads(cbor2.dumps(made.to_raw())))
    assert node == made
    node.verify(key.public_key_der, {**response, "signatures": []}, REQUEST_ID)
    other = keys.Ed25519Key.generate().public_key_der
    later = wire.NodeSignature(node.identity, 8, node.signature)
    for signed, public_key, answer, request_id in (
        (node, other, response, REQUEST_ID),
        (node, key.public_key_der, response, bytes(32)),
        (later, key.public_key_der, response, REQUEST_ID),
        (node, key.public_key_der, {**response, "status": "else"}, REQUEST_ID),
        (node, key.public_key_der, {"status": "replied", "reply": {"arg": b""}}, REQUEST_ID),
    ):
        with pytest.raises(QuerySignatureError):
            signed.verify(public_key, answer, request_id)


def test_a_rejection_may_have_no_error_code():
    key = keys.Ed25519Key.generate()
    bare = {name: value for name, value in REJECTED.items() if name != "error_code"}
    node = wire.sign_query_response(bare, request_id=REQUEST_ID, timestamp=7, node_id=NODE, key=key)
    node.verify(key.public_key_der, bare, REQUEST_ID)
    with pytest.raises(QuerySignatureError, match="not what node"):
        node.verify(key.public_key_der, REJECTED, REQUEST_ID)


def test_a_node_key_must_be_ed25519():
    key = keys.ECDSAKey.generate(ec.SECP256K1())
    node = wire.sign_query_response(
        REPLIED, request_id=REQUEST_ID, timestamp=7, node_id=NODE, key=key
    )
    with pytest.raises(QuerySignatureError, match="Ed25519"):
        node.verify(key.public_key_der, REPLIED, REQUEST_ID)


@pytest.mark.parametrize(
    "raw", [None, {}, {"identity": b"", "timestamp": -1, "signature": b""}, [1], {"identity": 1}]
)
def test_malformed_node_signatures_are_refused(raw):
    with pytest.raises(QuerySignatureError, match="node signature"):
        wire.NodeSignature.from_raw(raw)


def test_keys_on_other_curves_are_refused():
    with pytest.raises(IdentityError, match="secp384r1"):
        keys.ECDSAKey.generate(ec.SECP384R1())
    other = rsa.generate_private_key(65537, 2048).public_key()
    with pytest.raises(SignatureError, match="no key that the IC takes"):
        keys.verify_signature(keys._public_der(other), b"", bytes(64))


def test_signatures_of_secp256k1_have_the_low_s():
    key = keys.ECDSAKey.generate(ec.SECP256K1())
    half = keys._SECP256K1_ORDER // 2
    for number in range(20):
        proof = key.sign(bytes([number]))
        assert int.from_bytes(proof[32:], "big") <= half
        keys.verify_signature(key.public_key_der, bytes([number]), proof)


def test_signatures_of_the_wrong_length_are_refused():
    key = keys.Ed25519Key.generate()
    with pytest.raises(SignatureError, match="64 bytes"):
        keys.verify_signature(key.public_key_der, b"m", key.sign(b"m") + b"\0")


def test_private_keys_are_not_shown():
    key = keys.Ed25519Key.from_seed(b"s" * 32)
    assert (b"s" * 32).hex() not in repr(key)
    assert "public_key" in repr(key)
    assert "public_key" in repr(keys.ECDSAKey.generate(ec.SECP256R1()))


# --- Web authenticators -------------------------------------------------------------------------


def cose_der(cose: dict) -> bytes:
    body = b"\0" + cbor2.dumps(cose)
    size = bytes([0x81, len(body)]) if len(body) < 256 else b"\x82" + len(body).to_bytes(2, "big")
    bits = b"\x03" + (bytes([len(body)]) if len(body) < 128 else size) + body
    inner = bytes.fromhex("300c060a2b0601040183b8430101") + bits
    if len(inner) < 128:
        return b"\x30" + bytes([len(inner)]) + inner
    return b"\x30\x82" + len(inner).to_bytes(2, "big") + inner


def assertion(sign, challenge: bytes) -> bytes:
    encoded = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
    client = json.dumps({"type": "webauthn.get", "challenge": encoded, "origin": "https://x"})
    data = bytes(37)
    raw = {
        "authenticator_data": data,
        "client_data_json": client,
        "signature": sign(data + sha256(client.encode()).digest()),
    }
    return b"\xd9\xd9\xf7" + cbor2.dumps(raw)


def p256():
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    cose = {
        1: 2,
        3: -7,
        -1: 1,
        -2: numbers.x.to_bytes(32, "big"),
        -3: numbers.y.to_bytes(32, "big"),
    }
    return cose, lambda data: key.sign(data, ec.ECDSA(hashes.SHA256()))


def rsa2048():
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()
    cose = {1: 3, 3: -257, -1: numbers.n.to_bytes(256, "big"), -2: numbers.e.to_bytes(3, "big")}
    return cose, lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def ed25519():
    key = keys.Ed25519Key.generate()
    return {1: 1, 3: -8, -1: 6, -2: key.public_key_der[12:]}, key.sign


@pytest.mark.parametrize("make", [p256, rsa2048, ed25519])
@pytest.mark.covers("WebAuthn")
def test_a_web_authenticator_signs_its_challenge_only(make):
    cose, sign = make()
    der = cose_der(cose)
    signature.verify(der, b"payload", assertion(sign, b"payload"), now=0)
    with pytest.raises(SignatureError, match="another challenge"):
        signature.verify(der, b"other", assertion(sign, b"payload"), now=0)
    other = cose_der(make()[0])
    with pytest.raises(SignatureError, match="not this web authenticator's"):
        signature.verify(other, b"payload", assertion(sign, b"payload"), now=0)


def test_odd_cose_keys_are_refused():
    _, sign = p256()
    for cose in ({}, {1: 2, 3: -7}, {1: 9, 3: 9}, {1: 2, 3: -7, -1: 1, -2: b"x", -3: b"y"}):
        with pytest.raises(SignatureError):
            signature.verify(cose_der(cose), b"payload", assertion(sign, b"payload"), now=0)


def test_the_specification_s_cose_key_is_recognised():
    der = bytes.fromhex(
        "305e300c060a2b0601040183b8430101034e00a5010203262001215820"
        "7ffd83632072fd1bfeaf3fbaa43146e0ef95c3f55e3994a41bbf2b5174d771da225820"
        "32497eed0a7f6f000928765b8318162cfd80a94e525a6a368c2363063d04e6ed"
    )
    _, sign = p256()
    with pytest.raises(SignatureError, match="not this web authenticator's"):
        signature.verify(der, b"payload", assertion(sign, b"payload"), now=0)
