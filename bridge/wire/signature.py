"""Signatures by whatever kind of key a sender may have: plain, a canister's, a web authenticator's.

Rules implemented: interface specification, sections Canister signatures and Web Authentication.
Dispatches on the key's algorithm in its DER form; plain keys are ``keys``'s.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from bridge.errors import CertificateError, SignatureError
from bridge.principal import Principal
from bridge.wire import _cbor, hashtree
from bridge.wire.certificate import Certificate
from bridge.wire.keys import verify_signature

_COSE_OID: Final = bytes.fromhex("300c060a2b0601040183b8430101")
_MAX_RSA: Final = 1024  # bytes of a modulus: larger ones would make checking them slow
_CANISTER_OID: Final = bytes.fromhex("300c060a2b0601040183b8430102")


def verify(
    public_key_der: bytes,
    message: bytes,
    signature: bytes,
    *,
    now: int,
    root_key: bytes | None = None,
) -> None:
    """Check a signature by a key of any kind that the IC takes.

    Args:
        public_key_der: The key.
        message: The payload, domain separator included.
        signature: In the scheme's form.
        now: The present in nanoseconds since 1970; reserved for schemes whose proofs age.
        root_key: The root of trust in DER form, for signatures of canisters.

    Raises:
        SignatureError: If the signature is not this key's, or the key cannot be used.
    """
    body = _wrapped(public_key_der, _CANISTER_OID)
    if body is not None:
        _verify_canister(body, message, signature, now=now, root_key=root_key)
        return
    body = _wrapped(public_key_der, _COSE_OID)
    if body is not None:
        _verify_web_authn(body, message, signature)
        return
    verify_signature(public_key_der, message, signature)


def _der_length(data: bytes, at: int) -> tuple[int, int]:
    """The length that starts at an offset, and the offset after it."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    count = first & 0x7F
    if not 1 <= count <= 2:
        raise IndexError
    return int.from_bytes(data[at + 1 : at + 1 + count], "big"), at + 1 + count


def _wrapped(der: bytes, oid: bytes) -> bytes | None:
    """The bit string of a SubjectPublicKeyInfo with this algorithm; ``None`` for another one."""
    try:
        if der[0] != 0x30:
            return None
        length, at = _der_length(der, 1)
        if length != len(der) - at or not der.startswith(oid, at):
            return None
        at += len(oid)
        if der[at] != 0x03:
            return None
        length, at = _der_length(der, at + 1)
        if length != len(der) - at or der[at] != 0:
            return None
        return der[at + 1 :]
    except IndexError:
        return None


def canister_signer(public_key_der: bytes) -> Principal | None:
    """The signing canister in a canister signature key; ``None`` for keys of other kinds."""
    body = _wrapped(public_key_der, _CANISTER_OID)
    if not body or len(body) < 1 + body[0] or body[0] > 29:
        return None
    return Principal(body[1 : 1 + body[0]])


def _verify_canister(
    body: bytes, message: bytes, signature: bytes, *, now: int, root_key: bytes | None
) -> None:
    if root_key is None:
        raise SignatureError("a canister's signature cannot be checked without a root key")
    if not body or len(body) < 1 + body[0] or body[0] > 29:
        raise SignatureError("a canister signature key has a canister id and a seed")
    canister_id = Principal(body[1 : 1 + body[0]])
    seed = body[1 + body[0] :]
    raw = _cbor.decode_map(signature, "a canister's signature", SignatureError)
    data = raw.get("certificate")
    if not isinstance(data, bytes) or "tree" not in raw:
        raise SignatureError("a canister's signature has a certificate and a tree")
    try:
        tree = hashtree.from_raw(raw["tree"], size=len(signature))
        certificate = Certificate.from_cbor(data)
        # Such signatures serve as long-lived delegations, so the certificate may be of any age.
        certificate.verify(root_key, canister_id, now=now, max_age=None, max_delegation_age=None)
        certified = certificate.value((b"canister", canister_id.raw, b"certified_data"))
    except CertificateError as cause:
        raise SignatureError(f"a canister's signature does not hold: {cause.message}") from None
    if certified != tree.digest():
        raise SignatureError(f"canister {canister_id} has not certified this signature")
    found = hashtree.lookup(tree, (b"sig", sha256(seed).digest(), sha256(message).digest()))
    if found != hashtree.Found(b""):
        raise SignatureError(f"canister {canister_id} has not signed this message")


def _verify_web_authn(cose: bytes, message: bytes, signature: bytes) -> None:
    raw = _cbor.decode_map(signature, "a web authenticator's signature", SignatureError)
    data, client, inner = (
        raw.get("authenticator_data"),
        raw.get("client_data_json"),
        raw.get("signature"),
    )
    if not isinstance(data, bytes) or not isinstance(client, str) or not isinstance(inner, bytes):
        raise SignatureError(
            "a web authenticator's signature has authenticator_data, client_data_json and signature"
        )
    if _challenge(client) != message:
        raise SignatureError("the web authenticator has signed another challenge")
    signed = data + sha256(client.encode()).digest()
    key = _cbor.decode_map(cose, "a COSE key", SignatureError)
    try:
        _verify_cose(key, signed, inner)
    except InvalidSignature:
        raise SignatureError("the signature is not this web authenticator's") from None
    except (ValueError, TypeError, KeyError) as cause:
        raise SignatureError(f"a COSE key cannot be used: {cause!r}") from None


def _challenge(client_data_json: str) -> bytes | None:
    try:
        client = json.loads(client_data_json)
        challenge = client["challenge"]
        return base64.urlsafe_b64decode(challenge + "=" * (-len(challenge) % 4))
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return None


def _verify_cose(key: Mapping[Any, Any], signed: bytes, signature: bytes) -> None:
    match (key[1], key[3]):
        case (2, -7) if key[-1] == 1:
            numbers = ec.EllipticCurvePublicNumbers(
                int.from_bytes(key[-2], "big"), int.from_bytes(key[-3], "big"), ec.SECP256R1()
            )
            numbers.public_key().verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        case (1, -8) if key[-1] == 6:
            ed25519.Ed25519PublicKey.from_public_bytes(key[-2]).verify(signature, signed)
        case (3, -257) if len(key[-1]) <= _MAX_RSA and len(key[-2]) <= 8:
            rsa.RSAPublicNumbers(
                int.from_bytes(key[-2], "big"), int.from_bytes(key[-1], "big")
            ).public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        case (kind, algorithm):
            raise SignatureError(
                f"a web authenticator's key of type {_cbor.shown(kind)} and algorithm "
                f"{_cbor.shown(algorithm)} is not taken"
            )
