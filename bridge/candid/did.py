"""``.did`` files: from text to types.

The whole grammar of the specification, with imports read through a function of the caller's. Names
that refer to themselves become :class:`Recursive`; all others become the very type they stand for.
"""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.candid import types as t
from bridge.candid.lexer import Cursor, Token, fault, integer
from bridge.candid.subtype import Fault, subtype_faults
from bridge.errors import CandidError

# Nesting of one type expression; names may nest without bound.
_MAX_DEPTH: Final = 128

Loader = Callable[[str], str]


@dataclass(frozen=True)
class Interface:
    """What a ``.did`` file says.

    Attributes:
        types: The named types, in order of definition, imported ones first.
        service: The main service; None if there is none.
        init_args: Types of the install argument; None if the service is no constructor.
        init_names: Names of those, None where one has none.
        service_name: The name given to the service; documentation only.
    """

    types: Mapping[str, t.Type]
    service: t.Service | None = None
    init_args: tuple[t.Type, ...] | None = None
    init_names: tuple[str | None, ...] = ()
    service_name: str | None = None

    def names(self) -> set[str]:
        """Every label in the interface: what numbers in an untyped message may stand for."""
        found: set[str] = set()
        seen: set[int] = set()
        todo: list[t.Type] = [*self.types.values(), *(self.init_args or ())]
        if self.service is not None:
            todo.append(self.service)
        while todo:
            type_ = t.resolve(todo.pop())
            if id(type_) in seen:
                continue
            seen.add(id(type_))
            if isinstance(type_, t.Record | t.Variant):
                found.update(f.label for f in type_.fields if isinstance(f.label, str))
            todo.extend(type_.children())
        return found


# --- Syntax -------------------------------------------------------------------------------------


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
class _File:
    """One parsed file."""

    path: str
    source: str
    imports: list[tuple[str, bool, int]] = field(default_factory=list)
    definitions: dict[str, Node] = field(default_factory=dict)
    init: Node | None = None
    service: Node | None = None
    service_name: str | None = None
    visible: dict[str, "_File"] = field(default_factory=dict)


class Parser:
    """Recursive descent over one text."""

    def __init__(self, source: str) -> None:
        self.cursor = Cursor(source)
        self.depth = 0

    def file(self, path: str) -> _File:
        """A whole file."""
        cursor = self.cursor
        file = _File(path, cursor.source)
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

    def _definition(self, file: _File) -> None:
        cursor = self.cursor
        cursor.next()
        token = cursor.now
        name = self._identifier("a name for the type")
        if name in file.definitions:
            raise fault(cursor.source, token.at, f"the type {name!r} is defined twice")
        cursor.expect("=", "after a type's name")
        file.definitions[name] = self.type()

    def _main_service(self, file: _File) -> None:
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

    def _identifier(self, what: str) -> str:
        token = self.cursor.now
        if token.kind != "id":
            self.cursor.fail(f"expected {what}")
        if token.text in t.KEYWORDS:
            self.cursor.fail(f"expected {what}, which cannot be a keyword")
        return self.cursor.next().text

    def _name(self) -> Node:
        token = self.cursor.now
        return Node("name", token.at, self._identifier("a type"))

    def type(self) -> Node:
        """A type expression."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.cursor.fail(f"types are nested more than {_MAX_DEPTH} deep")
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
            if token.text in t.KEYWORDS:
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


# --- Files and names ----------------------------------------------------------------------------


def _no_loader(name: str) -> str:
    raise CandidError(
        f"the file imports {name!r}, and no loader was given",
        hint="pass loader=, a function from a file's name to its text",
    )


class _Project:
    """A file and all that it imports."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._files: dict[str, _File] = {}
        self._open: list[str] = []
        self.definitions: dict[str, tuple[_File, Node]] = {}

    def add(self, source: str, path: str) -> _File:
        """Parse a file and its imports, which are defined before it."""
        file = _parsed(source, path)
        self._open.append(path)
        for name, merge, at in file.imports:
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
            if inner in self._open:
                raise fault(source, at, f"the file imports itself, through {name!r}")
            if len(self._open) > _MAX_DEPTH:
                raise fault(source, at, f"imports are nested more than {_MAX_DEPTH} deep")
            if inner not in self._files:
                try:
                    text = self._loader(inner)
                except OSError as error:
                    raise fault(source, at, f"{name!r} cannot be read: {error}") from error
                self._files[inner] = self.add(text, inner)
            imported = self._files[inner]
            file.visible |= imported.visible
            if merge:
                _merge(file, imported, at)
        self._open.pop()
        for name, node in file.definitions.items():
            if name in self.definitions:
                raise fault(source, node.at, f"the type {name!r} is defined in another file too")
            self.definitions[name] = (file, node)
            file.visible[name] = file
        return file


