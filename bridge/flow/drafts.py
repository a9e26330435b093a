"""Mutable copies of frozen records, for the length of one step.

A step changes several fields, some twice. Copying a frozen dataclass of thirty fields for each
change took most of a step's time; a draft is copied once, changed in place, and then becomes the
frozen record without another copy: it has the very same slots, so its class can be exchanged.
"""

import dataclasses
from operator import attrgetter
from typing import Any, Final, TypeVar

from bridge.flow.records import ReceiverFlow, SenderFlow

F = TypeVar("F", SenderFlow, ReceiverFlow)


def _draft_class(kind: type[SenderFlow | ReceiverFlow]) -> Any:
    names = [entry.name for entry in dataclasses.fields(kind)]
    return dataclasses.make_dataclass(f"{kind.__name__}Draft", names, slots=True, eq=False)


_KINDS: Final = (SenderFlow, ReceiverFlow)
_DRAFT: Final[dict[type, Any]] = {kind: _draft_class(kind) for kind in _KINDS}
_VALUES: Final[dict[type, Any]] = {
    kind: attrgetter(*(entry.name for entry in dataclasses.fields(kind))) for kind in _KINDS
}


_BLANK: Final[dict[type, tuple[Any, ...]]] = {
    kind: tuple(
        None if entry.default is dataclasses.MISSING else entry.default
        for entry in dataclasses.fields(kind)
    )
    for kind in _KINDS
}


def blank(kind: type[SenderFlow | ReceiverFlow]) -> Any:
    """A draft of a new record: fields have their default, those without one are to be set."""
    return _DRAFT[kind](*_BLANK[kind])


def draft(record: SenderFlow | ReceiverFlow) -> Any:
    """A copy whose fields can be set."""
    kind = type(record)
    return _DRAFT[kind](*_VALUES[kind](record))


def freeze(draft: Any, kind: type[F]) -> F:
    """Make a draft the frozen record that it was copied from a record of; it is not copied."""
    draft.__class__ = kind
    frozen: F = draft
    return frozen
