"""Unsigned LEB128, the encoding of natural numbers in request ids and in the state tree."""

from bridge.errors import CertificateError


def encode(value: int) -> bytes:
    """Encode a natural number in the shortest form.

    Raises:
        ValueError: If the number is negative or has more than 128 bits; the interface has none
            such, and encoding takes the square of the length.
    """
    if value < 0:
        raise ValueError("a negative number is not a natural number")
    if value >> 128:
        raise ValueError(f"a number of {value.bit_length()} bits is too large; 128 are taken")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes) -> int:
    """Decode a certified natural number of at most 64 bits.

    Raises:
        CertificateError: If the bytes are not exactly one such number.
    """
    value = 0
    for index, byte in enumerate(data[:10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if index + 1 != len(data) or value >> 64:
                break
            return value
    raise CertificateError(f"certified bytes {data[:12].hex()!r} are not one LEB128 number")
