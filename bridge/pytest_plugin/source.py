"""Where a canister's module and interface come from: a file, bytes, or a reference canister's name.

Reads files and packaged data; connects to nothing.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from bridge import candid, contracts
from bridge.errors import UsageError
from bridge.network import module_interface

Source = str | os.PathLike[str] | bytes
_LANGUAGES = {"motoko": contracts.motoko_canister, "rust": contracts.rust_canister}


@dataclass(frozen=True, slots=True)
class Module:
    """A module that can be deployed.

    Attributes:
        name: What it is called in messages.
        wasm: Its bytes.
        interface: Its interface.
    """

    name: str
    wasm: bytes
    interface: candid.Interface


def read_module(source: Source, did: str | os.PathLike[str] | None, folder: Path) -> Module:
    """Find a module and its interface.

    Args:
        source: A ``.wasm`` or ``.wasm.gz`` file, a module's bytes, or the name of a packaged
            reference canister such as ``echo``, ``motoko:echo`` or ``rust:mailbox``.
        did: The interface, as a ``.did`` file or its text; by default what the module carries.
        folder: What relative file names are relative to.

    Raises:
        UsageError: If there is no such file or canister, it is no module, or has no interface.
        CandidError: If the interface cannot be read.
    """
    if isinstance(source, bytes):
        name, wasm = f"a module of {len(source)} bytes", source
    elif _names_a_file(source):
        file = folder / source
        name = str(source)
        try:
            wasm = file.read_bytes()
        except OSError as cause:
            raise UsageError(
                f"the module {file} cannot be read: {cause.strerror}",
                hint="build the canister first, or correct the path",
            ) from None
    else:
        name = str(source)
        wasm = _packaged(name)
    interface = read_interface(did, folder) if did is not None else module_interface(wasm)
    if interface is None:
        raise UsageError(
            f"{name} carries no candid:service metadata, so its methods are not known",
            hint="pass did= with its .did file",
        )
    if interface.service is None:
        raise UsageError(f"the interface of {name} has no service, so it has no methods")
    return Module(name, wasm, interface)


def _names_a_file(source: str | os.PathLike[str]) -> bool:
    if not isinstance(source, str):
        return True
    return source.endswith((".wasm", ".wasm.gz")) or "/" in source or os.sep in source


def _packaged(name: str) -> bytes:
    language, colon, short = name.partition(":")
    if colon and language in _LANGUAGES:
        return _LANGUAGES[language](short)
    complaints = []
    for get in _LANGUAGES.values():
        try:
            return get(name)
        except UsageError as error:
            complaints.append(error.hint or "")
    raise UsageError(
        f"there is no packaged canister {name!r}, and it does not name a .wasm file",
        hint="in Motoko "
        + complaints[0].removeprefix("choose ")
        + "; in Rust "
        + complaints[1].removeprefix("choose "),
    )


def read_interface(did: str | os.PathLike[str], folder: Path) -> candid.Interface:
    """An interface given as a ``.did`` file, relative to ``folder``, or as its text.

    Raises:
        UsageError: If there is no such file.
        CandidError: If it cannot be read.
    """
    text = os.fspath(did)
    if "\n" in text or "{" in text:
        return candid.parse_did(text)
    file = folder / text
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as cause:
        raise UsageError(
            f"the interface {file} cannot be read: {cause.strerror}", hint="correct the path"
        ) from None
    return candid.parse_did(
        text,
        loader=lambda name: (file.parent / name).read_text(encoding="utf-8"),
        path=file.name,
    )
