"""The grammar of ``.did`` files: from text to expressions, in which names are still names.

Recursive descent, which is why the nesting of one expression is bounded. What a name stands for is
not this module's business.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.candid import types as t
from bridge.candid.lexer import Cursor, Token, fault, integer

# Nesting of one type expression; names may nest without bound.
MAX_DEPTH: Final = 128


@dataclass(slots=True)
class Node:
    """A type expression as written.

    Attributes:
        kind: A keyword, or ``name``.
        at: Character offset.
        name: The name referred to, or the primitive type.
        labels: Labels of fields, names of methods or of arguments and results.
        parts: The parts' expressions.
        arg_count: How many parts of a function are arguments.
        modes: A function's annotations.
    """

    kind: str
    at: int
    name: str = ""
    labels: list[Any] = field(default_factory=list)
    parts: list["Node"] = field(default_factory=list)
    arg_count: int = 0
    modes: list[str] = field(default_factory=list)


@dataclass
class File:
    """One parsed file."""

    path: str
    source: str
    imports: list[tuple[str, bool, int]] = field(default_factory=list)
    definitions: dict[str, Node] = field(default_factory=dict)
    init: Node | None = None
    service: Node | None = None
    service_name: str | None = None
    visible: dict[str, "File"] = field(default_factory=dict)


class Parser:
    """Recursive descent over one text."""

    def __init__(self, source: str) -> None:
        self.cursor = Cursor(source)
        self.depth = 0

    def file(self, path: str) -> File:
        """A whole file."""
        cursor = self.cursor
        file = File(path, cursor.source)
        while cursor.now.kind != "end" and not cursor.at_word("service"):
            if cursor.at_word("type"):
                self._definition(file)
            elif cursor.at_word("import"):
                start = cursor.next().at
                merge = cursor.at_word("service")
                if merge:
                    cursor.next()
                if cursor.now.kind != "text":
                    cursor.fail("expected the imported file's name in quotes")
                file.imports.append((cursor.text(cursor.next()), merge, start))
            else:
                cursor.fail("expected 'type', 'import' or 'service'")
            if not cursor.take(";") and cursor.now.kind != "end" and not cursor.at_word("service"):
                cursor.fail("expected ';' after a definition")
        if cursor.at_word("service"):
            self._main_service(file)
        if cursor.now.kind != "end":
            cursor.fail("expected nothing after the service")
        return file

    def _definition(self, file: File) -> None:
        cursor = self.cursor
        cursor.next()
        token = cursor.now
        name = self._identifier("a name for the type", t.KEYWORDS)
        if name in file.definitions:
            raise fault(cursor.source, token.at, f"the type {name!r} is defined twice")
        cursor.expect("=", "after a type's name")
        file.definitions[name] = self.type()

    def _main_service(self, file: File) -> None:
        cursor = self.cursor
        start = cursor.next().at
        if cursor.now.kind == "id":
            file.service_name = self._identifier("a name for the service")
        elif cursor.now.kind == "text":
            file.service_name = cursor.text(cursor.next())
        cursor.expect(":", "after 'service'")
        if cursor.at_symbol("("):
            file.init = Node("init", start)
            file.init.labels, file.init.parts = self.tuple()
            cursor.expect("->", "after the service's arguments")
        if cursor.at_symbol("{"):
            file.service = self._methods(start)
        else:
            file.service = self._name()
        cursor.take(";")

    def _identifier(self, what: str, refused: Collection[str] = t.RESERVED_WORDS) -> str:
        token = self.cursor.now
        if token.kind != "id":
            self.cursor.fail(f"expected {what}")
        if token.text in refused:
            self.cursor.fail(f"expected {what}, which cannot be a keyword")
        return self.cursor.next().text

    def _name(self) -> Node:
        token = self.cursor.now
        return Node("name", token.at, self._identifier("a type", t.KEYWORDS))

    def type(self) -> Node:
        """A type expression."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.cursor.fail(f"types are nested more than {MAX_DEPTH} deep")
        node = self._type()
        self.depth -= 1
        return node

    def _type(self) -> Node:
        cursor = self.cursor
        token = cursor.now
        word = token.text if token.kind == "id" else ""
        if word in t.PRIMITIVES:
            cursor.next()
            return Node("primitive", token.at, word)
        if word == "blob":
            cursor.next()
            return Node("blob", token.at)
        if word in ("opt", "vec"):
            cursor.next()
            return Node(word, token.at, parts=[self.type()])
        if word == "record":
            cursor.next()
            return self._fields("record", token)
        if word == "variant":
            cursor.next()
            return self._fields("variant", token)
        if word == "func":
            cursor.next()
            return self.function()
        if word == "service":
            cursor.next()
            return self._methods(token.at)
        return self._name()

    def _fields(self, kind: str, start: Token) -> Node:
        cursor = self.cursor
        node = Node(kind, start.at)
        cursor.expect("{", f"after {kind!r}")
        following = 0
        ids: dict[int, str | int] = {}
        while not cursor.take("}"):
            token = cursor.now
            label, type_ = self._field(kind, following)
            number = t.field_id(label)
            if number in ids:
                raise fault(
                    cursor.source,
                    token.at,
                    f"{label!r} and {ids[number]!r} are one label ({number})"
                    if ids[number] != label
                    else f"the label {label!r} stands twice",
                )
            ids[number] = label
            following = number + 1
            node.labels.append(label)
            node.parts.append(type_)
            if not cursor.take(";") and not cursor.at_symbol("}"):
                cursor.fail("expected ';' or '}'")
        return node

    def _field(self, kind: str, following: int) -> tuple[str | int, Node]:
        cursor = self.cursor
        token = cursor.now
        after = cursor.ahead()
        named = after.kind == "symbol" and after.text == ":"
        label: str | int
        if token.kind == "nat":
            label = integer(cursor.source, cursor.next())
            if label >= 1 << 32:
                cursor.fail("a numeric label must be below 4294967296", token)
        elif token.kind == "text":
            label = cursor.text(cursor.next())
        elif token.kind == "id" and (named or kind == "variant"):
            if token.text in t.RESERVED_WORDS:
                cursor.fail(
                    "expected a label", token, hint=f'write a keyword as "{token.text}", in quotes'
                )
            label = cursor.next().text
        else:
            if kind == "variant":
                cursor.fail("expected a case")
            if following >= 1 << 32:
                cursor.fail("no number is left for this field")
            return following, self.type()
        if cursor.take(":"):
            return label, self.type()
        if kind == "record":
            cursor.fail("expected ':' after a label")
        return label, Node("primitive", token.at, "null")

    def tuple(self) -> "tuple[list[str | None], list[Node]]":
        """Types in parentheses, with their names."""
        cursor = self.cursor
        cursor.expect("(", "before arguments")
        names: list[str | None] = []
        parts = []
        seen = set()
        while not cursor.take(")"):
            token, after = cursor.now, cursor.ahead()
            name = None
            if after.kind == "symbol" and after.text == ":" and token.kind in ("id", "text"):
                name = (
                    cursor.text(cursor.next())
                    if token.kind == "text"
                    else self._identifier("an argument's name")
                )
                cursor.next()
                if name in seen:
                    raise fault(cursor.source, token.at, f"the name {name!r} stands twice")
                seen.add(name)
            names.append(name)
            parts.append(self.type())
            if not cursor.take(",") and not cursor.at_symbol(")"):
                cursor.fail("expected ',' or ')'")
        return names, parts

    def function(self) -> Node:
        """A function type, without the keyword."""
        cursor = self.cursor
        node = Node("func", cursor.now.at)
        names, parts = self.tuple()
        cursor.expect("->", "after a function's arguments")
        more_names, more_parts = self.tuple()
        node.arg_count = len(parts)
        node.labels = names + more_names
        node.parts = parts + more_parts
        while cursor.now.kind == "id" and cursor.now.text in t.MODES:
            token = cursor.next()
            if token.text in node.modes:
                raise fault(cursor.source, token.at, f"{token.text} stands twice")
            node.modes.append(token.text)
        if "oneway" in node.modes and more_parts:
            raise fault(cursor.source, node.at, "a oneway function has no results")
        return node

    def _methods(self, start: int) -> Node:
        cursor = self.cursor
        node = Node("service", start)
        cursor.expect("{", "before methods")
        while not cursor.take("}"):
            token = cursor.now
            name = (
                cursor.text(cursor.next())
                if token.kind == "text"
                else self._identifier("a method's name")
            )
            if name in node.labels:
                raise fault(cursor.source, token.at, f"the method {name!r} stands twice")
            cursor.expect(":", "after a method's name")
            node.labels.append(name)
            node.parts.append(self.function() if cursor.at_symbol("(") else self._name())
            if not cursor.take(";") and not cursor.at_symbol("}"):
                cursor.fail("expected ';' or '}'")
        return node
