"""What a watcher is told: frozen records, alike for canisters and for the stores of bridges.

Times are nanoseconds since 1970 by the clock of what is watched, sizes are bytes. Texts are as they
were sent, with whatever characters; `printable` makes them fit for a terminal. Reads nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from bridge.errors import BridgeError
from bridge.flow import Failure, Policy, ReceiverState, Role, SenderState
from bridge.principal import Principal

State = SenderState | ReceiverState

STATES: Final[Mapping[str, State]] = MappingProxyType(
    {str(state): state for state in [*SenderState, *ReceiverState]}
)
"""Every state by its name; no name is of both roles."""

SETTLED: Final = frozenset({SenderState.ACKNOWLEDGED, ReceiverState.FINISHED})
"""States of flows that ended well and are kept only to know a late message."""

UNSETTLED: Final = tuple(state for state in STATES.values() if state not in SETTLED)
"""All other states, in the order of the protocol's tables."""

_LONGEST_TEXT: Final = 200


class Trust(StrEnum):
    """Why an answer may be believed."""

    CERTIFIED = "certified"  # the canister's subnet agreed on it
    ONE_NODE = "one node"  # one node of the subnet signed it: it can be old, or that node's lie
    UNVERIFIED = "unverified"  # the agent was told to check no signatures
    OWN_STORE = "own store"  # it was read where this machine keeps it


def role_of(state: State) -> Role:
    """On which side a flow is that has this state."""
    return Role.SENDER if isinstance(state, SenderState) else Role.RECEIVER


def printable(text: str, longest: int = _LONGEST_TEXT) -> str:
    r"""A text on one line, without control characters, as a terminal may be given it.

    Args:
        text: As somebody else chose it.
        longest: How many characters to show.

    Returns:
        The text; what is not printable is written as in Python, such as ``\x1b``.
    """
    shown: list[str] = []
    size = 0
    for char in text:
        piece = char if char.isprintable() else char.encode("unicode_escape").decode()
        size += len(piece)
        if size > longest:
            return "".join(shown) + "..."
        shown.append(piece)
    return "".join(shown)


