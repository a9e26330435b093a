"""Reading values as text, such as ``(record { id = 5; name = "x" }, opt 3)``.

Reading needs the types, since the text alone does not say them; without types they are inferred as
far as the text tells. The binary form is the codec's business.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.candid import types as t
from bridge.candid.codec import decode, encode
from bridge.candid.did import Interface, build_type
from bridge.candid.lexer import Cursor, Token, fault, integer
from bridge.candid.printer import type_text
from bridge.candid.subtype import is_subtype
from bridge.candid.syntax import Parser
from bridge.candid.values import Case, FuncRef, ServiceRef, Some
from bridge.errors import CandidError, PrincipalError
from bridge.principal import Principal

_MAX_DEPTH: Final = 128


@dataclass(slots=True)
class _Value:
    """A value as written.

    Attributes:
        kind: A keyword, ``number``, ``text`` or ``typed``.
        at: Character offset.
        number: A number as written, with its sign.
        content: What a text literal stands for.
        labels: Labels of a record's fields or a variant's case.
        parts: The parts.
        type: The type of a ``typed`` value.
        principal: Who a reference is to.
        method: The method of a function reference.
    """

    kind: str
    at: int
    number: str = ""
    content: bytes = b""
    labels: list[str | int] = field(default_factory=list)
    parts: list["_Value"] = field(default_factory=list)
    type: t.Type | None = None
    principal: Principal | None = None
    method: str = ""


class _Reader:
    """Recursive descent over one text."""

    def __init__(self, source: str, interface: Interface | None) -> None:
        self.types = Parser(source)
        self.cursor: Cursor = self.types.cursor
        self.interface = interface
        self.depth = 0

    def arguments(self) -> list[_Value]:
        """Values in parentheses."""
        cursor = self.cursor
        cursor.expect("(", "before the values")
        values = []
        while not cursor.take(")"):
            values.append(self.annotated())
            if not cursor.take(",") and not cursor.at_symbol(")"):
                cursor.fail("expected ',' or ')'")
        if cursor.now.kind != "end":
            cursor.fail("expected nothing after the values")
        return values

    def annotated(self) -> _Value:
        """A value, perhaps with its type."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.cursor.fail(f"values are nested more than {_MAX_DEPTH} deep")
        value = self._value()
        if self.cursor.take(":"):
            node = self.types.type()
            type_ = build_type(self.cursor.source, node, self.interface)
            value = _Value("typed", value.at, parts=[value], type=type_)
        self.depth -= 1
        return value

    def _value(self) -> _Value:
        cursor = self.cursor
        token = cursor.next()
        if token.kind == "symbol" and token.text == "(":
            value = self.annotated()
            cursor.expect(")", "after the value")
            return value
        if token.kind == "symbol" and token.text in "+-":
            return self._number(cursor.next(), token)
        if token.kind in ("nat", "float"):
            return self._number(token, None)
        if token.kind == "text":
            return _Value("text", token.at, content=token.content)
        if token.kind == "id":
            return self._word(token)
        return cursor.fail("expected a value", token)

    def _number(self, token: Token, sign: Token | None) -> _Value:
        minus = "-" if sign is not None and sign.text == "-" else ""
        at = token.at if sign is None else sign.at
        if token.kind == "id" and token.text in ("inf", "nan"):
            return _Value("float", at, number=minus + token.text)
        if token.kind not in ("nat", "float"):
            self.cursor.fail("expected a number", token)
        if token.kind == "nat":
            value = integer(self.cursor.source, token)
            if sign is not None and token.text[:2].lower() == "0x":
                self.cursor.fail("a hexadecimal integer has no sign", token)
            return _Value("number", at, number=minus + hex(value))
        return _Value("float", at, number=minus + token.text.replace("_", ""))

    def _word(self, token: Token) -> _Value:
        cursor = self.cursor
        word = token.text
        if word in ("null", "true", "false"):
            return _Value(word, token.at)
        if word in ("inf", "nan"):
            return _Value("float", token.at, number=word)
        if word == "opt":
            self.depth += 1
            if self.depth > _MAX_DEPTH:
                cursor.fail(f"values are nested more than {_MAX_DEPTH} deep", token)
            inner = self._value()
            self.depth -= 1
            return _Value("opt", token.at, parts=[inner])
        if word == "vec":
            return self._vec(token)
        if word == "record":
            return self._record(token)
        if word == "variant":
            return self._variant(token)
        if word == "blob":
            return _Value("blob", token.at, content=self._literal("after 'blob'").content)
        if word == "principal":
            return _Value("principal", token.at, principal=self._principal())
        if word == "service":
            return _Value("service", token.at, principal=self._principal())
        if word == "func":
            principal = self._principal()
            cursor.expect(".", "between a service and its method")
            method = cursor.next()
            if method.kind not in ("id", "text"):
                cursor.fail("expected a method's name", method)
            name = cursor.text(method) if method.kind == "text" else method.text
            return _Value("func", token.at, principal=principal, method=name)
        return cursor.fail("expected a value", token)

    def _literal(self, what: str) -> Token:
        if self.cursor.now.kind != "text":
            self.cursor.fail(f"expected a text literal {what}")
        return self.cursor.next()

    def _principal(self) -> Principal:
        token = self._literal("with a principal")
        try:
            return Principal.from_text(self.cursor.text(token))
        except PrincipalError as error:
            raise fault(self.cursor.source, token.at, error.message, hint=error.hint) from None

    def _vec(self, start: Token) -> _Value:
        cursor = self.cursor
        value = _Value("vec", start.at)
        cursor.expect("{", "after 'vec'")
        while not cursor.take("}"):
            value.parts.append(self.annotated())
            self._separator()
        return value

    def _separator(self) -> None:
        if not self.cursor.take(";") and not self.cursor.at_symbol("}"):
            self.cursor.fail("expected ';' or '}'")

    def _record(self, start: Token) -> _Value:
        cursor = self.cursor
        value = _Value("record", start.at)
        cursor.expect("{", "after 'record'")
        following = 0
        ids: set[int] = set()
        while not cursor.take("}"):
            token, after = cursor.now, cursor.ahead()
            label: str | int = following
            if after.kind == "symbol" and after.text == "=":
                label = self._label()
                cursor.next()
            number = t.field_id(label)
            if number in ids:
                raise fault(cursor.source, token.at, f"the field {label!r} stands twice")
            ids.add(number)
            following = number + 1
            value.labels.append(label)
            value.parts.append(self.annotated())
            self._separator()
        return value

    def _label(self) -> str | int:
        cursor = self.cursor
        token = cursor.next()
        if token.kind == "text":
            return cursor.text(token)
        if token.kind == "nat":
            number = integer(cursor.source, token)
            if number >= 1 << 32:
                cursor.fail("a numeric label must be below 4294967296", token)
            return number
        if token.kind == "id" and token.text not in t.RESERVED_WORDS:
            return token.text
        return cursor.fail("expected a label", token, hint="write a keyword in quotes")

    def _variant(self, start: Token) -> _Value:
        cursor = self.cursor
        cursor.expect("{", "after 'variant'")
        label = self._label()
        part = _Value("null", start.at)
        if cursor.take("="):
            part = self.annotated()
        cursor.take(";")
        cursor.expect("}", "after the one case")
        return _Value("variant", start.at, labels=[label], parts=[part])


