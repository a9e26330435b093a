"""The packaged data: interface contracts (``candid/``) and built canisters, read by name.

In a wheel they stand inside the package, in a checkout at the project's top. No other module knows
where.
"""

import hashlib
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from bridge.errors import UsageError

_CHECKOUT_PLACES = {
    "candid": "candid",
    "motoko": "motoko_reference/wasm",
    "rust": "rust_reference/wasm",
}


@cache
def _folder(name: str) -> Traversable:
    packaged = resources.files("bridge") / "_data" / name
    if packaged.is_dir():
        return packaged
    return Path(__file__).resolve().parent.parent / _CHECKOUT_PLACES[name]


def _names(folder: str, suffix: str) -> list[str]:
    return sorted(
        entry.name.removesuffix(suffix)
        for entry in _folder(folder).iterdir()
        if entry.name.endswith(suffix)
    )


def interface(name: str) -> str:
    """The text of one interface contract, such as ``unified`` or ``outbox``.

    Raises:
        UsageError: If there is no contract of that name.
    """
    file = _folder("candid") / f"{name}.did"
    if not file.is_file():
        raise UsageError(
            f"there is no interface contract {name!r}",
            hint="choose one of " + ", ".join(_names("candid", ".did")),
        )
    return file.read_text(encoding="utf-8")


def motoko_canister(name: str) -> bytes:
    """The built Wasm of a Motoko reference canister, such as ``receiver``, checked by its hash.

    Raises:
        UsageError: If there is no canister of that name, or its bytes differ from its listed hash.
    """
    return _canister("motoko", "Motoko", "canisters", name)


def rust_canister(name: str) -> bytes:
    """The built Wasm of a Rust reference canister, such as ``mailbox``, checked by its hash.

    Raises:
        UsageError: If there is no canister of that name, or its bytes differ from its listed hash.
    """
    return _canister("rust", "Rust", "canisters-rust", name)


def _canister(place: str, language: str, target: str, name: str) -> bytes:
    folder = _folder(place)
    file = folder / f"{name}.wasm"
    if not file.is_file():
        raise UsageError(
            f"there is no {language} canister {name!r}",
            hint="choose one of " + ", ".join(_names(place, ".wasm")),
        )
    wasm = file.read_bytes()
    listed = {
        line.split()[1]: line.split()[0]
        for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    }
    if listed.get(file.name) != hashlib.sha256(wasm).hexdigest():
        raise UsageError(
            f"{file.name} does not match its hash in SHA256SUMS",
            hint=f"rebuild it with make {target}, or install the package again",
        )
    return wasm