def _parsed(source: str, path: str) -> _File:
    try:
        return Parser(source).file(path)
    except RecursionError:
        raise CandidError("the types are nested too deeply for the stack that is left") from None
    except CandidError as error:
        if not path:
            raise
        raise CandidError(f"{path}: {error.told}", offset=error.offset, hint=error.hint) from None


def _merge(file: _File, imported: _File, at: int) -> None:
    """``import service``: the imported service's methods join the importing one's."""
    if imported.service is None:
        raise fault(file.source, at, "the imported file has no service")
    if imported.service.kind == "name" or (file.service and file.service.kind == "name"):
        raise fault(file.source, at, "only services written out in their files can be merged")
    if file.service is None:
        file.service = Node("service", at)
    for name, part in zip(imported.service.labels, imported.service.parts, strict=True):
        if name in file.service.labels:
            raise fault(file.source, at, f"both services have the method {name!r}")
        file.service.labels.append(name)
        file.service.parts.append(part)


def _references(node: Node) -> Iterable[Node]:
    todo = [node]
    while todo:
        one = todo.pop()
        if one.kind == "name":
            yield one
        todo.extend(one.parts)


class _Resolver:
    """From expressions to types."""

    def __init__(self, project: _Project, classes: Mapping[str, type[Any]]) -> None:
        self._definitions = project.definitions
        self._classes = dict(classes)
        self.types: dict[str, t.Type] = {}
        if unknown := sorted(set(classes) - set(project.definitions)):
            raise CandidError(f"there is no type {unknown[0]!r} to read into a class")

    def resolve_all(self) -> None:
        """Build every named type, each after those it needs, recursive ones by name first."""
        for name, (file, node) in self._definitions.items():
            for reference in _references(node):
                self._check(file, reference)
            if name in self._classes and node.kind != "record":
                raise CandidError(f"only a record can be read into a class, and {name!r} is none")
        recursive = self._recursive_names()
        order = self._order(recursive)
        for name in recursive:
            self.types[name] = t.Recursive(name)
        for name in order:
            file, node = self._definitions[name]
            type_ = self.build(file, node, self._classes.get(name))
            known = self.types.get(name)
            if isinstance(known, t.Recursive) and name in recursive:
                try:
                    known.define(type_)
                except CandidError as error:
                    raise fault(file.source, node.at, error.told) from None
            else:
                self.types[name] = type_
        self.types = {name: self.types[name] for name in self._definitions}
        for file, node in self._definitions.values():
            self.check_methods(file, node)

    def _check(self, file: _File, reference: Node) -> None:
        if reference.name not in file.visible:
            raise fault(file.source, reference.at, f"the type {reference.name!r} is not defined")

    def check_methods(self, file: _File, node: Node) -> None:
        """Methods that are named types must be functions, which recursion may hide until now."""
        todo = [node]
        while todo:
            one = todo.pop()
            if one.kind == "service":
                for label, part in zip(one.labels, one.parts, strict=True):
                    if part.kind == "name" and not isinstance(
                        t.resolve(self.types[part.name]), t.Func
                    ):
                        raise fault(
                            file.source,
                            part.at,
                            f"method {label!r} is of type {part.name!r}, which is no function",
                        )
            todo.extend(one.parts)

    def _graph(self) -> dict[str, list[str]]:
        return {
            name: [reference.name for reference in _references(node)]
            for name, (_, node) in self._definitions.items()
        }

    def _recursive_names(self) -> set[str]:
        """Names that reach themselves: members of the graph's cycles (Tarjan, as a loop)."""
        graph = self._graph()
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        on_stack: set[str] = set()
        cyclic: set[str] = set()
        for root in graph:
            if root in index:
                continue
            work = [(root, iter(graph[root]))]
            index[root] = low[root] = len(index)
            stack.append(root)
            on_stack.add(root)
            while work:
                name, following = work[-1]
                for other in following:
                    if other == name:
                        cyclic.add(name)
                    if other not in index:
                        index[other] = low[other] = len(index)
                        stack.append(other)
                        on_stack.add(other)
                        work.append((other, iter(graph[other])))
                        break
                    if other in on_stack:
                        low[name] = min(low[name], index[other])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[name])
                    if low[name] == index[name]:
                        members = []
                        while True:
                            member = stack.pop()
                            on_stack.discard(member)
                            members.append(member)
                            if member == name:
                                break
                        if len(members) > 1:
                            cyclic.update(members)
        return cyclic

    def _order(self, recursive: set[str]) -> list[str]:
        """Names such that what is not recursive comes after all it needs."""
        graph = self._graph()
        done: set[str] = set()
        order = []
        for root in graph:
            todo = [(root, False)]
            while todo:
                name, ready = todo.pop()
                if name in done:
                    continue
                if ready:
                    done.add(name)
                    order.append(name)
                    continue
                todo.append((name, True))
                todo.extend(
                    (other, False)
                    for other in reversed(graph[name])
                    if other not in done and other not in recursive
                )
        return order

    def build(self, file: _File, node: Node, into: type[Any] | None = None) -> t.Type:
        """The type that an expression stands for; its names must be built already."""
        if node.kind == "name":
            self._check(file, node)
            return self.types[node.name]
        if node.kind == "primitive":
            return t.PRIMITIVES[node.name]
        if node.kind == "blob":
            return t.Blob
        parts = [self.build(file, part) for part in node.parts]
        if node.kind == "opt":
            return t.Opt(parts[0])
        if node.kind == "vec":
            return t.Vec(parts[0])
        fields = dict(zip(node.labels, parts, strict=True)) if node.kind != "func" else {}
        if node.kind == "record":
            return t.Record(fields, into=into)
        if node.kind == "variant":
            return t.Variant(fields)
        if node.kind == "func":
            count = node.arg_count
            return t.Func(
                parts[:count],
                parts[count:],
                node.modes,
                arg_names=node.labels[:count],
                result_names=node.labels[count:],
            )
        try:
            return t.Service(fields)
        except CandidError as error:
            raise fault(file.source, node.at, error.told) from None


