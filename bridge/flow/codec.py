"""Records, events, effects and messages as plain JSON values, and back.

One format for traces, test vectors and counterexamples. A value is an object with a tag that says
what it is (``flow``, ``event``, ``effect``, for a message ``kind``) and the fields that differ from
their default. Ids are decimal text, because JSON numbers lose digits in some languages. Bytes are
hex, principals are text, times and sizes are numbers.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, Final

from bridge.errors import UsageError
from bridge.flow import effects, events, messages, records
from bridge.principal import Principal

Json = dict[str, Any]

_FAMILIES: Final[dict[str, tuple[type, ...]]] = {
    "flow": (records.SenderFlow, records.ReceiverFlow),
    "effect": typing.get_args(effects.Effect),
    "event": tuple(
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event
    ),
    "kind": (messages.New, messages.Ack, messages.Fin),  # last: an effect has a field of that name
}


def _tag(family: str, kind: type) -> str:
    if family == "kind":
        return kind.__name__.upper()
    if family == "flow":
        return str(kind.role)  # type: ignore[attr-defined]
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


_TAG_OF: Final = {
    kind: (family, _tag(family, kind)) for family, kinds in _FAMILIES.items() for kind in kinds
}
_KIND_OF: Final = {tag: kind for kind, tag in _TAG_OF.items()}


# The same few peers come again and again.
_principal = lru_cache(maxsize=4096)(Principal.from_text)
_principal_text = lru_cache(maxsize=4096)(Principal.__str__)


@cache
def _fields(kind: Any) -> "tuple[dataclasses.Field[Any], ...]":
    return dataclasses.fields(kind)


def _value_to_json(name: str, value: Any) -> Any:
    if type(value) in _TAG_OF:
        return to_json(value)
    if isinstance(value, Principal):
        return _principal_text(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    return str(value) if name == "msg_id" else value


def to_json(value: Any) -> Json:
    """A record, event, effect or message as a JSON object.

    Raises:
        UsageError: If it is none of these.
    """
    if type(value) not in _TAG_OF:
        raise UsageError(f"a {type(value).__name__} has no form in JSON")
    family, tag = _TAG_OF[type(value)]
    result: Json = {family: tag}
    for entry in _fields(type(value)):  # type: ignore[arg-type]  # a class is hashable
        item = getattr(value, entry.name)
        if entry.default is dataclasses.MISSING or item != entry.default:
            result[entry.name] = _value_to_json(entry.name, item)
    return result


def _reader(name: str, hint: Any) -> Callable[[Any], Any]:
    """What makes the value of a field of what JSON has for it, null and objects apart."""
    if name == "msg_id":
        return int
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    for choice in typing.get_args(hint) if union else (hint,):
        if choice is Principal:
            return _principal
        if choice is bytes:
            return bytes.fromhex
        if isinstance(choice, type) and issubclass(choice, StrEnum):
            return choice
        if typing.get_origin(choice) is tuple:
            return tuple
    return lambda value: value


@cache
def _readers(kind: type) -> dict[str, Callable[[Any], Any]]:
    return {name: _reader(name, hint) for name, hint in typing.get_type_hints(kind).items()}


def _value_from_json(value: Any, read: Callable[[Any], Any]) -> Any:
    if value is None:
        return None
    return from_json(value) if isinstance(value, dict) else read(value)


def from_json(value: Json) -> Any:
    """The record, event, effect or message that ``to_json`` made this object of.

    Raises:
        UsageError: If the object is not of the format.
    """
    for family in _FAMILIES:
        kind = _KIND_OF.get((family, str(value.get(family))))
        if kind is not None:
            break
    else:
        raise UsageError(f"{value!r} is no flow, event, effect or message")
    readers = _readers(kind)
    given = {name: item for name, item in value.items() if name != family}
    try:
        return kind(**{name: _value_from_json(item, readers[name]) for name, item in given.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{value!r} is not a well-formed {family}: {error}") from error
