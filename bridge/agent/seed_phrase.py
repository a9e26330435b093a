"""Keys from seed phrases, as the usual wallets derive them.

Rules implemented: BIP-39 (phrase to seed), SLIP-0010 (seed to keys along a path; on secp256k1 the
same as BIP-32). Coin type 223 is the Internet Computer's. The words' checksum is not checked:
phrases that other wallets accept would be refused. A wrong word gives another identity, so compare
the principal.
"""

import hashlib
import hmac
import re
import unicodedata
from typing import Final, Literal, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bridge.errors import IdentityError
from bridge.wire.keys import ECDSAKey, Ed25519Key, SigningKey

Curve: TypeAlias = Literal["secp256k1", "p256", "ed25519"]

PATHS: Final[dict[str, str]] = {
    "secp256k1": "m/44'/223'/0'/0/0",
    "p256": "m/44'/223'/0'/0/0",
    "ed25519": "m/44'/223'/0'/0'/0'",
}
"""The path that is used by default, for each curve."""

_HARDENED: Final = 1 << 31
_ROUNDS: Final = 2048
_WORD_COUNTS: Final = (12, 15, 18, 21, 24)
_MASTER: Final = {
    "secp256k1": b"Bitcoin seed",
    "p256": b"Nist256p1 seed",
    "ed25519": b"ed25519 seed",
}
_ORDERS: Final = {
    "secp256k1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}
_CURVES: Final[dict[str, ec.EllipticCurve]] = {"secp256k1": ec.SECP256K1(), "p256": ec.SECP256R1()}


def seed_of(phrase: str, passphrase: str = "") -> bytes:
    """The 64 bytes that a phrase stands for.

    Raises:
        IdentityError: If the phrase does not have 12, 15, 18, 21 or 24 words.
    """
    words = unicodedata.normalize("NFKD", phrase).split()
    if len(words) not in _WORD_COUNTS:
        raise IdentityError(
            f"a seed phrase has 12, 15, 18, 21 or 24 words, not {len(words)}",
            hint="copy the whole phrase, with one space between words",
        )
    salt = "mnemonic" + unicodedata.normalize("NFKD", passphrase)
    return hashlib.pbkdf2_hmac("sha512", " ".join(words).encode(), salt.encode(), _ROUNDS)


def derive_key(seed: bytes, curve: Curve = "secp256k1", path: str | None = None) -> SigningKey:
    """The key at a path.

    Args:
        seed: As :func:`seed_of` gives it.
        curve: The key's curve.
        path: Such as ``m/44'/223'/0'/0/0``; by default the curve's in ``PATHS``.

    Raises:
        IdentityError: If the curve is unknown, or the path is malformed or not one for the curve.
    """
    if curve not in PATHS:
        raise IdentityError(f"{curve!r} is no curve; use secp256k1, p256 or ed25519")
    scalar = _derive(seed, curve, _parse(path or PATHS[curve], curve))
    if curve == "ed25519":
        return Ed25519Key.from_seed(scalar)
    return ECDSAKey(ec.derive_private_key(int.from_bytes(scalar, "big"), _CURVES[curve]))


def _parse(path: str, curve: str) -> list[int]:
    if not re.fullmatch(r"m(/\d{1,10}['hH]?)*", path):
        raise IdentityError(f"{path!r} is not a derivation path", hint=f"such as {PATHS[curve]}")
    indices = []
    for step in path.split("/")[1:]:
        number = int(step.rstrip("'hH"))
        if number >= _HARDENED:
            raise IdentityError(f"{step} in {path!r} is out of range")
        hardened = not step[-1].isdigit()
        if curve == "ed25519" and not hardened:
            raise IdentityError(
                f"{path!r} has steps that are not hardened, which Ed25519 does not have",
                hint=f"such as {PATHS[curve]}",
            )
        indices.append(number + _HARDENED if hardened else number)
    return indices


def _derive(seed: bytes, curve: str, indices: list[int]) -> bytes:
    order = _ORDERS.get(curve)
    key, chain = _split(_MASTER[curve], seed)
    while order is not None and not 0 < int.from_bytes(key, "big") < order:
        key, chain = _split(_MASTER[curve], key + chain)
    for index in indices:
        data = b"\x00" + key if index >= _HARDENED else _public_key(key, curve)
        left, right = _split(chain, data + index.to_bytes(4, "big"))
        while order is not None:
            scalar = int.from_bytes(left, "big")
            child = (scalar + int.from_bytes(key, "big")) % order
            if scalar < order and child:
                left = child.to_bytes(32, "big")
                break
            left, right = _split(chain, b"\1" + right + index.to_bytes(4, "big"))
        key, chain = left, right
    return key


def _split(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    digest = hmac.digest(key, data, "sha512")
    return digest[:32], digest[32:]


def _public_key(key: bytes, curve: str) -> bytes:
    private = ec.derive_private_key(int.from_bytes(key, "big"), _CURVES[curve])
    return private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
