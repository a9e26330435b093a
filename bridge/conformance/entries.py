"""The entries that a run is given: those of this package, files, and bare modules."""

import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from bridge import dialects
from bridge.conformance.entry import Entry, Method, Variant
from bridge.conformance.entry_file import ROLES, from_mapping, is_name, parse
from bridge.errors import UsageError

__all__ = [
    "SHIPPED",
    "Entry",
    "Method",
    "Variant",
    "brought",
    "from_mapping",
    "load",
    "of",
    "parse",
    "shipped",
]

SHIPPED: Final = ("python", "motoko", "rust")
"""Names of the entries that come with this package."""


def load(path: Path) -> Entry:
    """Read an entry from a file.

    Raises:
        UsageError: If the file cannot be read, is not TOML, or a field is wrong; the text names the
            field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the entry {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="give a TOML file in UTF-8",
        ) from error
    return parse(text, place=path.parent, called=str(path))


@cache
def shipped(name: str) -> Entry:
    """One of the entries that come with this package: ``python``, ``motoko`` or ``rust``.

    Raises:
        UsageError: If there is none of that name.
    """
    if name not in SHIPPED:
        raise UsageError(
            f"there is no implementation {name!r} in this package",
            hint=f"choose one of {', '.join(SHIPPED)}, or give a .toml or .wasm file",
        )
    folder = resources.files("bridge.conformance") / "implementations"
    text = (folder / f"{name}.toml").read_text(encoding="utf-8")
    return parse(text, place=Path(str(folder)), called=name)


def of(text: str, *, role: str, dialects: tuple[str, ...] = ()) -> Entry:
    """The entry that a command line names: a shipped one's name, a TOML file, or a bare module.

    Args:
        text: The name or the path.
        role: The role that a bare module takes.
        dialects: What a bare module speaks.

    Raises:
        UsageError: If it is none of these, or a bare module is given without a dialect.
    """
    if text in SHIPPED:
        return shipped(text)
    path = Path(text)
    if path.suffix == ".toml":
        return load(path)
    if path.name.endswith((".wasm", ".wasm.gz")):
        if not dialects:
            raise UsageError(
                f"nothing says which dialect {text} speaks",
                hint="add --dialect (in pytest --ic-dialect), such as maf",
            )
        if not path.is_file():
            raise UsageError(
                f"there is no file {text}", hint="give the .wasm file that the compiler wrote"
            )
        name = path.name.removesuffix(".gz").removesuffix(".wasm")
        raw = {"name": name, "wasm": str(path), "role": role, "dialects": list(dialects)}
        bare = from_mapping({**raw, "install": "()"}, place=Path(), called=text)
        return replace(bare, silent=True)
    raise UsageError(
        f"{text!r} is no implementation",
        hint=f"give one of {', '.join(SHIPPED)}, a .toml entry, or a .wasm file",
    )


def brought(text: str, *, role: str, dialects: tuple[str, ...] = ()) -> Entry:
    """As `of`, but a TOML file with a mistake is an entry whose cells say what is wrong with it.

    Args:
        text: The name or the path.
        role: As for `of`; also of a faulty entry that states none.
        dialects: As for `of`; also of a faulty entry that states none, all where empty.

    Raises:
        UsageError: If it is nothing of that kind, or a file that is not there.
    """
    try:
        return of(text, role=role, dialects=dialects)
    except UsageError as error:
        path = Path(text)
        if path.suffix != ".toml" or not path.is_file():
            raise
        return _faulty(path, role, dialects, str(error))


def _faulty(path: Path, role: str, tongues: tuple[str, ...], fault: str) -> Entry:
    """What can be told of an implementation whose description is wrong."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raw = {}
    name, stated, spoken = raw.get("name"), raw.get("role"), raw.get("dialects")
    known = [d for d in dialects.DIALECTS if isinstance(spoken, list) and d in spoken]
    return Entry(
        name=name if isinstance(name, str) and is_name(name) else path.stem,
        role=stated if stated in ROLES else role,
        dialects=tuple(known) or tongues or tuple(dialects.DIALECTS),
        fault=fault,
    )
