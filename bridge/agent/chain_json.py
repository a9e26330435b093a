"""Chains of delegations as JSON, in the form that the IC's tools and JavaScript agents exchange.

Bytes are hexadecimal, the expiration is hexadecimal nanoseconds. Nothing in it is secret.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bridge.errors import BridgeError, IdentityError
from bridge.wire import SignedDelegation


def chain_to_json(sender_public_key: bytes, chain: Iterable[SignedDelegation]) -> str:
    """Write a chain.

    Args:
        sender_public_key: The key that it starts at, in DER form.
        chain: The delegations, in order.
    """
    return json.dumps(
        {
            "publicKey": sender_public_key.hex(),
            "delegations": [_to_json(link) for link in chain],
        },
        indent=2,
    )


def _to_json(link: SignedDelegation) -> dict[str, Any]:
    delegation = link.delegation
    inner: dict[str, Any] = {
        "pubkey": delegation.public_key.hex(),
        "expiration": f"{delegation.expiration:x}",
    }
    if delegation.targets is not None:
        inner["targets"] = [target.raw.hex() for target in delegation.targets]
    if delegation.permissions is not None:
        inner["permissions"] = delegation.permissions
    return {"delegation": inner, "signature": link.signature.hex()}


def chain_from_json(text: str | bytes) -> tuple[bytes, tuple[SignedDelegation, ...]]:
    """Read a chain: the key that it starts at, and the delegations.

    Raises:
        IdentityError: If the text is no such chain.
    """
    try:
        raw = json.loads(text)
        links = tuple(_from_json(item) for item in raw["delegations"])
        return bytes.fromhex(raw["publicKey"]), links
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BridgeError) as cause:
        raise IdentityError(
            f"this is not a chain of delegations: {cause}",
            hint='expected JSON with "publicKey" and "delegations"',
        ) from None


def _from_json(item: Mapping[str, Any]) -> SignedDelegation:
    inner = item["delegation"]
    raw: dict[str, Any] = {
        "pubkey": bytes.fromhex(inner["pubkey"]),
        "expiration": int(inner["expiration"], 16),
        "permissions": inner.get("permissions"),
    }
    if inner.get("targets") is not None:
        raw["targets"] = [bytes.fromhex(target) for target in inner["targets"]]
    return SignedDelegation.from_raw(
        {"delegation": raw, "signature": bytes.fromhex(item["signature"])}
    )
