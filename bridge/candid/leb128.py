"""LEB128, the variable-length integers of Candid's binary form, both signed and unsigned.

Numbers may be of any size, so time must stay linear in their length: long ones are regrouped from
eight-bit to seven-bit digits by a few operations on the whole number, never digit by digit. Nothing
here knows Candid's types. Overlong forms are accepted, as the specification's tests ask.
"""

import re
from collections.abc import Callable
from typing import Final

# A number below 2**14 is one lookup.
SMALL: Final = 1 << 14
UNSIGNED: Final = [bytes([n]) for n in range(128)] + [
    bytes([n & 0x7F | 0x80, n >> 7]) for n in range(128, SMALL)
]
# Two digits with more to come, by their 14 bits.
CONTINUED: Final = [bytes([n & 0x7F | 0x80, n >> 7 | 0x80]) for n in range(SMALL)]

# The signed numbers of 14 bits, by those bits.
SIGNED: Final = [
    bytes([n & 0x7F]) if n < 64 or n >= SMALL - 64 else bytes([n & 0x7F | 0x80, n >> 7])
    for n in range(SMALL)
]

_number_match: Final[Callable[..., re.Match[bytes] | None]] = re.compile(
    rb"[\x80-\xff]*+[\x00-\x7f]"
).match

# Masks that select, in a number of up to 32 digits, what each regrouping step moves.
_LANES: Final = 32


