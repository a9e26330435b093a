"""BLS signatures of subnets: the scheme behind every certificate.

Rules implemented: interface specification, section Certificate (suite
``BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_``: signatures in G1, 48 bytes; public keys in G2, 96
bytes) and the CFRG draft for BLS signatures it names (no identity point as a key, points checked
for the right subgroup: the library's decoding does that).
"""

from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, Self, final

import pyblst

from bridge.errors import CertificateError

SIGNATURE_SIZE: Final = 48
PUBLIC_KEY_SIZE: Final = 96
DER_PREFIX: Final = bytes.fromhex(
    "308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100"
)
"""What stands before the 96 bytes of a key in its DER form (133 bytes in all)."""

_SUITE: Final = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
_ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
_GENERATOR: Final = pyblst.BlstP2Element.uncompress(
    bytes.fromhex(
        "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d04"
        "2b7e024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8"
        "c121bdb8"
    )
)
_REMEMBERED_SIZE: Final = 128  # a subnet signs a digest; longer messages are not kept
_IDENTITY: Final = bytes([0xC0]) + bytes(PUBLIC_KEY_SIZE - 1)


def public_key_from_der(der: bytes) -> bytes:
    """Take the 96 bytes out of a DER-encoded key.

    Raises:
        CertificateError: If the bytes are not the DER form of a BLS12-381 key in G2.
    """
    if len(der) != len(DER_PREFIX) + PUBLIC_KEY_SIZE or not der.startswith(DER_PREFIX):
        raise CertificateError(
            f"a key of {len(der)} bytes is not a DER-encoded BLS12-381 key of 133 bytes",
            hint="a root key is what the replica's status shows as root_key",
        )
    return der[len(DER_PREFIX) :]


@lru_cache(maxsize=128)
def _parse_public_key(raw: bytes) -> Any:
    # Decoding and checking a key costs a tenth of a verification, and the same few keys come back.
    return pyblst.BlstP2Element.uncompress(raw)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature of 48 bytes over the message is the one of this raw key of 96 bytes.

    False for malformed keys and signatures as well. Remembered: a subnet signs once a round, and
    all calls that end in that round come back with the one signature.
    """
    # Sizes first: what is looked at is remembered, and a liar would choose how long that is.
    if len(signature) != SIGNATURE_SIZE or len(public_key) != PUBLIC_KEY_SIZE:
        return False
    if public_key == _IDENTITY:
        return False
    if len(message) > _REMEMBERED_SIZE:
        return _verify.__wrapped__(public_key, message, signature)
    return _verify(public_key, message, signature)


@lru_cache(maxsize=1024)
def _verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        key = _parse_public_key(public_key)
        point = pyblst.BlstP1Element.uncompress(signature)
    except ValueError:
        return False
    hashed = pyblst.BlstP1Element.hash_to_group(message, _SUITE)
    return bool(
        pyblst.final_verify(pyblst.miller_loop(point, _GENERATOR), pyblst.miller_loop(hashed, key))
    )


@final
class SecretKey:
    """A subnet's signing key, as the embedded replica holds one."""

    __slots__ = ("_public", "_scalar")

    def __init__(self, scalar: int) -> None:
        """Take a scalar.

        Raises:
            ValueError: If it is not in 1 .. group order - 1.
        """
        if not 0 < scalar < _ORDER:
            raise ValueError("a BLS secret key is a number from 1 to the group order less one")
        self._scalar = scalar
        self._public = bytes(_GENERATOR.scalar_mul(scalar).compress())

    @classmethod
    def generate(cls, seed: bytes) -> Self:
        """Derive a key from a seed; random bytes make a random key.

        The seed is stretched to 512 bits before it is reduced, so that the result is uniform.
        """
        wide = sha256(b"\x00" + seed).digest() + sha256(b"\x01" + seed).digest()
        return cls(int.from_bytes(wide, "big") % (_ORDER - 1) + 1)

    @property
    def public_key(self) -> bytes:
        """The raw public key, 96 bytes."""
        return self._public

    @property
    def public_key_der(self) -> bytes:
        """The public key in DER form, 133 bytes."""
        return DER_PREFIX + self._public

    def sign(self, message: bytes) -> bytes:
        """Sign; 48 bytes."""
        hashed = pyblst.BlstP1Element.hash_to_group(message, _SUITE)
        return bytes(hashed.scalar_mul(self._scalar).compress())

    def __repr__(self) -> str:
        return f"SecretKey(public_key={self._public[:8].hex()}...)"
