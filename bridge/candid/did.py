"""``.did`` files: from text to types.

The whole grammar of the specification, with imports read through a function of the caller's. Names
that refer to themselves become :class:`Recursive`; all others become the very type they stand for.
"""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.candid import types as t
from bridge.candid.lexer import fault
from bridge.candid.subtype import Fault, subtype_faults, subtype_losses
from bridge.candid.syntax import MAX_DEPTH, File, Node, Parser
from bridge.errors import CandidError

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
        self._files: dict[str, File] = {}
        self._open: list[str] = []
        self.definitions: dict[str, tuple[File, Node]] = {}

    def add(self, source: str, path: str) -> File:
        """Parse a file and its imports, which are defined before it."""
        file = _parsed(source, path)
        self._open.append(path)
        for name, merge, at in file.imports:
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
            if inner in self._open:
                raise _fault(file, at, f"the file imports itself, through {name!r}")
            if len(self._open) > MAX_DEPTH:
                raise _fault(file, at, f"imports are nested more than {MAX_DEPTH} deep")
            if inner not in self._files:
                try:
                    text = self._loader(inner)
                except OSError as error:
                    raise _fault(file, at, f"{name!r} cannot be read: {error}") from error
                self._files[inner] = self.add(text, inner)
            imported = self._files[inner]
            file.visible |= imported.visible
            if merge:
                _merge(file, imported, at)
        self._open.pop()
        for name, node in file.definitions.items():
            if name in self.definitions:
                raise _fault(file, node.at, f"the type {name!r} is defined in another file too")
            self.definitions[name] = (file, node)
            file.visible[name] = file
        return file


def _fault(file: File, at: int, message: str) -> CandidError:
    """An error at a place of a file, with the file's name where it has one."""
    return _in_file(fault(file.source, at, message), file.path)


def _in_file(error: CandidError, path: str) -> CandidError:
    told = f"{path}: {error.told}" if path else error.told
    return CandidError(told, offset=error.offset, hint=error.hint)


def _parsed(source: str, path: str) -> File:
    try:
        return Parser(source).file(path)
    except RecursionError:
        raise CandidError("the types are nested too deeply for the stack that is left") from None
    except CandidError as error:
        raise _in_file(error, path) from None


def _merge(file: File, imported: File, at: int) -> None:
    """``import service``: the imported service's methods join the importing one's."""
    if imported.service is None:
        raise _fault(file, at, "the imported file has no service")
    if imported.service.kind == "name" or (file.service and file.service.kind == "name"):
        raise _fault(file, at, "only services written out in their files can be merged")
    if file.service is None:
        file.service = Node("service", at)
    for name, part in zip(imported.service.labels, imported.service.parts, strict=True):
        if name in file.service.labels:
            raise _fault(file, at, f"both services have the method {name!r}")
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
                    raise _fault(file, node.at, error.told) from None
            else:
                self.types[name] = type_
        self.types = {name: self.types[name] for name in self._definitions}
        for file, node in self._definitions.values():
            self.check_methods(file, node)

    def _check(self, file: File, reference: Node) -> None:
        if reference.name not in file.visible:
            raise _fault(file, reference.at, f"the type {reference.name!r} is not defined")

    def check_methods(self, file: File, node: Node) -> None:
        """Methods that are named types must be functions, which recursion may hide until now."""
        todo = [node]
        while todo:
            one = todo.pop()
            if one.kind == "service":
                for label, part in zip(one.labels, one.parts, strict=True):
                    if part.kind == "name" and not isinstance(
                        t.resolve(self.types[part.name]), t.Func
                    ):
                        raise _fault(
                            file,
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

    def build(self, file: File, node: Node, into: type[Any] | None = None) -> t.Type:
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
            raise _fault(file, node.at, error.told) from None


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
            raise _fault(file, file.service.at, f"{file.service.name!r} is no service type")
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


def _visible(file: File, reference: Node) -> None:
    if reference.name not in file.visible:
        raise _fault(file, reference.at, f"the type {reference.name!r} is not defined")


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
    file = File("", source)
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


def upgrade_losses(new: Interface, old: Interface) -> list[Fault]:
    """Where clients of ``old`` would read null, instead of a value, from a service of ``new``.

    Such an upgrade is allowed; the specification asks checkers to warn of it.

    Raises:
        CandidError: If one of them has no service.
    """
    if new.service is None or old.service is None:
        raise CandidError("both interfaces must have a service to be compared")
    return subtype_losses(new.service, old.service)
