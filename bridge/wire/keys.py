"""Keys that sign requests and responses: DER in and out, signatures of four schemes.

Rule implemented: interface specification, section Signatures. Plain schemes live here: Ed25519,
and ECDSA with SHA-256 on secp256k1 and P-256, whose signatures are 64 bytes (``r`` and ``s``,
big-endian). ``signature`` has those that need more than a key to check. Nothing here reads files:
identities do.
"""

from functools import lru_cache
from typing import Final, Protocol, Self, TypeAlias, final, runtime_checkable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from bridge.errors import IdentityError, SignatureError

_SIGNATURE_SIZE: Final = 64
_SECP256K1_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_CURVES: Final = ("secp256k1", "secp256r1")

PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


@runtime_checkable
class SigningKey(Protocol):
    """What can sign: a key in memory, or a stand-in for one that is kept elsewhere."""

    @property
    def public_key_der(self) -> bytes:
        """The public key in DER form."""

    def sign(self, message: bytes) -> bytes:
        """Sign a message; the signature has the scheme's form on the IC."""


def _public_der(key: PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@final
class Ed25519Key:
    """An Ed25519 private key.

    Args:
        key: The key of ``cryptography``.
    """

    __slots__ = ("_der", "_key")

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._key = key
        self._der = _public_der(key.public_key())

    @classmethod
    def generate(cls) -> Self:
        """Make a random key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Take the 32 bytes of a private key.

        Raises:
            ValueError: If there are more or fewer.
        """
        return cls(ed25519.Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def private_key(self) -> ed25519.Ed25519PrivateKey:
        """The key of ``cryptography``."""
        return self._key

    @property
    def public_key_der(self) -> bytes:
        """The public key in DER form, 44 bytes."""
        return self._der

    def sign(self, message: bytes) -> bytes:
        """Sign; 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"Ed25519Key(public_key={self._der[-32:].hex()})"


@final
class ECDSAKey:
    """A private key on secp256k1 or P-256.

    Args:
        key: The key of ``cryptography``.

    Raises:
        IdentityError: If it is on another curve.
    """

    __slots__ = ("_der", "_key")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        if key.curve.name not in _CURVES:
            raise IdentityError(
                f"the IC takes keys on secp256k1 and P-256, not on {key.curve.name}",
                hint="make a key on one of these, or an Ed25519 key",
            )
        self._key = key
        self._der = _public_der(key.public_key())

    @classmethod
    def generate(cls, curve: ec.EllipticCurve) -> Self:
        """Make a random key on ``ec.SECP256K1()`` or ``ec.SECP256R1()``."""
        return cls(ec.generate_private_key(curve))

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The key of ``cryptography``."""
        return self._key

    @property
    def public_key_der(self) -> bytes:
        """The public key in DER form: 88 bytes on secp256k1, 91 on P-256."""
        return self._der

    def sign(self, message: bytes) -> bytes:
        """Sign; 64 bytes."""
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        if self._key.curve.name == "secp256k1":
            s = min(s, _SECP256K1_ORDER - s)  # libraries of this curve refuse the other half
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"ECDSAKey({self._key.curve.name}, public_key={self._der[-32:].hex()})"


@lru_cache(maxsize=1024)
def load_public_key(der: bytes) -> PublicKey:
    """Parse a DER-encoded public key of a plain scheme.

    Raises:
        SignatureError: If the bytes are no key, or a key of a scheme that the IC does not take.
    """
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise SignatureError(
            f"{len(der)} bytes are not a DER-encoded public key: {cause}"
        ) from None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    raise SignatureError(
        f"a {type(key).__name__} is no key that the IC takes",
        hint="use Ed25519, secp256k1 or P-256",
    )


def verify_signature(public_key_der: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature of a plain scheme.

    Raises:
        SignatureError: If the key cannot be used, or the signature is not this key's.
    """
    key = load_public_key(public_key_der)
    if len(signature) != _SIGNATURE_SIZE:
        raise SignatureError(f"a signature has 64 bytes, not {len(signature)}")
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            pair = encode_dss_signature(
                int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            )
            key.verify(pair, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureError("the signature is not this key's signature of the message") from None