class _Typer:
    """Gives values as written the types that are expected."""

    def __init__(self, source: str, *, strict: bool) -> None:
        self._source = source
        self._strict = strict

    def _refuse(self, value: _Value, type_: t.Type) -> CandidError:
        shown = {"number": "an integer", "float": "a float", "text": "a text"}.get(
            value.kind, value.kind
        )
        expected = type_text(type_)
        if len(expected) > 60:
            expected = expected[:60] + "..."
        return fault(self._source, value.at, f"{shown} where {expected} is expected")

    def value(self, value: _Value, named: t.Type) -> Any:
        """The Python value, of exactly that type."""
        type_ = t.resolve(named)
        if type_ is t.Reserved:
            return None
        if isinstance(type_, t.Opt):
            return self._opt(value, type_)
        if value.kind == "typed":
            return self._typed(value, type_)
        if isinstance(type_, t.Primitive):
            return self._primitive(value, type_)
        if isinstance(type_, t.Vec):
            return self._vec(value, type_)
        if isinstance(type_, t.Record) and value.kind == "record":
            return self._record(value, type_)
        if isinstance(type_, t.Variant) and value.kind == "variant":
            number = t.field_id(value.labels[0])
            for case in type_.fields:
                if case.id == number:
                    return Case(case.label, self.value(value.parts[0], case.type))
            raise fault(self._source, value.at, f"there is no case {value.labels[0]!r}")
        if isinstance(type_, t.Service) and value.kind == "service":
            assert value.principal is not None
            return ServiceRef(value.principal)
        if isinstance(type_, t.Func) and value.kind == "func":
            assert value.principal is not None
            return FuncRef(value.principal, value.method)
        raise self._refuse(value, type_)

    def _typed(self, value: _Value, type_: t.Type) -> Any:
        """A value with a type of its own, read as the expected one."""
        own = value.type
        assert own is not None
        found = self.value(value.parts[0], own)
        if self._strict and not is_subtype(own, type_):
            raise fault(
                self._source,
                value.at,
                f"{type_text(own)} is not a subtype of {type_text(type_)}",
            )
        return decode([type_], encode([own], [found]))[0]

    def _check_typed_content(self, value: _Value, content: t.Type) -> None:
        """Any type is a subtype of any opt; where null would come of it, say so instead."""
        own = t.resolve(value.type or t.Null)
        inside = own.content if isinstance(own, t.Opt) else own
        if self._strict and own not in (t.Null, t.Reserved) and not is_subtype(inside, content):
            raise fault(
                self._source,
                value.at,
                f"{type_text(inside)} is not a subtype of {type_text(content)}",
            )

    def _opt(self, value: _Value, type_: t.Opt) -> Any:
        content = t.resolve(type_.content)
        inner_null = isinstance(content, t.Opt) or content in (t.Null, t.Reserved)
        if value.kind == "typed":
            self._check_typed_content(value, content)
            return self._typed(value, type_)
        if value.kind == "null":
            return None
        if value.kind == "opt":
            inside = value.parts[0]
        elif inner_null:
            # Only the spelled-out form tells a present null from an absent one.
            if self._strict:
                raise self._refuse(value, type_)
            return None
        else:
            inside = value
        try:
            found = self.value(inside, content)
        except CandidError:
            if self._strict:
                raise
            return None
        return Some(found) if inner_null else found

    def _primitive(self, value: _Value, type_: t.Primitive) -> Any:
        kind = value.kind
        if type_ is t.Null and kind == "null":
            return None
        if type_ is t.Bool and kind in ("true", "false"):
            return kind == "true"
        if type_ is t.Text and kind == "text":
            try:
                return value.content.decode()
            except UnicodeDecodeError:
                raise fault(self._source, value.at, "the text is not UTF-8") from None
        if type_ is t.PrincipalType and kind == "principal":
            return value.principal
        if type_ is t.PrincipalType and kind == "service" and not self._strict:
            return value.principal
        if type_ in (t.Float32, t.Float64) and kind in ("number", "float"):
            return self._float(value, type_)
        if kind == "number" and type_.name.startswith(("nat", "int")):
            number = int(value.number, 16)
            bits = type_.name[3:]
            low = 0 if type_.name.startswith("nat") else -(1 << int(bits) - 1) if bits else None
            high = None
            if bits:
                high = 1 << int(bits) if low == 0 else 1 << int(bits) - 1
            if (low is not None and number < low) or (high is not None and number >= high):
                raise fault(self._source, value.at, f"the number does not fit {type_.name}")
            return number
        raise self._refuse(value, type_)

    def _float(self, value: _Value, type_: t.Primitive) -> float:
        text = value.number
        try:
            if value.kind == "number":
                number = float(int(text, 16))
            elif "0x" in text.lower():
                number = float.fromhex(text)
            else:
                number = float(text)
            if type_ is t.Float32:
                (number,) = struct.unpack("<f", struct.pack("<f", number))
        except OverflowError:
            number = math.inf
        if math.isinf(number) and "inf" not in text:
            raise fault(self._source, value.at, f"the number does not fit {type_.name}")
        return number

    def _vec(self, value: _Value, type_: t.Vec) -> Any:
        element = t.resolve(type_.element)
        if value.kind == "blob" and element is t.Nat8:
            return value.content
        if value.kind != "vec":
            raise self._refuse(value, type_)
        items = [self.value(part, element) for part in value.parts]
        return bytes(items) if element is t.Nat8 else items

    def _record(self, value: _Value, type_: t.Record) -> Any:
        given = {
            t.field_id(label): part for label, part in zip(value.labels, value.parts, strict=True)
        }
        found: dict[Any, Any] = {}
        for one in type_.declared:
            part = given.pop(one.id, None)
            if part is not None:
                found[one.label] = self.value(part, one.type)
                continue
            wanted = t.resolve(one.type)
            if not isinstance(wanted, t.Opt) and wanted not in (t.Null, t.Reserved):
                raise fault(
                    self._source, value.at, f"the field {t.label_text(one.label)} is missing"
                )
            found[one.label] = None
        if given and self._strict:
            odd = next(label for label in value.labels if t.field_id(label) in given)
            raise fault(self._source, value.at, f"the record has no field {odd!r}")
        if type_.into is not None:
            return type_.into(**found)
        if type_.is_tuple:
            return tuple(found[place] for place in range(len(found)))
        return found


