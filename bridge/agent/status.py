"""What a replica says of itself; nothing of it is proved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from bridge.errors import TransportError
from bridge.wire import decode_map


@dataclass(frozen=True, slots=True)
class Status:
    """A replica's answer to a request for its status.

    Args:
        root_key: The root key in DER form; to be believed only from a replica of one's own.
        impl_version: The implementation's version, where told.
        health: Such as ``healthy``, where told.
        raw: All that was told.
    """

    root_key: bytes | None
    impl_version: str | None
    health: str | None
    raw: Mapping[str, Any]

    @classmethod
    def from_cbor(cls, data: bytes) -> Self:
        """Read an answer.

        Raises:
            TransportError: If it is no status.
        """
        raw = decode_map(data, "the replica's status", TransportError)
        root_key, version = raw.get("root_key"), raw.get("impl_version")
        health = raw.get("replica_health_status")
        return cls(
            root_key if isinstance(root_key, bytes) else None,
            version if isinstance(version, str) else None,
            health if isinstance(health, str) else None,
            raw,
        )
