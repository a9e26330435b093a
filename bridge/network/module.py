"""What a module says of itself: custom sections, and the interface in its Candid metadata.

Read from the bytes, before anything is installed. Knows the section layout of WebAssembly and the
names under which the IC's compilers keep Candid; nothing of networks.

Rule implemented: interface specification, section Canister module format (``icp:public`` and
``icp:private`` custom sections).
"""

import zlib
from collections.abc import Iterator
from typing import Final

from bridge import candid
from bridge.errors import CandidError, UsageError

_WASM_MAGIC: Final = b"\0asm"
_VERSION: Final = b"\1\0\0\0"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MAX_SIZE: Final = 100 * 1024 * 1024
_CUSTOM: Final = 0
_LAST_SECTION: Final = 13  # tags, of the exceptions proposal


def plain_module(wasm: bytes) -> bytes:
    """A module's bytes, unpacked where they are gzipped.

    Args:
        wasm: The module as a compiler or a packer wrote it.

    Raises:
        UsageError: If it is neither WebAssembly nor gzipped WebAssembly of at most 100 MiB.
    """
    if wasm.startswith(_GZIP_MAGIC):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            wasm = unpacker.decompress(wasm, _MAX_SIZE)
        except zlib.error as cause:
            raise UsageError(f"the module begins like gzip and does not unpack: {cause}") from None
        if unpacker.unconsumed_tail:
            raise UsageError("the module unpacks to more than 100 MiB, which no network takes")
        if not unpacker.eof:
            raise UsageError("the gzipped module is cut off", hint="build or copy it again")
    if not wasm.startswith(_WASM_MAGIC):
        raise UsageError(
            "the module does not begin like WebAssembly or gzip",
            hint="give the .wasm file that the compiler wrote",
        )
    return wasm


def metadata(wasm: bytes, name: str) -> bytes | None:
    """A metadata section of a module, public or private; ``None`` if it has none of that name.

    Args:
        wasm: The module, plain or gzipped.
        name: Such as ``candid:service``.

    Raises:
        UsageError: If it is no module, or is cut off.
    """
    plain = plain_module(wasm)
    wanted = {f"icp:public {name}".encode(), f"icp:private {name}".encode()}
    for kind, at, end in _sections(plain):
        if kind == _CUSTOM:
            length, start = _number(plain, at)
            if plain[start : start + length] in wanted:
                return plain[start + length : end]
    return None


def check_sections(wasm: bytes) -> None:
    """See that a module is whole: WebAssembly whose sections end where they say.

    What stands in the sections is not looked at; the network validates it.

    Args:
        wasm: The module, plain or gzipped.

    Raises:
        UsageError: If it is no module, or is cut off or damaged.
    """
    plain = plain_module(wasm)
    if plain[4:8] != _VERSION:
        raise UsageError(
            "the module is not WebAssembly of version 1, or is cut off",
            hint="give a core module, not a component",
        )
    for kind, _, _ in _sections(plain):
        if kind > _LAST_SECTION:
            raise UsageError(
                f"the module has a section of the unknown kind {kind}: it is damaged",
                hint="build or copy it again",
            )


def _sections(plain: bytes) -> Iterator[tuple[int, int, int]]:
    """Each section's kind, and where what it holds begins and ends."""
    at = 8
    while at < len(plain):
        kind = plain[at]
        size, at = _number(plain, at + 1)
        end = at + size
        if end > len(plain):
            raise UsageError(
                "the module ends inside a section: it is cut off", hint="build or copy it again"
            )
        yield kind, at, end
        at = end


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number of at most five bytes, and where it ends."""
    value = 0
    for place in range(5):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise UsageError("the module's sections cannot be read: it is cut off or damaged")


def module_interface(wasm: bytes) -> candid.Interface | None:
    """The interface that a module carries; ``None`` if it carries none.

    Motoko keeps the types of the install argument apart, in ``candid:args``; they are added.

    Args:
        wasm: The module, plain or gzipped.

    Raises:
        UsageError: If it is no module.
        CandidError: If the interface cannot be read.
    """
    service = metadata(wasm, "candid:service")
    if service is None:
        return None
    text = service.decode("utf-8", errors="replace")
    interface = candid.parse_did(text)
    args = metadata(wasm, "candid:args")
    if interface.init_args is not None or args is None:
        return interface
    try:
        init = candid.parse_types(args.decode("utf-8", errors="replace"), interface)
    except CandidError:
        # Types that only the install argument uses are not always in the service's text; without
        # them the methods are still known.
        return interface
    return candid.Interface(
        interface.types,
        interface.service,
        tuple(init),
        (None,) * len(init),
        interface.service_name,
    )
