"""Which paths of the state tree a ``read_state`` may ask for, and what each one shows.

Rule implemented: interface specification, section Request: Read state.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.errors import EnvelopeError
from bridge.principal import Principal
from bridge.replica.state.subnet import Subnet

Path = tuple[bytes, ...]

_STATUS_LEAVES: Final = frozenset(
    {b"status", b"reply", b"reject_code", b"reject_message", b"error_code"}
)
_CANISTER_LEAVES: Final = frozenset(
    {b"module_hash", b"controllers", b"canister_creation_timestamp", b"last_install_timestamp"}
)
_BOUNDARY_NODE_LEAVES: Final = frozenset({b"domain", b"ipv4_address", b"ipv6_address"})
_PATHS_HINT: Final = "the interface specification lists the paths, in the section on read_state"
_SUBNET_LEAVES: Final = (b"public_key", b"type")


@dataclass(frozen=True, slots=True)
class Scope:
    """Under which address a request came.

    Attributes:
        canister_id: The effective canister id; ``None`` at a subnet's address.
        subnet_id: The effective subnet id; ``None`` at a canister's address.
        version: 2 or 3: only version 2 shows the unsharded ranges.
    """

    canister_id: Principal | None
    subnet_id: Principal | None
    version: int


class ForbiddenPathError(EnvelopeError):
    """The path exists perhaps, but not for who asks."""


class NoSuchPathError(EnvelopeError):
    """The path is none that is served at this address."""


def _readable(path: Path) -> str:
    return "/" + "/".join(
        label.decode() if label.isascii() and label.decode().isprintable() else label.hex()
        for label in path
    )


def _invalid(path: Path, hint: str = _PATHS_HINT) -> NoSuchPathError:
    return NoSuchPathError(f"Invalid path requested: {_readable(path)}", hint=hint)


def _check_named(scope: Scope, requested: bytes) -> None:
    """Check that a path names the very canister or subnet that the address names."""
    effective = scope.canister_id or scope.subnet_id
    assert effective is not None
    if effective.raw != requested:
        shown = Principal(requested) if len(requested) <= 29 else requested.hex()
        raise EnvelopeError(
            f"Effective principal id in URL {effective} does not match requested principal id: "
            f"{shown}."
        )


def allowed_paths(
    subnet: Subnet, scope: Scope, sender: Principal, paths: Sequence[Path],
    targets: frozenset[Principal] | None,
) -> list[Path]:  # fmt: skip
    """The paths to show, after all checks.

    Args:
        subnet: The state, under its lock.
        scope: The request's address.
        sender: Who asks.
        paths: What is asked for.
        targets: The canisters to which the sender's delegations are limited, if they are.

    Raises:
        NoSuchPathError: If a path has no form that is served at this address.
        EnvelopeError: If it names another canister, or too much is asked for at once.
        ForbiddenPathError: If this sender may not ask for it here.
    """
    shown: list[Path] = []
    request_ids: set[bytes] = set()
    sharded: set[bytes] = set()
    for path in paths:
        match path:
            case (b"time",):
                shown.append(path)
            case (b"subnet", *rest):
                shown += _subnet_paths(subnet, scope, path, rest)
            case (b"canister_ranges", subnet_id):
                if scope.canister_id is not None:
                    raise _invalid(path, "ask for it at the subnet's address")
                sharded.add(subnet_id)
                shown.append((b"canister_ranges", subnet_id))
            case (b"request_status", request_id, *rest) if (
                len(rest) <= 1
                and set(rest) <= _STATUS_LEAVES
                and (scope.canister_id is not None or scope.version > 2)
            ):
                request_ids.add(request_id)
                _check_request(subnet, scope, sender, request_id, targets)
                shown.append(path)
            case (b"canister", canister_id, *rest):
                _check_canister(subnet, scope, sender, path, canister_id, rest)
                shown.append(path)
            case (b"api_boundary_nodes", *rest) if (
                len(rest) <= 2 and set(rest[1:]) <= _BOUNDARY_NODE_LEAVES
            ):
                shown.append(path)
            case _:
                raise _invalid(path)
    if len(request_ids) > 1:
        raise EnvelopeError(
            f"the request asks for the status of {len(request_ids)} requests, and one is allowed"
        )
    if len(sharded) > 1:
        raise EnvelopeError(
            f"the request asks for the ranges of {len(sharded)} subnets, and one is allowed"
        )
    return shown


def _subnet_paths(
    subnet: Subnet, scope: Scope, path: Path, rest: Sequence[bytes]
) -> Iterable[Path]:
    keys = subnet.keys
    if not rest:
        names: Sequence[bytes] = (keys.root_subnet_id.raw, keys.subnet_id.raw)
    else:
        names = (rest[0],)
    below = tuple(rest[1:])
    known = ((), (b"public_key",), (b"type",), (b"node",), (b"canister_ranges",), (b"metrics",))
    if below[:1] not in known:
        raise _invalid(path)
    if below == (b"metrics",):
        if scope.subnet_id is None:
            raise _invalid(path, "ask for it at the subnet's address")
        _check_named(scope, names[0])
    out: list[Path] = []
    for name in names:
        prefix = (b"subnet", name)
        ranges = scope.version < 3 or name == keys.root_subnet_id.raw
        if below[:1] == (b"canister_ranges",):
            if not ranges:
                raise _invalid(path, "ask for /canister_ranges/<subnet id> at the subnet's address")
            out.append(path)
        elif below:
            out.append(path)
        else:
            out += [(*prefix, leaf) for leaf in _SUBNET_LEAVES]
            if name == keys.subnet_id.raw:
                out.append((*prefix, b"node"))
            if ranges:
                out.append((*prefix, b"canister_ranges"))
    return out


def _check_request(
    subnet: Subnet,
    scope: Scope,
    sender: Principal,
    request_id: bytes,
    targets: frozenset[Principal] | None,
) -> None:
    if len(request_id) != 32:
        raise EnvelopeError(f"a request id has 32 bytes, not {len(request_id)}")
    record = subnet.history.records.get(request_id)
    if record is None:
        if request_id in subnet.undone:
            raise EnvelopeError(
                "this request is no more: the subnet was restored to an earlier state, in which it "
                "does not exist",
                hint="send it again",
            )
        return
    if record.sender != sender.raw:
        raise ForbiddenPathError("the status of a request is told only to its sender")
    if scope.canister_id is not None and record.effective_canister_id != scope.canister_id.raw:
        raise ForbiddenPathError(
            "the status of a request is told only at the address that it was sent to, which is "
            f"that of canister {Principal(record.effective_canister_id)}"
        )
    if targets is not None and Principal(record.canister_id) not in targets:
        raise ForbiddenPathError("the sender's delegations do not allow the request's canister")


def _check_canister(
    subnet: Subnet,
    scope: Scope,
    sender: Principal,
    path: Path,
    canister_id: bytes,
    rest: Sequence[bytes],
) -> None:
    if scope.canister_id is None:
        raise _invalid(path, "ask for it at the canister's address")
    _check_named(scope, canister_id)
    match rest:
        case [leaf] if leaf in _CANISTER_LEAVES:
            return
        case [b"metadata", name]:
            try:
                text = name.decode()
            except UnicodeDecodeError as error:
                raise EnvelopeError("the name of a metadata section is not UTF-8") from error
            canister = subnet.canisters.get(scope.canister_id)
            section = canister.metadata.get(text) if canister is not None else None
            if section is None or section[0]:
                return
            assert canister is not None
            if not canister.is_controller(sender):
                raise ForbiddenPathError(
                    f"the metadata section {text!r} is private: only controllers may read it"
                )
        case _:
            raise _invalid(path)
