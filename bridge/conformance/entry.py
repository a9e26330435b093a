"""An implementation as data: what a run knows of a stranger's sender or receiver.

Where entries come from, and what a file must say, is other modules' business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bridge import contracts
from bridge.errors import UsageError
from bridge.principal import Principal

_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Method:
    """One call of a canister's own interface, described by an entry.

    Attributes:
        name: The method.
        arguments: Its arguments as Candid text with ``{to}``, ``{to_text}``, ``{payload}``,
            ``{msg_id}``, ``{sender}`` and ``{dialect}`` where the run puts values.
        query: Whether it is called as a query.
        field: For answers: where in the first result the value stands, as a path such as
            ``.payload``; empty for the value itself.
        where: For answers that are lists: only elements whose field of this name is the flow's id.
    """

    name: str
    arguments: str = "()"
    query: bool = False
    field: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """Another build of an implementation, or the same one installed in another way.

    Attributes:
        modules: The packaged canister or the file, by dialect; empty for the implementation's own.
        install_fields: What goes into the install argument beside our settings, as for `Entry`.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    install_fields: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One implementation.

    Attributes:
        name: Its name in the matrix.
        role: ``sender``, ``receiver`` or ``both``; with one of the first two, that role alone.
        dialects: What it speaks, in the order of the entry.
        about: One line about it.
        wasm: The module's file, by dialect, where it is to be installed from a file.
        packaged: The reference canister, by dialect, such as ``motoko/both_maf``.
        canister: The canister, where it is installed already.
        url: The network on which that canister stands; empty for the run's own.
        command: The driver program and its arguments, where it is no canister.
        install: Its install argument: ``reference`` (candid/settings.did), or Candid text. Where an
            entry says nothing: ``reference`` of what takes our settings, by ``asked`` or as a
            program, and ``()`` of all others.
        install_fields: What goes into the install argument beside our settings: a record as Candid
            text.
        send: How a sender is made to open a flow; ``None`` where by `candid/reference.did`.
        answers: What can be asked of its own interface: ``outcome`` (a response, or null while
            there is none) and ``handled`` (how often, or a list with an element for each run).
        asked: ``watch`` (our contracts), ``own`` (see ``answers``) or ``nothing``.
        application: What its receiver does with a request, by dialect: ``echo``, ``compute``,
            ``crc32`` (its decimal text), ``player`` (obeys), or ``unknown``.
        requests: Payloads that its receiver's application understands, at least two where it is
            given any; empty where it understands whatever comes.
        response: A response that its sender's application understands; ``None`` for whatever comes.
        first_retry: How long it waits before it sends again, in nanoseconds.
        attempts: How many times it sends a message at most.
        lacks: Scenarios that it is stated to lack, with the reasons.
        variants: Other forms of it: ``priced`` (NEW with a price), ``sender`` and ``receiver``
            (one-sided), ``previous``.
        fault: What is wrong with its description, where it can therefore not be played.
        silent: Whether it is a bare module, which is played in its role and of whose other role
            nothing is stated.
    """

    name: str
    role: str
    dialects: tuple[str, ...]
    about: str = ""
    wasm: Mapping[str, Path] = field(default_factory=dict)
    packaged: Mapping[str, str] = field(default_factory=dict)
    canister: Principal | None = None
    url: str = ""
    command: tuple[str, ...] = ()
    install: str = "reference"
    install_fields: str = "record {}"
    send: Method | None = None
    answers: Mapping[str, Method] = field(default_factory=dict)
    asked: str = "nothing"
    application: Mapping[str, str] = field(default_factory=dict)
    requests: tuple[bytes, ...] = ()
    response: bytes | None = None
    first_retry: int = 330 * _SECOND
    attempts: int = 10
    lacks: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    fault: str = ""
    silent: bool = False

    def has_only(self, role: str) -> bool:
        """Whether it is stated to have this role alone: nothing of the other is in it."""
        return self.role == role and not self.silent

    @property
    def sends(self) -> bool:
        """Whether it takes the sender's role."""
        return self.role != "receiver"

    @property
    def receives(self) -> bool:
        """Whether it takes the receiver's role."""
        return self.role != "sender"

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        if self.command:
            return " ".join(self.command)
        if self.canister is not None:
            return f"{self.canister} at {self.url}" if self.url else str(self.canister)
        return ", ".join(dict.fromkeys([*self.packaged.values(), *map(str, self.wasm.values())]))

    def module(self, dialect: str) -> bytes:
        """The module that speaks a dialect.

        Raises:
            UsageError: If its file cannot be read, or is no module of this package.
        """
        if dialect in self.packaged:
            return _read(self.name, self.packaged[dialect])
        return _read(self.name, str(self.wasm[dialect]))

    def variant(self, name: str, dialect: str) -> bytes | None:
        """The module of a variant that speaks a dialect; ``None`` where the entry names none.

        Raises:
            UsageError: As `module`.
        """
        variant = self.variants.get(name)
        if variant is None or (not variant.modules and (self.command or self.canister is not None)):
            return None
        if not variant.modules:
            return self.module(dialect)
        source = variant.modules.get(dialect)
        return None if source is None else _read(self.name, source)


def is_packaged(source: str) -> bool:
    """Whether a module is named as one of this package, such as ``motoko/both``, not by path."""
    return source.partition("/")[0] in ("motoko", "rust") and not source.endswith(".wasm")


def _read(name: str, source: str) -> bytes:
    """A module, by a packaged canister's name such as ``motoko/both``, or by its path."""
    if is_packaged(source):
        language, _, canister = source.partition("/")
        read = contracts.motoko_canister if language == "motoko" else contracts.rust_canister
        return read(canister)
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise UsageError(
            f"the module of {name} cannot be read: {error.strerror or error}: {source}",
            hint="give the path of the .wasm file that the compiler wrote",
        ) from error
