"""Keys of flows as bytes that sort: the order of pages is the order of these bytes.

A sender's flow is found by its id alone, a receiver's by peer and id, so the peer stands in the key
of the second only.
"""

from typing import Final

from bridge.errors import StoreError
from bridge.flow import Flow, Role, SenderFlow
from bridge.principal import Principal

_ID_BYTES: Final = 16
_ROLE_BYTE: Final = {Role.SENDER: b"s", Role.RECEIVER: b"r"}


def sender_key(msg_id: int) -> bytes:
    """The key of a flow that we opened."""
    return b"s" + msg_id.to_bytes(_ID_BYTES, "big")


def receiver_key(peer: Principal, msg_id: int) -> bytes:
    """The key of a flow that a peer opened."""
    raw = peer.raw
    return b"r" + bytes([len(raw)]) + raw + msg_id.to_bytes(_ID_BYTES, "big")


def key_of(record: Flow) -> bytes:
    """The key of a record."""
    if isinstance(record, SenderFlow):
        return sender_key(record.msg_id)
    return receiver_key(record.peer, record.msg_id)


def role_prefix(role: Role) -> bytes:
    """What every key of that side begins with."""
    return _ROLE_BYTE[role]


def check_cursor(after: bytes | None) -> bytes:
    """A page's cursor as a key to begin behind; empty at the start.

    Raises:
        StoreError: If it is no such key.
    """
    if after is None:
        return b""
    if after[:1] not in (b"s", b"r") or not _ID_BYTES < len(after) <= 2 + 29 + _ID_BYTES:
        raise StoreError(
            "the cursor is not one that a page of flows named",
            hint="begin without a cursor, and pass on what each page returns",
        )
    return after
