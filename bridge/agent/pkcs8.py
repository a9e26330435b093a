"""PKCS #8 private keys in the form with the public key beside it, encrypted or not.

The IC's own tools write Ed25519 keys as version 2 of PKCS #8 (RFC 5958), which ``cryptography``
does not read. This module takes such a key apart, after decrypting it (RFC 8018, PBES2 with scrypt
or PBKDF2 and AES-CBC) where it is encrypted. It knows no files and no PEM.
"""

import hashlib
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_INTEGER, _OCTETS, _OID, _SEQUENCE = 0x02, 0x04, 0x06, 0x30

_ED25519: Final = bytes.fromhex("2b6570")
_PBES2: Final = bytes.fromhex("2a864886f70d01050d")
_SCRYPT: Final = bytes.fromhex("2b06010401da47040b")
_PBKDF2: Final = bytes.fromhex("2a864886f70d01050c")
_HASHES: Final = {
    bytes.fromhex("2a864886f70d0207"): "sha1",
    bytes.fromhex("2a864886f70d0209"): "sha256",
    bytes.fromhex("2a864886f70d020b"): "sha512",
}
_AES_CBC: Final = {
    bytes.fromhex("60864801650304012a"): 32,
    bytes.fromhex("608648016503040116"): 24,
    bytes.fromhex("608648016503040102"): 16,
}
_SCRYPT_MEMORY: Final = 256 * 1024 * 1024
_MAX_ITERATIONS: Final = 10_000_000


class _Element(NamedTuple):
    tag: int
    content: bytes


def _elements(data: bytes) -> list[_Element]:
    """The DER elements that a byte string consists of."""
    found: list[_Element] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("a DER element is cut off")
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or at + size > len(data):
                raise ValueError("a DER length is malformed")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("a DER element is cut off")
        found.append(_Element(tag, data[at : at + length]))
        at += length
    return found


def _expect(element: _Element, tag: int) -> bytes:
    if element.tag != tag:
        raise ValueError(f"a DER element has tag {element.tag:#x} instead of {tag:#x}")
    return element.content


def _sequence(element: _Element, least: int) -> list[_Element]:
    inner = _elements(_expect(element, _SEQUENCE))
    if len(inner) < least:
        raise ValueError("a DER sequence is too short")
    return inner


def _only(data: bytes) -> _Element:
    elements = _elements(data)
    if len(elements) != 1:
        raise ValueError("expected one DER element")
    return elements[0]


def ed25519_seed(der: bytes) -> bytes | None:
    """The 32 bytes of an Ed25519 private key in PKCS #8, of either version.

    Returns:
        ``None`` if the key is of another algorithm.

    Raises:
        ValueError: If the bytes are not PKCS #8.
    """
    version, algorithm, key, *_ = _sequence(_only(der), 3)
    _expect(version, _INTEGER)
    if _expect(_sequence(algorithm, 1)[0], _OID) != _ED25519:
        return None
    seed = _expect(_only(_expect(key, _OCTETS)), _OCTETS)
    if len(seed) != 32:
        raise ValueError("an Ed25519 private key has 32 bytes")
    return seed


def decrypt(der: bytes, password: bytes) -> bytes:
    """Decrypt an EncryptedPrivateKeyInfo to the PKCS #8 key in it.

    Raises:
        ValueError: If the bytes are something else, the scheme is not PBES2 with scrypt or PBKDF2
            and AES-CBC, its cost is out of bounds, or the password is wrong.
    """
    algorithm, encrypted, *_ = _sequence(_only(der), 2)
    scheme, parameters, *_ = _sequence(algorithm, 2)
    if _expect(scheme, _OID) != _PBES2:
        raise ValueError("the encryption is not PBES2")
    derivation, encryption, *_ = _sequence(parameters, 2)
    cipher, vector, *_ = _sequence(encryption, 2)
    size = _AES_CBC.get(_expect(cipher, _OID))
    if size is None:
        raise ValueError("the cipher is not AES-CBC")
    function, costs, *_ = _sequence(derivation, 2)
    key = _derive(function, costs, password, size)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(_expect(vector, _OCTETS))).decryptor()
    padded = decryptor.update(_expect(encrypted, _OCTETS)) + decryptor.finalize()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(padded) + unpadder.finalize()


def _derive(function: _Element, parameters: _Element, password: bytes, size: int) -> bytes:
    name = _expect(function, _OID)
    salt, *rest = _sequence(parameters, 2)
    numbers = [int.from_bytes(each.content, "big") for each in rest if each.tag == _INTEGER]
    if name == _SCRYPT and len(numbers) >= 3:
        cost, block, parallel = numbers[:3]
        return hashlib.scrypt(
            password,
            salt=_expect(salt, _OCTETS),
            n=cost,
            r=block,
            p=parallel,
            maxmem=_SCRYPT_MEMORY,
            dklen=size,
        )
    if name == _PBKDF2 and 1 <= numbers[0] <= _MAX_ITERATIONS:
        digest = "sha1"  # what the standard makes the default
        if rest[-1].tag == _SEQUENCE:
            digest = _HASHES.get(_expect(_sequence(rest[-1], 1)[0], _OID), "")
        if digest:
            return hashlib.pbkdf2_hmac(
                digest, password, _expect(salt, _OCTETS), numbers[0], dklen=size
            )
    raise ValueError("the key derivation is not scrypt or PBKDF2 within bounds")