def parse_did(
    text: str,
    *,
    loader: Loader | None = None,
    path: str = "",
    classes: Mapping[str, type[Any]] | None = None,
) -> Interface:
    """Read an interface from the text of a ``.did`` file.

    Args:
        text: The file's content.
        loader: Gives the text of an imported file by its name, relative to this file's folder.
        path: This file's name, where imports are relative to it; shown in messages.
        classes: Dataclasses or NamedTuples to read named record types into.

    Raises:
        CandidError: If the text is malformed, with line, column and offset; or a name is not
            defined or defined twice; or an import fails.
    """
    project = _Project(loader or _no_loader)
    file = project.add(text, path)
    resolver = _Resolver(project, classes or {})
    resolver.resolve_all()
    service = None
    if file.service is not None:
        for reference in _references(file.service):
            _visible(file, reference)
        resolver.check_methods(file, file.service)
        built = t.resolve(resolver.build(file, file.service))
        if not isinstance(built, t.Service):
            raise fault(file.source, file.service.at, f"{file.service.name!r} is no service type")
        service = built
    init_args = None
    if file.init is not None:
        init_args = tuple(resolver.build(file, part) for part in file.init.parts)
    return Interface(
        types=resolver.types,
        service=service,
        init_args=init_args,
        init_names=tuple(file.init.labels) if file.init is not None else (),
        service_name=file.service_name,
    )


def _visible(file: _File, reference: Node) -> None:
    if reference.name not in file.visible:
        raise fault(file.source, reference.at, f"the type {reference.name!r} is not defined")


def parse_type(text: str, interface: Interface | None = None) -> t.Type:
    """Read one type, such as ``vec record { nat; text }``.

    Args:
        text: The type.
        interface: Whose named types may be used.

    Raises:
        CandidError: If the text is malformed or a name is not defined.
    """
    types = _parse_types(text, interface, several=False)
    return types[0]


def parse_types(text: str, interface: Interface | None = None) -> list[t.Type]:
    """Read a list of types in parentheses, such as ``(nat, opt text)``.

    Raises:
        CandidError: If the text is malformed or a name is not defined.
    """
    return _parse_types(text, interface, several=True)


def _parse_types(text: str, interface: Interface | None, *, several: bool) -> list[t.Type]:
    try:
        parser = Parser(text)
        nodes = parser.tuple()[1] if several else [parser.type()]
        if parser.cursor.now.kind != "end":
            parser.cursor.fail("expected nothing after the type")
        return [build_type(text, node, interface) for node in nodes]
    except RecursionError:
        raise CandidError("the types are nested too deeply for the stack that is left") from None


def build_type(source: str, node: Node, interface: Interface | None) -> t.Type:
    """The type of an expression that stands by itself.

    Raises:
        CandidError: If a name is not among the interface's.
    """
    file = _File("", source)
    resolver = _Resolver(_Project(_no_loader), {})
    if interface is not None:
        resolver.types = dict(interface.types)
        file.visible = dict.fromkeys(interface.types, file)
    return resolver.build(file, node)


def upgrade_faults(new: Interface, old: Interface) -> list[Fault]:
    """What would break clients of ``old`` if its service were upgraded to ``new``.

    The rule is the specification's: the new service type must be a subtype of the old one. Install
    arguments do not count, since they are given anew at each upgrade.

    Raises:
        CandidError: If one of them has no service.
    """
    if new.service is None or old.service is None:
        raise CandidError("both interfaces must have a service to be compared")
    return subtype_faults(new.service, old.service)