def parse_values(
    text: str,
    types: Sequence[t.Type],
    *,
    interface: Interface | None = None,
    strict: bool = True,
) -> list[Any]:
    """Read values in parentheses, as the given types.

    Args:
        text: Such as ``(5, opt "x")``.
        types: The types of the values.
        interface: Whose type names the text may use in annotations.
        strict: Whether unknown fields, surplus values, and options whose content does not fit are
            errors; else they are ignored, or null, as when decoding.

    Raises:
        CandidError: If the text is malformed or does not fit, with line, column and offset.
    """
    reader = _Reader(text, interface)
    try:
        written = reader.arguments()
        typer = _Typer(text, strict=strict)
        if len(written) > len(types) and strict:
            at = written[len(types)].at
            raise fault(text, at, f"expected {len(types)} values, not {len(written)}")
        values = [typer.value(value, type_) for value, type_ in zip(written, types, strict=False)]
    except RecursionError:
        raise CandidError("the values are nested too deeply for the stack that is left") from None
    for type_ in types[len(written) :]:
        wanted = t.resolve(type_)
        if not isinstance(wanted, t.Opt) and wanted not in (t.Null, t.Reserved):
            raise fault(text, len(text), f"expected {len(types)} values, not {len(written)}")
        values.append(None)
    return values


