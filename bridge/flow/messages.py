"""The three messages of Async Flow and the hash that compares payloads.

Rule implemented: the protocol page, sections Terms and Messages. Knows no dialect: how a message is
spoken as a call is the business of ``bridge.dialects``.
"""

import zlib
from dataclasses import dataclass
from typing import Final

MAX_MSG_ID: Final = (1 << 128) - 1


@dataclass(frozen=True, slots=True)
class New:
    """NEW, sender to receiver: please process this.

    Args:
        msg_id: The sender's id of the flow, ``0 <= msg_id < 2**128`` where well-formed.
        payload: Opaque bytes.
    """

    msg_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """ACK, receiver to sender: it was processed; this is the response.

    Args:
        msg_id: The id of the flow.
        payload: The response, or None for a null response.
        hash: ``payload_hash`` of the NEW payload that was processed; None if not carried.
    """

    msg_id: int
    payload: bytes | None
    hash: int | None = None


@dataclass(frozen=True, slots=True)
class Fin:
    """FIN, sender to receiver: the response is stored here, or is not wanted any more.

    Args:
        msg_id: The id of the flow.
        hash: ``payload_hash`` of the response that was accepted; None if none was.
    """

    msg_id: int
    hash: int | None = None


Message = New | Ack | Fin


def kind_of(message: Message) -> str:
    """``"NEW"``, ``"ACK"`` or ``"FIN"``."""
    return type(message).__name__.upper()


def payload_hash(payload: bytes | None) -> int:
    """CRC-32 (IEEE) of a payload; null equals empty, and both give 0.

    It detects damage; it authenticates nothing.
    """
    return zlib.crc32(payload) if payload else 0


def is_well_formed(message: Message, *, max_payload: int, max_response: int) -> bool:
    """Whether the id and the size are within the protocol's bounds (sizes in bytes)."""
    if not 0 <= message.msg_id <= MAX_MSG_ID:
        return False
    if isinstance(message, New):
        return len(message.payload) <= max_payload
    if isinstance(message, Ack):
        return message.payload is None or len(message.payload) <= max_response
    return True
