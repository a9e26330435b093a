"""Candid's types as Python objects.

A type is immutable once built; only :class:`Recursive` is filled in after its creation, so that a
type can name itself. Two types are equal when they are the same Candid type, however they were
written down: labels count by their number, order and type names do not. Bytes, values and text are
other modules' business.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Self, final

from bridge.errors import CandidError

MODES: Final = ("query", "oneway", "composite_query")

# Type codes of the binary form, which also order the primitive types here.
OPT: Final = -18
VEC: Final = -19
RECORD: Final = -20
VARIANT: Final = -21
FUNC: Final = -22
SERVICE: Final = -23
PRINCIPAL: Final = -24

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
KEYWORDS: Final = frozenset(
    {
        *("type", "import", "service", "func", "query", "oneway", "composite_query"),
        *("opt", "vec", "record", "variant", "blob", "true", "false", "principal"),
        *("null", "bool", "text", "reserved", "empty", "nat", "int", "float32", "float64"),
        *("nat8", "nat16", "nat32", "nat64", "int8", "int16", "int32", "int64"),
    }
)

# The names of primitive types are often used as labels without quotes, which is never ambiguous.
RESERVED_WORDS: Final = KEYWORDS - {
    *("bool", "text", "reserved", "empty", "nat", "int", "float32", "float64"),
    *("nat8", "nat16", "nat32", "nat64", "int8", "int16", "int32", "int64"),
}


def field_id(label: str | int) -> int:
    """The number of a field or case: that of its name, by the specification's hash, or itself.

    Raises:
        CandidError: If a number does not fit 32 bits, or a name is not Unicode scalar values.
    """
    if isinstance(label, str):
        try:
            encoded = label.encode()
        except UnicodeEncodeError:
            raise CandidError(f"the name {label!r} has a lone surrogate") from None
        number = 0
        for byte in encoded:
            number = (number * 223 + byte) & 0xFFFFFFFF
        return number
    if isinstance(label, bool) or not isinstance(label, int):
        raise CandidError(f"a label is a str or an int, not {type(label).__name__}")
    if not 0 <= label < 1 << 32:
        raise CandidError("a numeric label must be from 0 to 4294967295")
    return label


def quote(text: str) -> str:
    """A text literal of Candid's textual form."""
    out = []
    for char in text:
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\u{{{ord(char):x}}}")
    return '"' + "".join(out) + '"'


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def label_text(label: str | int) -> str:
    """A label as it is written in a ``.did`` file, quoted where it must be."""
    if isinstance(label, int):
        return str(label)
    if _IDENTIFIER.match(label) and label not in KEYWORDS:
        return label
    return quote(label)