def infer_values(
    text: str, *, interface: Interface | None = None
) -> tuple[list[t.Type], list[Any]]:
    """Read values in parentheses, and infer their types.

    A number without annotation is ``int`` or ``float64``; the elements of a vec must have one type.

    Raises:
        CandidError: If the text is malformed, or a type cannot be inferred.
    """
    reader = _Reader(text, interface)
    try:
        written = reader.arguments()
        types = [_inferred(text, value) for value in written]
        typer = _Typer(text, strict=True)
        values = [typer.value(value, type_) for value, type_ in zip(written, types, strict=True)]
    except RecursionError:
        raise CandidError("the values are nested too deeply for the stack that is left") from None
    return types, values


_INFERRED: Final = {
    "number": t.Int,
    "float": t.Float64,
    "text": t.Text,
    "true": t.Bool,
    "false": t.Bool,
    "null": t.Null,
    "principal": t.PrincipalType,
    "blob": t.Blob,
    "service": t.Service(),
    "func": t.Func(),
}


def _inferred(source: str, value: _Value) -> t.Type:
    if value.kind in _INFERRED:
        return _INFERRED[value.kind]
    if value.kind == "typed":
        assert value.type is not None
        return value.type
    parts = [_inferred(source, part) for part in value.parts]
    if value.kind == "opt":
        return t.Opt(parts[0])
    if value.kind == "record":
        return t.Record(dict(zip(value.labels, parts, strict=True)))
    if value.kind == "variant":
        return t.Variant({value.labels[0]: parts[0]})
    for place, part in enumerate(parts):
        if part != parts[0]:
            raise fault(
                source,
                value.parts[place].at,
                f"the vec's elements differ: {type_text(parts[0])} and {type_text(part)}",
                hint="write the type after the first element, as in (1 : int)",
            )
    return t.Vec(parts[0] if parts else t.Empty)
