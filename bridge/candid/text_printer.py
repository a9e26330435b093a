"""Printing values as text, in the form that can be read back.

The types say what the values are; a value that is not of its type is refused as when it is encoded.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

from bridge.candid import types as t
from bridge.candid.codec import encode
from bridge.candid.values import Case, Some
from bridge.errors import CandidError

_WIDTH: Final = 88


def _blob_text(data: bytes) -> str:
    out = []
    for byte in data:
        if byte in (0x22, 0x5C) or not 0x20 <= byte < 0x7F:
            out.append(f"\\{byte:02x}")
        else:
            out.append(chr(byte))
    return 'blob "' + "".join(out) + '"'


class _Writer:
    """Writes values of known types."""

    def __init__(self, *, annotate: bool) -> None:
        self._annotate = annotate

    def value(self, value: Any, named: t.Type) -> str:
        """A value's text."""
        type_ = t.resolve(named)
        match type_:
            case t.Primitive():
                return self._primitive(value, type_)
            case t.Opt():
                return self._opt(value, type_)
            case t.Vec():
                if type_.element is t.Nat8:
                    return _blob_text(bytes(value))
                return self._block("vec", [self.value(item, type_.element) for item in value])
            case t.Record():
                return self._record(value, type_)
            case t.Variant():
                return self._variant(value, type_)
            case t.Func():
                return f"func {t.quote(str(value.service))}.{t.label_text(value.method)}"
            case _:
                return f"service {t.quote(str(value.service))}"

    def _primitive(self, value: Any, type_: t.Primitive) -> str:
        if type_ in (t.Null, t.Reserved):
            text = "null"
        elif type_ is t.Bool:
            return "true" if value else "false"
        elif type_ is t.Text:
            return t.quote(value)
        elif type_ is t.PrincipalType:
            return f"principal {t.quote(str(value))}"
        elif type_ in (t.Float32, t.Float64):
            text = repr(float(value)) if math.isfinite(value) else str(float(value))
        else:
            text = _decimal(value)
        if self._annotate and type_ not in (t.Null, t.Int, t.Float64):
            return f"({text} : {type_.name})"
        return text

    def _opt(self, value: Any, type_: t.Opt) -> str:
        if value is None:
            return "null"
        return f"opt {self.value(value.value if isinstance(value, Some) else value, type_.content)}"

    def _record(self, value: Any, type_: t.Record) -> str:
        fields = type_.fields if type_.is_tuple else type_.declared
        parts = []
        for one in fields:
            if isinstance(value, dict):
                content = value.get(one.label)
            elif type_.is_tuple:
                content = value[one.id]
            else:
                content = getattr(value, str(one.label))
            text = self.value(content, one.type)
            parts.append(text if type_.is_tuple else f"{t.label_text(one.label)} = {text}")
        return self._block("record", parts)

    def _variant(self, value: Case, type_: t.Variant) -> str:
        for case in type_.fields:
            if case.label == value.label:
                if t.resolve(case.type) is t.Null:
                    return f"variant {{ {t.label_text(case.label)} }}"
                content = self.value(value.value, case.type)
                return f"variant {{ {t.label_text(case.label)} = {content} }}"
        raise CandidError(f"the variant has no case {value.label!r}")

    def _block(self, word: str, parts: list[str]) -> str:
        if not parts:
            return f"{word} {{}}"
        if sum(map(len, parts)) + 2 * len(parts) < _WIDTH and not any("\n" in p for p in parts):
            return f"{word} {{ {'; '.join(parts)} }}"
        inner = "".join("  " + part.replace("\n", "\n  ") + ";\n" for part in parts)
        return f"{word} {{\n{inner}}}"

    def arguments(self, values: Sequence[Any], types: Sequence[t.Type]) -> str:
        """Values in parentheses."""
        parts = [self.value(value, type_) for value, type_ in zip(values, types, strict=True)]
        parts = [
            part[1:-1] if part.startswith("(") and "\n" not in part else part for part in parts
        ]
        if sum(map(len, parts)) < _WIDTH and not any("\n" in part for part in parts):
            return f"({', '.join(parts)})"
        inner = "".join("  " + part.replace("\n", "\n  ") + ",\n" for part in parts)
        return f"(\n{inner})"


def _decimal(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to print very long numbers in decimal
        return ("-" if value < 0 else "") + hex(abs(value))


def values_text(values: Sequence[Any], types: Sequence[t.Type], *, annotate: bool = True) -> str:
    """Print values in parentheses.

    Args:
        values: The values.
        types: Their types.
        annotate: Whether numbers get their types, so that the text says them by itself.

    Raises:
        CandidError: If a value is not of its type, or nested too deeply to be printed.
    """
    encode(types, values)  # refuses values that are not of their types, with the place
    try:
        return _Writer(annotate=annotate).arguments(values, types)
    except RecursionError:
        raise CandidError("the values are nested too deeply to be printed") from None