class Type:
    """Base of all Candid types."""

    __slots__ = ()

    def children(self) -> tuple[Type, ...]:
        """The types this one is made of, in order."""
        return ()

    def head(self) -> object:
        """What must agree, beside the children, for two types to be equal."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Type) and _equal(self, other)

    def __hash__(self) -> int:
        return hash(resolve(self).head())

    def __repr__(self) -> str:
        from bridge.candid.printer import type_text  # noqa: PLC0415 - printing needs the types

        return type_text(self)


@final
class Primitive(Type):
    """A type without parts, such as ``nat``; use the ready-made instances."""

    __slots__ = ("code", "name")

    def __init__(self, name: str, code: int) -> None:
        self.name = name
        self.code = code

    def head(self) -> object:
        """The kind, which is all there is."""
        return self.code

    def __reduce__(self) -> str:
        return _PYTHON_NAMES[self.name]


Null: Final = Primitive("null", -1)
Bool: Final = Primitive("bool", -2)
Nat: Final = Primitive("nat", -3)
Int: Final = Primitive("int", -4)
Nat8: Final = Primitive("nat8", -5)
Nat16: Final = Primitive("nat16", -6)
Nat32: Final = Primitive("nat32", -7)
Nat64: Final = Primitive("nat64", -8)
Int8: Final = Primitive("int8", -9)
Int16: Final = Primitive("int16", -10)
Int32: Final = Primitive("int32", -11)
Int64: Final = Primitive("int64", -12)
Float32: Final = Primitive("float32", -13)
Float64: Final = Primitive("float64", -14)
Text: Final = Primitive("text", -15)
Reserved: Final = Primitive("reserved", -16)
Empty: Final = Primitive("empty", -17)
PrincipalType: Final = Primitive("principal", PRINCIPAL)

PRIMITIVES: Final = {
    primitive.name: primitive
    for primitive in (
        *(Null, Bool, Nat, Int, Nat8, Nat16, Nat32, Nat64, Int8, Int16, Int32, Int64),
        *(Float32, Float64, Text, Reserved, Empty, PrincipalType),
    )
}
PRIMITIVES_BY_CODE: Final = {primitive.code: primitive for primitive in PRIMITIVES.values()}
_PYTHON_NAMES: Final = {name: name.capitalize() for name in PRIMITIVES} | {
    "principal": "PrincipalType"
}


def _checked(value: object, where: str) -> Type:
    if not isinstance(value, Type):
        raise CandidError(
            f"{where} must be a Candid type, not {type(value).__name__}",
            hint="use the types of bridge.candid, such as candid.Nat",
        )
    return value


@final
class Opt(Type):
    """``opt t``: None, or a value of ``content``."""

    __slots__ = ("content",)

    def __init__(self, content: Type) -> None:
        self.content = _checked(content, "the content of an opt")

    def children(self) -> tuple[Type, ...]:
        """The content."""
        return (self.content,)

    def head(self) -> object:
        """The kind."""
        return OPT


@final
class Vec(Type):
    """``vec t``: a list of values of ``element``; ``bytes`` where that is ``nat8``."""

    __slots__ = ("element",)

    def __init__(self, element: Type) -> None:
        self.element = _checked(element, "the element of a vec")

    def children(self) -> tuple[Type, ...]:
        """The element."""
        return (self.element,)

    def head(self) -> object:
        """The kind."""
        return VEC


class Field(NamedTuple):
    """A field of a record or a case of a variant."""

    id: int
    label: str | int
    type: Type


def _fields(given: Mapping[str | int, Type] | Mapping[str, Type], what: str) -> tuple[Field, ...]:
    if not isinstance(given, Mapping):
        raise CandidError(f"a {what}'s label and type come in a dict, not in {given!r}")
    fields = []
    seen: dict[int, str | int] = {}
    for given_label, content in given.items():
        number = field_id(given_label)
        # A member of an enumeration becomes a plain str or int: labels are written into code.
        label = (
            str.__str__(given_label) if isinstance(given_label, str) else int.__int__(given_label)
        )
        if number in seen:
            raise CandidError(
                f"{what} has {seen[number]!r} and {label!r}, which are one label ({number})",
                hint="rename one of them",
            )
        seen[number] = label
        fields.append(Field(number, label, _checked(content, f"{what} {label!r}")))
    return tuple(fields)


class _Labelled(Type):
    """What records and variants share: types under labels.

    Args:
        given: The types by label.
        what: One of them, for an error's message.
    """

    __slots__ = ("declared", "fields")
    _KIND: ClassVar[int]

    def __init__(self, given: Mapping[Any, Type], what: str) -> None:
        self.declared = _fields(given, what)
        self.fields = tuple(sorted(self.declared))

    def children(self) -> tuple[Type, ...]:
        """The types under the labels, by rising number."""
        return tuple(field.type for field in self.fields)

    def head(self) -> object:
        """The kind, and the labels by number."""
        return (self._KIND, tuple(field.id for field in self.fields))


@final
class Record(_Labelled):
    """``record { ... }``: a dict by label, a tuple where labels are just 0, 1, 2 ..., or a class.

    Args:
        fields: Types by label, or a sequence of types for the tuple form.
        into: A dataclass or NamedTuple with a field for each label: decoding makes it, encoding
            takes it (a dict as well).

    Raises:
        CandidError: If two labels collide, or ``into`` does not match the fields.
    """

    __slots__ = ("into", "is_tuple")
    _KIND = RECORD

    def __init__(
        self,
        fields: Mapping[str, Type] | Mapping[str | int, Type] | Sequence[Type] = (),
        *,
        into: type[Any] | None = None,
    ) -> None:
        given: Mapping[Any, Type] = (
            dict(enumerate(fields)) if isinstance(fields, Sequence) else fields
        )
        super().__init__(given, "record field")
        self.is_tuple = bool(self.fields) and all(
            field.id == field.label == place for place, field in enumerate(self.fields)
        )
        self.into = into
        if into is not None:
            _check_class(into, self.declared)


def _check_class(into: type[Any], fields: Iterable[Field]) -> None:
    if not isinstance(into, type):
        raise CandidError("a record can be read into a class, not into an instance")
    name = into.__name__
    if issubclass(into, tuple) and hasattr(into, "_fields"):
        available = set(into._fields)
        required = available - set(getattr(into, "_field_defaults", ()))
    elif dataclasses.is_dataclass(into):
        available = {field.name for field in dataclasses.fields(into) if field.init}
        required = {
            field.name
            for field in dataclasses.fields(into)
            if field.init
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        }
    else:
        raise CandidError(f"a record can be read into a dataclass or a NamedTuple, not {name}")
    labels = {field.label for field in fields}
    if not labels <= available or not required <= labels:
        odd = sorted(str(label) for label in (labels - available) | (required - labels))
        raise CandidError(
            f"{name} does not match the record's fields: {', '.join(odd)}",
            hint="the class needs one field for each label, and defaults for any others",
        )


@final
class Variant(_Labelled):
    """``variant { ... }``: one of several cases, as :class:`Case`.

    Raises:
        CandidError: If two labels collide.
    """

    __slots__ = ()
    _KIND = VARIANT

    def __init__(self, cases: Mapping[str, Type] | Mapping[str | int, Type]) -> None:
        super().__init__(cases, "variant case")


@final
class Func(Type):
    """``func (...) -> (...)``: a reference to a method, as :class:`FuncRef`.

    Args:
        args: Types of the arguments.
        results: Types of the results.
        modes: Any of ``query``, ``oneway``, ``composite_query``.
        arg_names: Names of the arguments, None where one has none; documentation only.
        result_names: The same for the results.

    Raises:
        CandidError: If a mode is unknown, or ``oneway`` has results.
    """

    __slots__ = ("arg_names", "args", "modes", "result_names", "results")

    def __init__(
        self,
        args: Iterable[Type] = (),
        results: Iterable[Type] = (),
        modes: Iterable[str] = (),
        *,
        arg_names: Sequence[str | None] = (),
        result_names: Sequence[str | None] = (),
    ) -> None:
        self.args = tuple(_checked(arg, "an argument") for arg in args)
        self.results = tuple(_checked(result, "a result") for result in results)
        given = set(modes)
        if unknown := sorted(given - set(MODES)):
            raise CandidError(
                f"{unknown[0]!r} is not a function's mode", hint=f"choose of {', '.join(MODES)}"
            )
        if "oneway" in given and self.results:
            raise CandidError("a oneway function has no results")
        self.modes = tuple(mode for mode in MODES if mode in given)
        self.arg_names = tuple(arg_names) or (None,) * len(self.args)
        self.result_names = tuple(result_names) or (None,) * len(self.results)

    def children(self) -> tuple[Type, ...]:
        """Arguments, then results."""
        return self.args + self.results

    def head(self) -> object:
        """The kind, how many arguments and results, and the modes."""
        return (FUNC, len(self.args), len(self.results), self.modes)


@final
class Service(Type):
    """``service { ... }``: a reference to a service, as :class:`ServiceRef`.

    Args:
        methods: Function types by method name.

    Raises:
        CandidError: If a method's type is not a function type.
    """

    __slots__ = ("_methods",)

    def __init__(self, methods: Mapping[str, Type] | None = None) -> None:
        named = dict(methods or {})
        for name, method in named.items():
            if not isinstance(name, str):
                raise CandidError(f"a method's name is a str, not {type(name).__name__}")
            field_id(name)  # refuses names that cannot be encoded
            if not isinstance(method, Func | Recursive):
                raise CandidError(f"method {name!r} must be a function type, not {method!r}")
        self._methods = named

    @property
    def methods(self) -> dict[str, Func]:
        """Function types by method name, in the order given."""
        return {name: self._method(name) for name in self._methods}

    def _method(self, name: str) -> Func:
        method = resolve(self._methods[name])
        if not isinstance(method, Func):
            raise CandidError(f"method {name!r} must be a function type, not {method!r}")
        return method

    @property
    def declared(self) -> Mapping[str, Type]:
        """As :attr:`methods`, but with the type references as they were given."""
        return self._methods

    def sorted_methods(self) -> list[tuple[str, Type]]:
        """Name and type of each method, in the order of the binary form."""
        return sorted(self._methods.items(), key=lambda item: item[0].encode())

    def children(self) -> tuple[Type, ...]:
        """The methods' types, in the order of the binary form."""
        return tuple(method for _, method in self.sorted_methods())

    def head(self) -> object:
        """The kind, and the names of the methods."""
        return (SERVICE, tuple(sorted(self._methods)))


