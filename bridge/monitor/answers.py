"""What a canister told, as records: the one place where its answers are checked beyond their types.

Candid's types bound most numbers and leave some without a bound: what exceeds the protocol's
own is refused here, so that nothing behind it needs to doubt a record. Asks nobody.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from bridge import candid
from bridge.errors import WatchContractError
from bridge.flow import MAX_MSG_ID, Cycles, Failure, Policy, Role
from bridge.monitor.records import (
    STATES,
    FlowEvent,
    FlowView,
    Limits,
    PeerTraffic,
    SideUsage,
    State,
    Status,
    Trust,
    role_of,
)

_LONGEST_NAME: Final = 100
_MOST_CYCLES: Final = (1 << 128) - 1
_OTHER_NAMES: Final = {"bytes": "bytes_stored"}


def status(told: Mapping[str, Any], *, source: str, trust: Trust) -> Status:
    """How a canister stands.

    Raises:
        WatchContractError: If a number exceeds what the IC or the protocol has.
    """
    counters, gauges = (_by_name(told[name]) for name in ("counters", "gauges"))
    settings = told["settings"]
    return Status(
        source=source,
        trust=trust,
        time=told["time"],
        usage=tuple(_usage(role, gauges) for role in Role),
        version=told["version"][:_LONGEST_NAME],
        starts=gauges.get("starts"),
        horizon=told["horizon"],
        limits=Limits(
            open=settings["open_flows"],
            tombstones=settings["tombstones"],
            bytes=settings["bytes"],
        ),
        settings=_policy(settings),
        counters=MappingProxyType(counters),
        gauges=MappingProxyType(gauges),
        traffic=tuple(PeerTraffic(**row) for row in told["peers"]),
    )


def flow(told: Mapping[str, Any]) -> FlowView:
    """One flow.

    Raises:
        WatchContractError: If its id is none, or its state is of the other side.
    """
    failure = told["failure"]
    return FlowView(
        **{
            **told,
            "role": Role(told["role"].label),
            "msg_id": _bounded(told["msg_id"], MAX_MSG_ID, "msg_id"),
            "state": _state(told["role"], told["state"]),
            "failure": None if failure is None else Failure(failure.label),
        }
    )


def event(told: Mapping[str, Any]) -> FlowEvent:
    """One event.

    Raises:
        WatchContractError: As `flow`, or if it has no number.
    """
    if not told["seq"]:
        raise _broken("tells an event 0", "events are numbered from 1")
    before, after = (
        None if told[name] is None else _state(told["role"], told[name]) for name in ("from", "to")
    )
    return FlowEvent(
        seq=told["seq"],
        time=told["time"],
        role=Role(told["role"].label),
        peer=told["peer"],
        msg_id=_bounded(told["msg_id"], MAX_MSG_ID, "msg_id"),
        before=before,
        after=after,
        why=told["why"],
    )


def _broken(what: str, expected: str) -> WatchContractError:
    return WatchContractError(
        f"the canister {what}",
        hint=f"{expected}; see that its library is whole, and of a version that this one knows",
    )


def _bounded(value: int, most: int, name: str) -> int:
    """A number whose type has no bound; a message with the whole of it could be megabytes."""
    if value > most:
        raise _broken(
            f"tells a {name} of {value.bit_length()} bits",
            f"it has at most {most.bit_length()} bits",
        )
    return value


def _state(role: candid.Case, state: candid.Case) -> State:
    found = STATES[str(state.label)]
    if role_of(found) != role.label:
        raise _broken(
            f"tells a {role.label}'s flow with the state {found}", "that state is of the other side"
        )
    return found


def _by_name(pairs: list[tuple[str, int]]) -> dict[str, int]:
    """Counts by the beginnings of their names; those that begin alike are one."""
    sums: Counter[str] = Counter()
    for name, count in pairs:
        sums[name[:_LONGEST_NAME]] += count
    return dict(sums)


def _usage(role: Role, gauges: Mapping[str, int]) -> SideUsage:
    return SideUsage(
        role=role,
        open=gauges.get(f"{role} open flows", 0),
        tombstones=gauges.get(f"{role} tombstones", 0),
        bytes=gauges.get(f"{role} bytes", 0),
        peers=gauges.get(f"{role} peers", 0),
    )


def _policy(settings: Mapping[str, Any]) -> Policy | None:
    """Settings that are in force, whatever they are; ``None`` where some are not told."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if value is None:
            return None
        if name == "min_cycles":
            _bounded(value, _MOST_CYCLES, name)
        if name == "attach_cycles":
            values[name] = Cycles(
                **{kind: _bounded(count, _MOST_CYCLES, name) for kind, count in value.items()}
            )
        else:
            values[_OTHER_NAMES.get(name, name)] = value
    return Policy(**values)
