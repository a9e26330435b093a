"""Records of the subnet's state as bytes and back: plain CBOR, in which each record names its kind.

Only the kinds listed here can be written or read, so reading never runs anything. The order of the
lists is the format: new kinds and new fields go to the end, and ``FORMAT`` counts the changes.
"""

import dataclasses
import enum
from collections import Counter, deque
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

import cbor2

from bridge.candid import Case
from bridge.errors import StateDirectoryError
from bridge.principal import Principal
from bridge.replica.state.canister import (
    MAX_HISTORY,
    Callback,
    CallContext,
    Canister,
    Change,
    LogRecord,
    QueryStatistics,
    Settings,
    Status,
)
from bridge.replica.state.events import CallDeadline, ChargingDue, StopDeadline, TimerDue
from bridge.replica.state.messages import (
    FromCanister,
    FromSystem,
    FromUser,
    Reject,
    RejectCode,
    Reply,
    Request,
    Response,
    Task,
)
from bridge.replica.state.requests import Phase, RequestRecord

FORMAT: Final = 1

_RECORDS: Final[tuple[type, ...]] = (
    Canister, Settings, CallContext, Callback, Change, LogRecord, QueryStatistics,
    Request, Response, Reply, Reject, FromUser, FromCanister, FromSystem, RequestRecord,
    CallDeadline, TimerDue, StopDeadline, ChargingDue,
)  # fmt: skip
_ENUMS: Final[tuple[type[enum.Enum], ...]] = (Status, RejectCode, Task, Phase)
# What is kept beside the record, or belongs to the process and not to the state.
_LEFT_OUT: Final[dict[type, frozenset[str]]] = {
    Canister: frozenset(
        {"module", "metadata", "chunks", "snapshots", "scheduled", "busy", "begun", "when_idle"}
    ),
    RequestRecord: frozenset({"waiters"}),
}

_PLAIN: Final = frozenset({int, str, bytes, bool, float, type(None)})
_TUPLE, _LIST, _DICT, _DEQUE, _COUNTER, _PRINCIPAL, _CASE = range(7)
_FIRST_ENUM: Final = 20
_FIRST_RECORD: Final = 40


def _names(kind: type) -> tuple[str, ...]:
    left_out = _LEFT_OUT.get(kind, frozenset())
    return tuple(field.name for field in dataclasses.fields(kind) if field.name not in left_out)


_FIELDS: Final = {kind: _names(kind) for kind in _RECORDS}


def _items(values: Any) -> list[Any]:
    return [value if type(value) in _PLAIN else _pack(value) for value in values]


def _pairs(values: dict[Any, Any]) -> list[Any]:
    return _items([part for pair in values.items() for part in pair])


def _record_packer(number: int, kind: type) -> Callable[[Any], list[Any]]:
    names = _FIELDS[kind]
    if not names:
        return lambda _value: [number]
    if len(names) == 1:
        name = names[0]
        return lambda value: [number, *_items((getattr(value, name),))]
    values_of = attrgetter(*names)
    return lambda value: [number, *_items(values_of(value))]


def _enum_packer(number: int) -> Callable[[Any], list[Any]]:
    return lambda value: [number, value.value]


_PACKERS: Final[dict[type, Callable[[Any], list[Any]]]] = {
    tuple: lambda value: [_TUPLE, *_items(value)],
    list: lambda value: [_LIST, *_items(value)],
    dict: lambda value: [_DICT, *_pairs(value)],
    deque: lambda value: [_DEQUE, *_items(value)],
    Counter: lambda value: [_COUNTER, *_pairs(value)],
    Principal: lambda value: [_PRINCIPAL, value.raw],
    Case: lambda value: [_CASE, *_items(value)],
    **{kind: _enum_packer(_FIRST_ENUM + at) for at, kind in enumerate(_ENUMS)},
    **{kind: _record_packer(_FIRST_RECORD + at, kind) for at, kind in enumerate(_RECORDS)},
}


def _pack(value: Any) -> list[Any]:
    packer = _PACKERS.get(type(value))
    if packer is None:
        raise TypeError(f"a {type(value).__name__} is no part of the state")
    return packer(value)


def _values(packed: list[Any]) -> list[Any]:
    return [_unpack(item) if type(item) is list else item for item in packed[1:]]


def _mapping(packed: list[Any]) -> dict[Any, Any]:
    values = _values(packed)
    return dict(zip(values[::2], values[1::2], strict=True))


def _canister(packed: list[Any]) -> Canister:
    made = Canister(**dict(zip(_FIELDS[Canister], _values(packed), strict=True)))
    made.history = deque(made.history, maxlen=MAX_HISTORY)
    return made


def _record_unpacker(kind: type) -> Callable[[list[Any]], Any]:
    names = _FIELDS[kind]
    return lambda packed: kind(**dict(zip(names, _values(packed), strict=True)))


def _enum_unpacker(kind: type[enum.Enum]) -> Callable[[list[Any]], Any]:
    return lambda packed: kind(packed[1])


_UNPACKERS: Final[dict[int, Callable[[list[Any]], Any]]] = {
    _TUPLE: lambda packed: tuple(_values(packed)),
    _LIST: _values,
    _DICT: _mapping,
    _DEQUE: lambda packed: deque(_values(packed)),
    _COUNTER: lambda packed: Counter(_mapping(packed)),
    _PRINCIPAL: lambda packed: Principal(packed[1]),
    _CASE: lambda packed: Case(*_values(packed)),
    **{_FIRST_ENUM + at: _enum_unpacker(kind) for at, kind in enumerate(_ENUMS)},
    **{_FIRST_RECORD + at: _record_unpacker(kind) for at, kind in enumerate(_RECORDS)},
    _FIRST_RECORD: _canister,
}


def _unpack(packed: list[Any]) -> Any:
    return _UNPACKERS[packed[0]](packed)


def dumps(value: Any) -> bytes:
    """Any of the records above, or a container of them, as bytes.

    Raises:
        TypeError: If a part is of none of the kinds that make up the state.
    """
    return cbor2.dumps(value if type(value) in _PLAIN else _pack(value))


def loads(data: bytes) -> Any:
    """What ``dumps`` wrote.

    Raises:
        StateDirectoryError: If the bytes are not that.
    """
    try:
        plain = cbor2.loads(data)
        return _unpack(plain) if type(plain) is list else plain
    except (ValueError, KeyError, IndexError, TypeError, EOFError) as error:
        raise StateDirectoryError(
            f"a record of the state cannot be read: {error}",
            hint="put a backup of the state directory in its place, or begin with an empty one",
        ) from error
