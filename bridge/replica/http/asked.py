"""Reads what the admin interface is asked for: faults and chances from their JSON."""

from typing import Any, Final

from bridge.principal import Principal
from bridge.replica.scheduler.faults import (
    BETWEEN_CANISTERS,
    OVERLOADED,
    PER_THOUSAND,
    REQUESTS,
    Action,
    Chances,
    Filter,
    Kind,
    Strike,
)
from bridge.replica.state.messages import RejectCode

_FILTER: Final = frozenset({"kinds", "from", "to", "method", "contains"})
_REJECT: Final = frozenset({"code", "text"})
_FAULT: Final = _FILTER | _REJECT | {"action", "nth", "nanoseconds"}
_CHANCES: Final = _FILTER | _REJECT | {"seed", "longest_delay"} | {item.value for item in Action}
_LONGEST_DELAY: Final = 10_000_000_000
_MAX: Final = 2**63


class BadAskError(Exception):
    """What was asked of the admin interface makes no sense; the text says why."""


def known(body: dict[str, Any], fields: frozenset[str]) -> None:
    """Refuse fields that mean nothing here.

    Raises:
        BadAskError: If there are any.
    """
    unknown = set(body) - fields
    if unknown:
        named = ", ".join(sorted(name[:40] for name in unknown)[:10])
        raise BadAskError(
            f"unknown fields: {named}; the known ones are {', '.join(sorted(fields))}"
        )


def number(body: dict[str, Any], name: str, default: int, least: int = 0) -> int:
    """A whole number of the body.

    Raises:
        BadAskError: If it is none, or out of bounds.
    """
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or not least <= value < _MAX:
        raise BadAskError(f"{name} is a whole number from {least} on")
    return value


def fault(body: dict[str, Any]) -> tuple[Filter, int, Strike]:
    """Which messages, the how many-eth of them, and what happens to it.

    Raises:
        BadAskError: If the IC would never do that, or the body makes no sense.
        PrincipalError: If a principal is none.
    """
    body = _given(body)
    known(body, _FAULT)
    action = _action(body.get("action", "lose"))
    if action is not Action.REJECT and _REJECT & set(body):
        raise BadAskError("code and text are for the action 'reject'")
    if (action is Action.DELAY) != ("nanoseconds" in body):
        raise BadAskError("a delay, and nothing else, needs nanoseconds: how long it lasts")
    strike = Strike(
        action, _code(body), _words(body, "text", OVERLOADED), number(body, "nanoseconds", 0, 1)
    )
    chosen = _filter(body, REQUESTS)
    if action is Action.REJECT and chosen.kinds == {Kind.RESPONSE}:
        raise BadAskError("an answer cannot be rejected on its way; it can be lost or late")
    return chosen, number(body, "nth", 1, 1), strike


def chances(body: dict[str, Any]) -> Chances:
    """Which messages, and the chances of what happens to them.

    Raises:
        BadAskError: If the body makes no sense.
        PrincipalError: If a principal is none.
    """
    body = _given(body)
    known(body, _CHANCES)
    seed = body.get("seed")
    if type(seed) is not int or not -_MAX <= seed < _MAX:
        raise BadAskError("seed is a whole number, from which the chances are drawn")
    of = {action: number(body, action.value, 0) for action in Action}
    if sum(of.values()) > PER_THOUSAND:
        raise BadAskError(f"the chances add up to {sum(of.values())}, more than {PER_THOUSAND}")
    longest = number(body, "longest_delay", _LONGEST_DELAY, 1)
    return Chances(
        seed,
        _filter(body, BETWEEN_CANISTERS),
        of,
        longest,
        _code(body),
        _words(body, "text", OVERLOADED),
    )


def _given(body: dict[str, Any]) -> dict[str, Any]:
    """The fields that are there: null says the same as leaving a field out."""
    return {name: value for name, value in body.items() if value is not None}


def _filter(body: dict[str, Any], default: frozenset[Kind]) -> Filter:
    return Filter(
        _kinds(body.get("kinds"), default),
        _principal(body, "from"),
        _principal(body, "to"),
        _words(body, "method", None),
        _hex(body.get("contains")),
    )


def _action(value: Any) -> Action:
    try:
        return Action(value)
    except ValueError:
        expected = ", ".join(repr(action.value) for action in Action)
        raise BadAskError(
            f"the action {str(value)[:40]!r} is unknown; expected one of {expected}"
        ) from None


def _kinds(value: Any, default: frozenset[Kind]) -> frozenset[Kind]:
    if value is None:
        return default
    try:
        kinds = frozenset(Kind(item) for item in value) if isinstance(value, list) else frozenset()
    except (ValueError, TypeError):
        kinds = frozenset()
    if not kinds:
        expected = ", ".join(repr(kind.value) for kind in Kind)
        raise BadAskError(f"kinds is a list with some of {expected}")
    return kinds


def _code(body: dict[str, Any]) -> RejectCode:
    value = number(body, "code", int(RejectCode.SYS_TRANSIENT), 1)
    try:
        return RejectCode(value)
    except ValueError:
        raise BadAskError(f"code is a reject code from 1 to 6, not {value}") from None


def _principal(body: dict[str, Any], name: str) -> Principal | None:
    value = _words(body, name, None)
    return None if value is None else Principal.from_text(value)


def _words(body: dict[str, Any], name: str, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise BadAskError(f"{name} is a text")
    return value


def _hex(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise BadAskError("contains is given in hexadecimal digits") from error
