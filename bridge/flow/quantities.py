"""Durations and sizes as people write them in configuration: ``"330 s"``, ``"1.9 MB"``."""

import re
from decimal import Decimal
from typing import Final

from bridge.errors import PolicyError

_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_BYTES: Final = {
    "B": 1,
    "kB": 1_000,
    "KB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_QUANTITY: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-z]+)", re.ASCII)


def _parse(value: object, units: dict[str, int], of: str, example: str) -> int:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise PolicyError(
            f"{of} is {value!r}, which cannot be read",
            hint=f'write it as in "{example}"; the units are ' + ", ".join(units),
        )
    amount = Decimal(match[1]) * units[match[2]]
    if amount != int(amount):
        raise PolicyError(f"{of} is {value!r}, which is not a whole number of {next(iter(units))}")
    return int(amount)


def parse_duration(value: object, *, of: str) -> int:
    """Nanoseconds from text such as ``"330 s"`` (units ns, us, ms, s, min, h, d).

    Args:
        value: The text. A bare number is refused, for its unit would be a guess.
        of: Name of the setting, for the error.

    Raises:
        PolicyError: If it cannot be read.
    """
    return _parse(value, _NANOSECONDS, of, "330 s")


def parse_size(value: object, *, of: str) -> int:
    """Bytes from a whole number, or from text such as ``"8 KiB"`` (units B to GB and KiB to GiB).

    Args:
        value: The number or text.
        of: Name of the setting, for the error.

    Raises:
        PolicyError: If it cannot be read.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return _parse(value, _BYTES, of, "8 KiB")
