"""Types and interfaces as text, in the form of ``.did`` files."""

from collections.abc import Mapping, Sequence
from typing import Final

from bridge.candid import types as t
from bridge.candid.did import Interface

# A type without names can unfold to more text than there is memory; the rest is left out.
_MAX_PARTS: Final = 400
_MAX_DEPTH: Final = 40


class _Printer:
    """Writes types, with names for those that have one.

    Args:
        names: Names by identity of the type.
        limit: How many parts to write before leaving the rest out; None for all.
    """

    def __init__(self, names: Mapping[int, str], limit: int | None = None) -> None:
        self._names = names
        self._left = limit
        self._depth = 0

    def type(self, type_: t.Type) -> str:
        """A type, by its name if it has one."""
        if id(type_) in self._names:
            return self._names[id(type_)]
        if isinstance(type_, t.Recursive) and type_.name:
            return type_.name
        return self.body(type_)

    def body(self, type_: t.Type) -> str:
        """A type, spelled out."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0 or self._depth > _MAX_DEPTH:
                return "..."
        self._depth += 1
        text = self._body(type_)
        self._depth -= 1
        return text

    def _body(self, type_: t.Type) -> str:
        match type_:
            case t.Primitive():
                return type_.name
            case t.Opt():
                return f"opt {self.type(type_.content)}"
            case t.Vec():
                if type_.element is t.Nat8:
                    return "blob"
                return f"vec {self.type(type_.element)}"
            case t.Record():
                return self._record(type_)
            case t.Variant():
                cases = [
                    t.label_text(field.label)
                    if field.type is t.Null
                    else f"{t.label_text(field.label)} : {self.type(field.type)}"
                    for field in type_.declared
                ]
                return f"variant {self._block(cases)}"
            case t.Func():
                return f"func {self.function(type_)}"
            case t.Service():
                return f"service {self.methods(type_)}"
            case t.Recursive():
                return self.body(t.resolve(type_)) if type_._definition else "recursive"  # noqa: SLF001 - must not raise
        return type(type_).__name__

    def _record(self, type_: t.Record) -> str:
        if type_.is_tuple:
            return f"record {self._block([self.type(field.type) for field in type_.fields])}"
        fields = [
            f"{t.label_text(field.label)} : {self.type(field.type)}" for field in type_.declared
        ]
        return f"record {self._block(fields)}"

    def _block(self, parts: Sequence[str]) -> str:
        if not parts:
            return "{}"
        line = "; ".join(parts)
        if len(line) <= 60 and "\n" not in line:
            return f"{{ {line} }}"
        inner = "".join(f"  {part};\n".replace("\n", "\n  ").rstrip(" ") for part in parts)
        return "{\n" + inner + "}"

    def _tuple(self, types: Sequence[t.Type], names: Sequence[str | None]) -> str:
        parts = [
            f"{t.label_text(name)} : {self.type(type_)}" if name else self.type(type_)
            for type_, name in zip(types, names, strict=True)
        ]
        return f"({', '.join(parts)})"

    def function(self, type_: t.Func) -> str:
        """A function type without its keyword."""
        args = self._tuple(type_.args, type_.arg_names)
        results = self._tuple(type_.results, type_.result_names)
        return " ".join([f"{args} -> {results}", *type_.modes])

    def methods(self, type_: t.Service) -> str:
        """A service type without its keyword."""
        lines = []
        for name, method in type_.declared.items():
            named = id(method) in self._names or isinstance(method, t.Recursive)
            written = self.type(method) if named else self.function(type_.methods[name])
            lines.append(f"{t.label_text(name)} : {written}")
        if not lines:
            return "{}"
        inner = "".join(f"  {line};\n".replace("\n", "\n  ").rstrip(" ") for line in lines)
        return "{\n" + inner + "}"

    def init(self, interface: Interface) -> str:
        """A constructor's arguments."""
        assert interface.init_args is not None
        return self._tuple(interface.init_args, interface.init_names)


def type_text(type_: t.Type) -> str:
    """A type as text, its named parts by name; what would be endless is cut short with dots."""
    return _Printer({}, _MAX_PARTS).body(type_)


def did_text(interface: Interface) -> str:
    """An interface as the text of a ``.did`` file without imports.

    Reading it back gives an equal interface.
    """
    names: dict[int, str] = {}
    for name, type_ in interface.types.items():
        if not isinstance(type_, t.Primitive) and type_ is not t.Blob:
            names.setdefault(id(type_), name)
    printer = _Printer(names)
    lines = []
    for name, type_ in interface.types.items():
        if names.get(id(type_)) == name:
            lines.append(f"type {name} = {printer.body(type_)};\n")
        else:
            lines.append(f"type {name} = {printer.type(type_)};\n")
    if interface.service is not None:
        title = f" {t.label_text(interface.service_name)}" if interface.service_name else ""
        init = f"{printer.init(interface)} -> " if interface.init_args is not None else ""
        main = names.get(id(interface.service)) or printer.methods(interface.service)
        lines.append(f"service{title} : {init}{main}\n")
    return "".join(lines)
