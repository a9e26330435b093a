"""Principals: the names of canisters and users on the Internet Computer.

Rule implemented: interface specification, section Principals (binary form of at most 29 bytes, the
last byte naming the class; textual form: CRC-32, Base32, groups of five).
"""

import base64
import hashlib
import zlib
from typing import Final, Self, final

from bridge.errors import PrincipalError

_MAX_LENGTH: Final = 29
_LONGEST_TEXT: Final = 63
_OPAQUE: Final = 0x01
_SELF_AUTHENTICATING: Final = 0x02
_ANONYMOUS: Final = b"\x04"


@final
class Principal:
    """An immutable principal; equal and ordered by its bytes.

    Args:
        raw: 0 to 29 bytes.

    Raises:
        PrincipalError: If ``raw`` is longer than 29 bytes.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) > _MAX_LENGTH:
            raise PrincipalError(f"a principal has at most 29 bytes, not {len(raw)}")
        self._raw = bytes(raw)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the textual form, such as ``rrkah-fqaaa-aaaaa-aaaaq-cai``.

        Raises:
            PrincipalError: If the text is not the one canonical form of a principal.
        """
        told = repr(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "...")
        if text != (bare := text.strip()) and bare:
            raise PrincipalError(
                f"{told} is not a principal: there is white space or a line break around it",
                hint="strip it, as text that was read from a file: text.strip()",
            )
        compact = text.replace("-", "").upper()
        try:
            data = base64.b32decode(compact + "=" * (-len(compact) % 8))
        except ValueError:
            raise PrincipalError(
                f"{told} is not a principal: it has a character outside a-z, 2-7 and '-'",
                hint="copy the whole id, such as rrkah-fqaaa-aaaaa-aaaaq-cai",
            ) from None
        raw = data[4:]
        if len(data) < 4 or zlib.crc32(raw).to_bytes(4, "big") != data[:4]:
            raise PrincipalError(
                f"{told} is not a principal: its checksum does not match",
                hint="a character was lost or changed; copy the whole id again",
            )
        principal = cls(raw)
        if str(principal) != text:
            raise PrincipalError(f"{told} is not canonical; expected {str(principal)!r}")
        return principal

    @classmethod
    def anonymous(cls) -> Self:
        """The principal of a caller that does not sign."""
        return cls(_ANONYMOUS)

    @classmethod
    def management(cls) -> Self:
        """The management canister, ``aaaaa-aa``."""
        return cls(b"")

    @classmethod
    def self_authenticating(cls, public_key_der: bytes) -> Self:
        """The principal of the holder of a DER-encoded public key."""
        return cls(hashlib.sha224(public_key_der).digest() + bytes([_SELF_AUTHENTICATING]))

    @property
    def raw(self) -> bytes:
        """The binary form."""
        return self._raw

    @property
    def is_anonymous(self) -> bool:
        """Whether this is the anonymous principal."""
        return self._raw == _ANONYMOUS

    @property
    def is_canister(self) -> bool:
        """Whether the class is opaque, which is what canisters have."""
        return len(self._raw) > 1 and self._raw[-1] == _OPAQUE

    @property
    def is_self_authenticating(self) -> bool:
        """Whether the principal is derived from a public key."""
        return len(self._raw) == _MAX_LENGTH and self._raw[-1] == _SELF_AUTHENTICATING

    def __str__(self) -> str:
        checked = zlib.crc32(self._raw).to_bytes(4, "big") + self._raw
        text = base64.b32encode(checked).decode().rstrip("=").lower()
        return "-".join(text[i : i + 5] for i in range(0, len(text), 5))

    def __repr__(self) -> str:
        return f"Principal({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Principal) and self._raw == other._raw

    def __lt__(self, other: object) -> bool:
        return self._raw < other._raw if isinstance(other, Principal) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._raw)
