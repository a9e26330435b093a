"""What the system state tree tells of canisters and subnets, read out of verified certificates.

Rule implemented: interface specification, section The system state tree.
"""

from dataclasses import dataclass

from bridge.errors import CertificateError
from bridge.principal import Principal
from bridge.wire import Certificate
from bridge.wire import _cbor as cbor


@dataclass(frozen=True, slots=True)
class CanisterFacts:
    """A canister, as certified.

    Args:
        canister_id: The canister.
        module_hash: The SHA-256 of its Wasm module; ``None`` while it has none.
        controllers: Who may change it; empty if it does not exist.
        time: When the subnet certified this, in nanoseconds since 1970.
    """

    canister_id: Principal
    module_hash: bytes | None
    controllers: tuple[Principal, ...]
    time: int


@dataclass(frozen=True, slots=True)
class SubnetFacts:
    """A subnet, as certified.

    Args:
        subnet_id: The subnet.
        public_key: Its key, in DER form; ``None`` where the certificate does not show it.
        type: Such as ``application`` or ``system``, where shown.
        nodes: Its nodes.
        canister_ranges: The first and last id of each range of canisters that it may hold.
        time: When the subnet certified this, in nanoseconds since 1970.
    """

    subnet_id: Principal
    public_key: bytes | None
    type: str | None
    nodes: tuple[Principal, ...]
    canister_ranges: tuple[tuple[Principal, Principal], ...]
    time: int


def canister_paths(canister_id: Principal) -> list[tuple[bytes, ...]]:
    """The paths that :func:`canister_facts` reads."""
    return [
        (b"canister", canister_id.raw, b"module_hash"),
        (b"canister", canister_id.raw, b"controllers"),
    ]


def canister_facts(certificate: Certificate, canister_id: Principal) -> CanisterFacts:
    """Read a canister's facts.

    Raises:
        CertificateError: If the certificate does not tell them.
    """
    module_hash, controllers = canister_paths(canister_id)
    return CanisterFacts(
        canister_id,
        certificate.value(module_hash),
        principals_of(certificate.value(controllers)),
        certificate.time,
    )


def principals_of(value: bytes | None) -> tuple[Principal, ...]:
    """Decode a certified list of principals; absent, it is empty.

    Raises:
        CertificateError: If it is something else.
    """
    if value is None:
        return ()
    raw = cbor.decode(value, "the certified list of controllers", CertificateError)
    if not cbor.is_sequence(raw) or not all(
        isinstance(item, bytes) and len(item) <= 29 for item in raw
    ):
        raise CertificateError("the certified controllers are not a list of principals")
    return tuple(Principal(item) for item in raw)


def subnet_facts(certificate: Certificate, root_key: bytes) -> SubnetFacts:
    """Read the facts of the subnet that signed a certificate of ``/subnet``.

    Args:
        certificate: Verified.
        root_key: The root of trust, in DER form.

    Raises:
        CertificateError: If the certificate contradicts itself.
    """
    subnet_id = certificate.signer(root_key)
    public_key = certificate.lookup((b"subnet", subnet_id.raw, b"public_key"))
    kind = getattr(certificate.lookup((b"subnet", subnet_id.raw, b"type")), "value", None)
    nodes = certificate.children((b"subnet", subnet_id.raw, b"node"))
    return SubnetFacts(
        subnet_id,
        getattr(public_key, "value", None),
        None if kind is None else kind.decode(errors="replace"),
        tuple(Principal(node) for node, _ in nodes if len(node) <= 29),
        tuple(
            (Principal(low), Principal(high)) for low, high in certificate.granted_ranges(root_key)
        ),
        certificate.time,
    )