@final
class Recursive(Type):
    """A type that is defined after it is used, so that it can contain itself.

    Args:
        name: For printing.
    """

    __slots__ = ("_definition", "name")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._definition: Type | None = None

    def define(self, definition: Type) -> Self:
        """Say what it is, once.

        Raises:
            CandidError: If it is defined already, or would be nothing but itself.
        """
        if self._definition is not None:
            raise CandidError(f"the recursive type {self.name!r} is defined already")
        step: Type | None = _checked(definition, "a definition")
        while isinstance(step, Recursive):
            if step is self:
                raise CandidError(f"the type {self.name!r} is only equal to itself")
            step = step._definition  # noqa: SLF001 - the same class
        self._definition = definition
        return self

    @property
    def definition(self) -> Type:
        """What it is.

        Raises:
            CandidError: If it has not been defined.
        """
        if self._definition is None:
            raise CandidError(f"the recursive type {self.name!r} is not defined yet")
        return self._definition

    def children(self) -> tuple[Type, ...]:
        """Those of the definition."""
        return resolve(self).children()

    def head(self) -> object:
        """That of the type it names."""
        return resolve(self).head()


Blob: Final = Vec(Nat8)


def resolve(type_: Type) -> Type:
    """What a type is, behind any :class:`Recursive`.

    Raises:
        CandidError: If a recursive type is not defined.
    """
    while isinstance(type_, Recursive):
        type_ = type_.definition
    return type_


def _equal(left: Type, right: Type) -> bool:
    """Whether two types unfold to the same, possibly infinite, tree."""
    assumed: set[tuple[int, int]] = set()
    todo = [(left, right)]
    while todo:
        a, b = (resolve(one) for one in todo.pop())
        if a is b or (id(a), id(b)) in assumed:
            continue
        assumed.add((id(a), id(b)))
        if a.head() != b.head():
            return False
        todo.extend(zip(a.children(), b.children(), strict=True))
    return True