def _mask(group: int, lanes: int) -> int:
    """Every second group of ``group`` bytes, set."""
    return int.from_bytes((b"\x00" * group + b"\xff" * group) * (lanes // (2 * group)), "little")


_MORE_20: Final = int.from_bytes(b"\x80" * 20, "little")
_DIGITS_20: Final = int.from_bytes(b"\x7f" * 20, "little")
_M1: Final = _mask(1, _LANES)
_M2: Final = _mask(2, _LANES)
_M4: Final = _mask(4, _LANES)
_M8: Final = _mask(8, _LANES)
_M1_LANE: Final = _mask(1, 8).to_bytes(8, "little")
_M2_LANE: Final = _mask(2, 8).to_bytes(8, "little")
_M4_LANE: Final = _mask(4, 8).to_bytes(8, "little")


class Unterminated(Exception):  # noqa: N818 - it is a signal to the caller, who makes the error
    """The data ended inside a number."""


# For the opposite way: the upper half of each group of digits, which moves up to make room.
_UPPER_8: Final = int.from_bytes((b"\x00" * 7 + b"\xff" * 7 + b"\x00" * 2) * 2, "little")
_UPPER_4: Final = int.from_bytes(b"\x00\x00\x00\xf0\xff\xff\xff\x00" * 4, "little")
_UPPER_2: Final = int.from_bytes(b"\x00\xc0\xff\x0f" * 8, "little")
_UPPER_1: Final = int.from_bytes(b"\x80\x3f" * 16, "little")
_MORE: Final = [int.from_bytes(b"\x80" * (count - 1), "little") for count in range(1, _LANES + 1)]


def _spread(x: int, count: int) -> bytes:
    """The bytes of a number of ``count`` digits, at most 32."""
    upper = x >> 112
    if upper:
        x += (upper << 128) - (upper << 112)
    upper = x & _UPPER_8
    x += (upper << 8) - upper
    upper = x & _UPPER_4
    x += (upper << 4) - upper
    upper = x & _UPPER_2
    x += (upper << 2) - upper
    x += x & _UPPER_1
    return (x | _MORE[count - 1]).to_bytes(count, "little")


def _join_digits(digits: bytes) -> int:
    """The number whose base-128 digits are the low seven bits of ``digits``, lowest first."""
    lanes = -(-len(digits) // 8)
    x = int.from_bytes(digits, "little") & int.from_bytes(b"\x7f" * (8 * lanes), "little")
    x -= (x & int.from_bytes(_M1_LANE * lanes, "little")) >> 1
    x -= ((x & int.from_bytes(_M2_LANE * lanes, "little")) >> 2) * 3
    x -= ((x & int.from_bytes(_M4_LANE * lanes, "little")) >> 4) * 15
    packed = bytearray(x.to_bytes(8 * lanes, "little"))
    del packed[7::8]  # each lane now holds 56 bits
    return int.from_bytes(packed, "little")


def _split_digits(value: int, count: int) -> bytearray:
    """The ``count`` base-128 digits of a non-negative number, lowest first, unmarked."""
    lanes = -(-count // 8)
    packed = value.to_bytes(7 * lanes, "little")
    spread = bytearray(8 * lanes)
    for place in range(7):
        spread[place::8] = packed[place::7]
    x = int.from_bytes(spread, "little")
    # Within a lane of 56 bits, move the upper half up so that each half has its own room; repeat.
    high = int.from_bytes((b"\x00\x00\x00\xf0\xff\xff\xff\x00") * lanes, "little")
    x += (x & high) * 15
    high = int.from_bytes((b"\x00\xc0\xff\x0f") * (2 * lanes), "little")
    x += (x & high) * 3
    high = int.from_bytes((b"\x80\x3f") * (4 * lanes), "little")
    x += x & high
    return bytearray(x.to_bytes(8 * lanes, "little"))[:count]


def encode_unsigned(value: int) -> bytes:
    """LEB128 of a non-negative integer of any size."""
    if value < SMALL:
        return UNSIGNED[value]
    if value < 1 << 28:
        return CONTINUED[value & 16383] + UNSIGNED[value >> 14]
    if value < 1 << 42:
        return CONTINUED[value & 16383] + CONTINUED[value >> 14 & 16383] + UNSIGNED[value >> 28]
    count = (value.bit_length() + 6) // 7
    if count <= _LANES:
        return _spread(value, count)
    digits = _split_digits(value, count)
    marked = int.from_bytes(digits, "little") | int.from_bytes(b"\x80" * (count - 1), "little")
    return marked.to_bytes(count, "little")


def encode_signed(value: int) -> bytes:
    """Signed LEB128 of an integer of any size."""
    if -8192 <= value < 8192:
        return SIGNED[value & 16383]
    if -134217728 <= value < 134217728:
        return CONTINUED[value & 16383] + SIGNED[value >> 14 & 16383]
    # One bit more than the magnitude, for the sign.
    bits = (value if value >= 0 else ~value).bit_length() + 1
    count = -(-bits // 7)
    value &= (1 << 7 * count) - 1
    if count <= _LANES:
        return _spread(value, count)
    digits = _split_digits(value, count)
    marked = int.from_bytes(digits, "little") | int.from_bytes(b"\x80" * (count - 1), "little")
    return marked.to_bytes(count, "little")


def decode_unsigned(data: bytes, position: int) -> tuple[int, int]:
    """Read an unsigned number; returns it and the position after it.

    Raises:
        Unterminated: If the data ends before the number does.
        IndexError: The same.
    """
    # Up to four digits one by one, which is faster for these; then all at once.
    value = data[position]
    if value < 128:
        return value, position + 1
    second = data[position + 1]
    if second < 128:
        return value + (second << 7) - 0x80, position + 2
    return decode_longer(data, position)


def decode_longer(data: bytes, position: int) -> tuple[int, int]:
    """As :func:`decode_unsigned`, for a number whose first two digits have more to come."""
    third = data[position + 2]
    if third < 128:
        low = data[position] + (data[position + 1] << 7)
        return low + (third << 14) - 0x4080, position + 3
    fourth = data[position + 3]
    if fourth < 128:
        low = data[position] + (data[position + 1] << 7) + (third << 14)
        return low + (fourth << 21) - 0x204080, position + 4
    # At most twenty digits at once: the first without its high bit is the last. From eight bits
    # each to seven, neighbours join in pairs, pairs join and so on: the upper moves down.
    digits = data[position : position + 20]
    x = int.from_bytes(digits, "little")
    if ends := ~x & _MORE_20:
        end = ends & -ends
        count = end.bit_length() >> 3
        if count > len(digits):
            raise Unterminated
        x &= end - 1 & _DIGITS_20
        x -= (x & _M1) >> 1
        upper = x & _M2
        x += (upper >> 2) - upper
        upper = x & _M4
        x += (upper >> 4) - upper
        if count > 8:
            upper = x & _M8
            x += (upper >> 8) - upper
            if count > 16:
                upper = x >> 128
                x += (upper << 112) - (upper << 128)
        return x, position + count
    found = _number_match(data, position)
    if found is None:
        raise Unterminated
    return _join_digits(found[0]), found.end()


def decode_signed(data: bytes, position: int) -> tuple[int, int]:
    """Read a signed number; returns it and the position after it.

    Raises:
        Unterminated: If the data ends before the number does.
        IndexError: The same.
    """
    value = data[position]
    if value < 128:
        return value if value < 64 else value - 128, position + 1
    second = data[position + 1]
    if second < 128:
        value += (second << 7) - 0x80
        return value if second < 64 else value - 0x4000, position + 2
    value, end = decode_longer(data, position)
    if data[end - 1] & 0x40:
        value -= 1 << 7 * (end - position)
    return value, end
