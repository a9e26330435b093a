"""Every setting of the protocol as one validated object, loadable from TOML.

Rule implemented: the protocol page, section Settings and defaults. Durations are nanoseconds, sizes
are bytes. Reads no file: it is given the mapping that a TOML parser made.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from bridge.errors import PolicyError, PrincipalError
from bridge.flow.quantities import parse_duration, parse_size
from bridge.principal import Principal

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000 * MILLISECOND
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

DIALECT_NAMES: Final = ("unified", "maf", "bounty", "positional")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycles:
    """Cycles to attach to each kind of message."""

    new: int = 0
    ack: int = 0
    fin: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPolicy:
    """What is configured for one peer.

    Args:
        dialect: How to open flows to it; None: not configured.
        null_ack: Whether its null ACK payload is a response or a mere receipt.
        ids: Whether the time in its ids may be trusted.
        attach_cycles: What is sent along; None: as for all.
    """

    dialect: str | None = None
    null_ack: Literal["response", "receipt"] = "response"
    ids: Literal["opaque", "ulid"] = "opaque"
    attach_cycles: Cycles | None = None


_ANY_PEER: Final = PeerPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All settings. The defaults are the page's; tests run the same code with milliseconds.

    Args:
        first_retry: Wait after the first transmission (ns).
        backoff: Whole factor from wait to wait.
        max_delay: Longest wait, jitter apart (ns).
        jitter_permille: Most that is added to a wait, in thousandths of it.
        attempts: Transmissions of a NEW or of an ACK, echoes apart.
        lifetime: Of a NEW from its send, of an ACK from the answer (ns).
        send_retry: Wait after a transmission that certainly did not leave (ns).
        call_timeout: Bounded wait of a one-way call (ns).
        call_margin: What is added to it in the in-flight count (ns).
        in_flight: Transmissions in flight to one peer.
        linger: How long an acknowledged flow is kept (ns).
        retention: How long a failed flow is kept (ns).
        horizon: How long a tombstone is kept (ns).
        skew: How far ahead of our clock a trusted ULID time may be (ns).
        slack: What a receiver's horizon has to exceed lifetime by (ns).
        time_gap: Most that one step of observed time counts (ns).
        spread: Over how long overdue work is spread after a restart (ns).
        answer_within: How long a handler may take before its flow is stalled (ns).
        handler_attempts: Tries of handing a response over before it is a dead letter.
        echo_min: Least time between a transmission and its echo (ns).
        unknown_fins_per_second: FINs for ACKs that name no flow, in all.
        max_payload: Largest NEW payload (bytes).
        max_response: Largest ACK payload (bytes).
        response_room: Bytes set aside for each flow without an answer.
        open_flows_per_peer: Open flows with one peer.
        open_flows: Open flows in all.
        tombstones_per_peer: Tombstones of one peer.
        tombstones: Tombstones in all.
        bytes_per_peer: Bytes stored for one peer.
        bytes_stored: Bytes stored in all; ``bytes`` in configuration.
        outbox_messages: Messages in the outbox of one agent.
        outbox_bytes: Bytes in the outbox of one agent.
        events: Length of the event history.
        min_cycles: Cycles accepted with each new NEW.
        attach_cycles: What is sent along, unless the peer says otherwise.
        admit_from: Unknown NEWs are refused before this time (ns since 1970).
        rerun_stalled: Whether work that a restart or a trap interrupted is idempotent and is run
            again at once instead of stalling.
        oneway_new: Whether NEW's method is declared ``oneway``; fixed when a canister is built.
        peers: What is configured for single peers.
    """

    first_retry: int = 330 * SECOND
    backoff: int = 2
    max_delay: int = HOUR
    jitter_permille: int = 100
    attempts: int = 10
    lifetime: int = 9 * HOUR
    send_retry: int = 30 * SECOND
    call_timeout: int = 300 * SECOND
    call_margin: int = 30 * SECOND
    in_flight: int = 400
    linger: int = 24 * HOUR
    retention: int = 48 * HOUR
    horizon: int = 48 * HOUR
    skew: int = 10 * MINUTE
    slack: int = HOUR
    time_gap: int = 10 * MINUTE
    spread: int = 60 * SECOND
    answer_within: int = 24 * HOUR
    handler_attempts: int = 10
    echo_min: int = 60 * SECOND
    unknown_fins_per_second: int = 10
    max_payload: int = 1_900_000
    max_response: int = 1_900_000
    response_room: int = 8 * 1024
    open_flows_per_peer: int = 1_000
    open_flows: int = 100_000
    tombstones_per_peer: int = 100_000
    tombstones: int = 1_000_000
    bytes_per_peer: int = 64 * 1024**2
    bytes_stored: int = 1024**3
    outbox_messages: int = 1_000
    outbox_bytes: int = 16 * 1024**2
    events: int = 10_000
    min_cycles: int = 0
    attach_cycles: Cycles = field(default_factory=Cycles)
    admit_from: int = 0
    rerun_stalled: bool = False
    oneway_new: bool = True
    peers: Mapping[Principal, PeerPolicy] = field(default_factory=dict)

    def peer(self, principal: Principal) -> PeerPolicy:
        """What is configured for one peer; the defaults if nothing is."""
        return self.peers.get(principal, _ANY_PEER)

    def cycles_for(self, principal: Principal) -> Cycles:
        """What is sent along with each kind of message to one peer."""
        own = self.peer(principal).attach_cycles
        return self.attach_cycles if own is None else own

    def delay(self, n: int, u: int) -> int:
        """How long to wait after transmission number n, in nanoseconds.

        Args:
            n: Number of the attempt, from 1.
            u: Jitter in millionths; bounded by ``jitter_permille`` here.
        """
        base = self.first_retry
        for _ in range(n - 1):
            if base >= self.max_delay:
                break
            base *= self.backoff
        base = min(base, self.max_delay)
        return base + base * max(0, min(u, self.jitter_permille * 1000)) // 1_000_000

    def validate(self) -> Self:
        """Return the policy itself if every setting is usable.

        Raises:
            PolicyError: With the first setting that is out of range or contradicts another.
        """
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise PolicyError(f"{name} is {value}, but it has to be at least {least}")
        for holds, wrong in (
            (self.echo_min < self.first_retry, "echo_min must be below first_retry"),
            (
                self.call_timeout + self.call_margin <= self.first_retry,
                "call_timeout + call_margin must not exceed first_retry",
            ),
            (self.call_timeout <= 300 * SECOND, "call_timeout must not exceed 300 s"),
            (self.lifetime + self.slack < self.horizon, "lifetime + slack must be below horizon"),
            (self.lifetime <= self.linger, "lifetime must not exceed linger"),
            (self.lifetime <= self.retention, "lifetime must not exceed retention"),
            (self.answer_within < self.horizon, "answer_within must be below horizon"),
            (self.skew < self.horizon, "skew must be below horizon"),
            (self.in_flight <= 500, "in_flight must not exceed 500: a pair's queue holds no more"),
            (
                self.open_flows_per_peer <= self.open_flows,
                "open_flows_per_peer must not exceed open_flows",
            ),
            (
                self.tombstones_per_peer <= self.tombstones,
                "tombstones_per_peer must not exceed tombstones",
            ),
            (self.bytes_per_peer <= self.bytes_stored, "bytes_per_peer must not exceed bytes"),
            (
                not (self.oneway_new and self.min_cycles > 0),
                "min_cycles needs a NEW method that is not oneway, for that may refund too early",
            ),
        ):
            if not holds:
                raise PolicyError(wrong, hint="see Settings and defaults in docs/protocol.md")
        for principal, peer in self.peers.items():
            if peer.dialect is not None and peer.dialect not in DIALECT_NAMES:
                raise PolicyError(
                    f"peer {principal}: {peer.dialect!r} is not a dialect",
                    hint="choose one of " + ", ".join(DIALECT_NAMES),
                )
        return self

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build a valid policy from what a TOML parser made; settings left out keep the default.

        Durations are text such as ``"330 s"``, sizes text such as ``"8 KiB"`` or a number of bytes,
        ``jitter`` is a fraction such as ``0.1``, peers are tables ``[peers."<principal>"]``.

        Raises:
            PolicyError: If a name is unknown, a value unreadable, or the whole is not valid.
        """
        values: dict[str, Any] = {}
        for key, value in mapping.items():
            name, read = _READERS.get(key, ("", _unknown))
            values[name] = read(key, value)
        return cls(**values).validate()


# --- Reading single values ----------------------------------------------------------------------


def _unknown(key: str, _value: object) -> object:
    raise PolicyError(f"there is no setting {key!r}", hint="one of " + ", ".join(sorted(_READERS)))


def _duration(key: str, value: object) -> int:
    return parse_duration(value, of=key)


def _size(key: str, value: object) -> int:
    return parse_size(value, of=key)


def _whole(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise PolicyError(f"{key} is {value!r}, but it has to be a whole number")
    return value


def _truth(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PolicyError(f"{key} is {value!r}, but it has to be true or false")
    return value


def _permille(key: str, value: object) -> int:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise PolicyError(f"{key} is {value!r}, but it has to be a fraction from 0 to 1")
    permille = round(value * 1000)
    if abs(permille - value * 1000) > 1e-6:
        raise PolicyError(f"{key} is {value!r}, but it has to be a whole number of thousandths")
    return permille


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"{key} is {value!r}, but it has to be a table")
    return value


def _cycles(key: str, value: object) -> Cycles:
    table = _table(key, value)
    if not set(table) <= {"new", "ack", "fin"}:
        raise PolicyError(f"{key} has the keys {sorted(table)}; expected new, ack and fin")
    amounts = {kind: _whole(f"{key}.{kind}", amount) for kind, amount in table.items()}
    if any(amount < 0 for amount in amounts.values()):
        raise PolicyError(f"{key} has an amount below 0")
    return Cycles(**amounts)


def _one_of(key: str, value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise PolicyError(f"{key} is {value!r}", hint="choose one of " + ", ".join(choices))
    return str(value)


def _peer(key: str, value: object) -> PeerPolicy:
    values: dict[str, Any] = {}
    for name, entry in _table(key, value).items():
        path = f"{key}.{name}"
        match name:
            case "dialect":
                values[name] = _one_of(path, entry, DIALECT_NAMES)
            case "null_ack":
                values[name] = _one_of(path, entry, ("response", "receipt"))
            case "ids":
                values[name] = _one_of(path, entry, ("opaque", "ulid"))
            case "attach_cycles":
                values[name] = _cycles(path, entry)
            case _:
                raise PolicyError(
                    f"there is no setting {path}",
                    hint="one of dialect, null_ack, ids, attach_cycles",
                )
    return PeerPolicy(**values)


def _peers(key: str, value: object) -> Mapping[Principal, PeerPolicy]:
    peers = {}
    for text, entry in _table(key, value).items():
        try:
            principal = Principal.from_text(text)
        except PrincipalError as error:
            raise PolicyError(f"{key}: {error.message}", hint=error.hint) from error
        peers[principal] = _peer(f"{key}.{text}", entry)
    return peers


_DURATIONS: Final = [
    "first_retry",
    "max_delay",
    "lifetime",
    "send_retry",
    "call_timeout",
    "call_margin",
    "linger",
    "retention",
    "horizon",
    "skew",
    "slack",
    "time_gap",
    "spread",
    "answer_within",
    "echo_min",
]
_SIZES: Final = [
    "max_payload",
    "max_response",
    "response_room",
    "bytes_per_peer",
    "bytes_stored",
    "outbox_bytes",
]
_SPECIAL: Final[dict[str, Callable[[str, object], object]]] = {
    "attach_cycles": _cycles,
    "peers": _peers,
    "rerun_stalled": _truth,
    "oneway_new": _truth,
}
# What a setting is called in configuration, where that differs from the field.
_CONFIGURED_AS: Final = {"bytes_stored": "bytes", "jitter_permille": "jitter"}


def _reader(name: str) -> Callable[[str, object], object]:
    if name in _DURATIONS:
        return _duration
    if name in _SIZES:
        return _size
    if name == "jitter_permille":
        return _permille
    return _SPECIAL.get(name, _whole)


_READERS: Final[dict[str, tuple[str, Callable[[str, object], object]]]] = {
    _CONFIGURED_AS.get(entry.name, entry.name): (entry.name, _reader(entry.name))
    for entry in dataclasses.fields(Policy)
}
# Least usable values; a wait or a count of zero would loop or do nothing at all.
_POSITIVE: Final = [
    "first_retry",
    "backoff",
    "max_delay",
    "attempts",
    "lifetime",
    "send_retry",
    "call_timeout",
    "in_flight",
    "linger",
    "retention",
    "horizon",
    "time_gap",
    "answer_within",
    "handler_attempts",
    "max_payload",
    "max_response",
    "open_flows_per_peer",
    "open_flows",
    "tombstones_per_peer",
    "tombstones",
    "bytes_per_peer",
    "bytes_stored",
    "outbox_messages",
    "outbox_bytes",
    "events",
]
_LEAST: Final[dict[str, int]] = {
    entry.name: int(entry.name in _POSITIVE)
    for entry in dataclasses.fields(Policy)
    if entry.type is int
}