def moment(nanoseconds: int) -> str:
    """A time in ISO 8601, in UTC, to the millisecond; one that no calendar has, as its number."""
    try:
        found = datetime.fromtimestamp(nanoseconds // 1_000_000 / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{nanoseconds} ns"
    return found.strftime("%Y-%m-%dT%H:%M:%S.") + f"{nanoseconds // 1_000_000 % 1000:03}Z"


# --- How it stands --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SideUsage:
    """What the flows of one role take of the quotas.

    Attributes:
        role: The side.
        open: Open flows.
        tombstones: Flows kept only to know a late message.
        bytes: A canister's as its quotas count them, with room for answers that may come; a
            store's as stored.
        peers: Peers with whom there are flows.
    """

    role: Role
    open: int
    tombstones: int
    bytes: int
    peers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The quotas of each role; ``None`` where not told.

    Attributes:
        open: Of open flows.
        tombstones: Of tombstones.
        bytes: Of bytes.
    """

    open: int | None = None
    tombstones: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTraffic:
    """Messages that passed between a canister and one peer since it was installed.

    Attributes:
        peer: The peer; ``None``: all that have no row of their own.
        sent: Transmitted.
        received: Let in.
        refused: Not let in.
    """

    peer: Principal | None
    sent: int
    received: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How one that is watched stands.

    Attributes:
        source: Its name.
        trust: Why this may be believed.
        time: Its time.
        usage: What its flows take, by role.
        next_due: The earliest time at which a flow has something to do; ``None`` if none has, or
            where that is not told (by canisters).
        version: Of the library that a canister runs; ``None`` for a store.
        starts: How often a canister was installed or upgraded; ``None`` where not told.
        horizon: For how long tombstones are kept, in nanoseconds; ``None`` for a store.
        limits: The quotas, as far as told.
        settings: Those in force, where all are told; the two that ``candid/settings.did`` has not
            have their defaults.
        counters: What was counted since the canister was installed, by reason. A store has none.
        gauges: What else a canister tells of its present, by name.
        traffic: A canister's bounded table of peers.
    """

    source: str
    trust: Trust
    time: int
    usage: tuple[SideUsage, ...]
    next_due: int | None = None
    version: str | None = None
    starts: int | None = None
    horizon: int | None = None
    limits: Limits = Limits()
    settings: Policy | None = None
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    gauges: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    traffic: tuple[PeerTraffic, ...] = ()

    def side(self, role: Role) -> SideUsage:
        """What the flows of one role take."""
        return next(side for side in self.usage if side.role is role)


# --- Flows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowView:
    """One flow, without its payloads.

    Attributes:
        role: On which side of it the watched one is.
        peer: The other side.
        msg_id: The sender's id.
        state: As in the protocol's tables.
        failure: How it failed, in the state ``failed``.
        late: Whether a response came after that.
        attempts: Transmissions of the message that is due.
        due: When there is something to do for it; ``None``: when something comes.
        opened: When it came to be.
        changed: The last change of state.
        payload_hash: CRC-32 of the request.
        response_hash: CRC-32 of the response; ``None`` until there is one.
    """

    role: Role
    peer: Principal
    msg_id: int
    state: State
    failure: Failure | None
    late: bool
    attempts: int
    due: int | None
    opened: int
    changed: int
    payload_hash: int
    response_hash: int | None

    def __str__(self) -> str:
        how = f" ({self.failure})" if self.failure else ""
        return (
            f"{self.role} {self.peer} {self.msg_id}: {self.state}{how} since {moment(self.changed)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowList:
    """Some flows. Can be iterated over, and has a length.

    Attributes:
        source: Of whom.
        trust: Why this may be believed.
        flows: The flows that were found, the longest unchanged first.
        complete: Whether these are all; if not, a bound was reached and there may be more.
    """

    source: str
    trust: Trust
    flows: tuple[FlowView, ...]
    complete: bool

    def __iter__(self) -> Iterator[FlowView]:
        return iter(self.flows)

    def __len__(self) -> int:
        return len(self.flows)


# --- What happens ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEvent:
    """One change of one flow's state, from a canister's bounded history.

    Attributes:
        seq: Its number in the history, from 1, one more than that of the event before it.
        time: When.
        role: On which side of the flow the canister is.
        peer: The other side.
        msg_id: The sender's id.
        before: The state before; ``None`` where the flow came to be.
        after: The state after; ``None`` where the flow was forgotten.
        why: What happened, in the canister's words.
    """

    seq: int
    time: int
    role: Role
    peer: Principal
    msg_id: int
    before: State | None
    after: State | None
    why: str

    def __str__(self) -> str:
        states = f"{self.before or '-'} -> {self.after or '-'}"
        told = printable(self.why)
        return f"{moment(self.time)} {self.role} {self.peer} {self.msg_id}: {states} ({told})"


@dataclass(frozen=True, slots=True)
class EventsMissed:
    """Events that cannot be told any more: the history is bounded, and went on too far meanwhile.

    Attributes:
        first: ``seq`` of the first one.
        last: ``seq`` of the last one.
    """

    first: int
    last: int

    def __str__(self) -> str:
        return f"events {self.first} to {self.last} are no longer in the history"


@dataclass(frozen=True, slots=True)
class HistoryReset:
    """The history no longer holds what it held.

    The canister was reinstalled, a snapshot was loaded, or its history was bounded to nothing. What
    it holds now follows from its beginning. The subnet agreed on this, not just one node.

    Attributes:
        after: ``seq`` of the last event that was seen of the former history.
    """

    after: int

    def __str__(self) -> str:
        return (
            f"the history does not hold event {self.after}: the canister was reinstalled, a "
            "snapshot was loaded, or its history was bounded to nothing; here is what it holds now"
        )


@dataclass(frozen=True, slots=True)
class Restarted:
    """The canister was installed or upgraded.

    Attributes:
        starts: How often that has happened by now.
        version: Of the library that it runs now.
    """

    starts: int
    version: str

    def __str__(self) -> str:
        return f"the canister was started anew (start {self.starts}, {printable(self.version)})"


@dataclass(frozen=True, slots=True)
class ContactLost:
    """There is no answer for now; it is tried again.

    Attributes:
        error: What the first try failed with.
    """

    error: BridgeError

    def __str__(self) -> str:
        return f"no answer: {printable(str(self.error))}"


@dataclass(frozen=True, slots=True)
class ContactRegained:
    """There are answers again.

    Attributes:
        failures: How many tries in a row had failed.
    """

    failures: int

    def __str__(self) -> str:
        return f"answers again, after {self.failures} that failed"


Seen = FlowEvent | EventsMissed | HistoryReset | Restarted | ContactLost | ContactRegained
"""All that following a history can tell."""
