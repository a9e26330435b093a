"""The least value of each Candid type: arguments that any method can decode, whatever it does."""

from typing import Any, Final

from bridge import candid
from bridge.candid import Case
from bridge.candid.types import Primitive
from bridge.principal import Principal

_NOTHING: Final = {
    **dict.fromkeys(("nat", "nat8", "nat16", "nat32", "nat64"), 0),
    **dict.fromkeys(("int", "int8", "int16", "int32", "int64"), 0),
    "float32": 0.0,
    "float64": 0.0,
    "bool": False,
    "text": "",
    "null": None,
    "reserved": None,
    "principal": Principal.management(),
}


def least_arguments(function: candid.Func) -> bytes | None:
    """The argument of a call with the least values.

    Args:
        function: The method's type.

    Returns:
        The bytes; ``None`` where a type has no such value here: references, and ``empty``.
    """
    try:
        return candid.encode(function.args, [_least(type_) for type_ in function.args])
    except KeyError:
        return None


def _least(type_: candid.Type) -> Any:
    known = candid.resolve(type_)
    match known:
        case candid.Opt():
            return None
        case candid.Vec():
            return b"" if known == candid.Blob else []
        case candid.Record():
            values = [_least(field.type) for field in known.fields]
            if known.is_tuple:
                return tuple(values)
            return {field.label: value for field, value in zip(known.fields, values, strict=True)}
        case candid.Variant():
            first = known.fields[0]
            return Case(first.label, _least(first.type))
        case Primitive():
            return _NOTHING[known.name]
    raise KeyError(type_)
