"""The Wasm binary format, as far as a replica must look inside: checks and instrumenting.

A canister's module hides its state (globals, memory, table) from the host. ``instrument`` rewrites
the binary so that memory and table are exported under names of our own, adds two functions that
give and take all mutable globals at once, and turns the start function into an export, because it
must run once, at installation, and not at each instantiation. Rules
implemented: interface specification, section WebAssembly module requirements. Knows nothing of the
engine that runs the result.
"""

import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from typing import Final

from bridge.replica.execution.cursor import Cursor
from bridge.replica.execution.failures import InvalidModuleError
from bridge.replica.execution.instructions import changes_tables

MAX_MODULE_SIZE: Final = 100 * 1024 * 1024
_MAX_FUNCTIONS: Final = 50_000
_MAX_GLOBALS: Final = 1_000
_MAX_CUSTOM_SECTIONS: Final = 16
_MAX_CUSTOM_SIZE: Final = 1024 * 1024
_MAX_METHODS: Final = 1_000
_MAX_METHOD_NAMES: Final = 20_000
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_WASM_MAGIC: Final = b"\0asm\1\0\0\0"

_CUSTOM, _TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _GLOBAL, _EXPORT = 0, 1, 2, 3, 4, 5, 6, 7
_START, _CODE = 8, 10
# The order in which sections stand: type, import, function, table, memory, tag, global, export,
# start, element, data count, code, data.
_ORDER: Final = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
_KIND_FUNCTION, _KIND_TABLE, _KIND_MEMORY, _KIND_GLOBAL = 0, 1, 2, 3
_NUMBER_TYPES: Final = frozenset({0x7F, 0x7E, 0x7D, 0x7C, 0x7B})
_I32_CONST, _I64_CONST, _F32_CONST, _F64_CONST, _GLOBAL_GET = 0x41, 0x42, 0x43, 0x44, 0x23
_REF_NULL, _REF_FUNC, _SIMD, _END = 0xD0, 0xD2, 0xFD, 0x0B
_EXTENDED_CONST: Final = frozenset({0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E})

_HOOKS: Final = frozenset(
    {
        "canister_init",
        "canister_inspect_message",
        "canister_pre_upgrade",
        "canister_post_upgrade",
        "canister_heartbeat",
        "canister_on_low_wasm_memory",
        "canister_global_timer",
    }
)
_METHOD_KINDS: Final = {
    "canister_update ": "update",
    "canister_query ": "query",
    "canister_composite_query ": "composite_query",
}


@dataclass(frozen=True, slots=True)
class CustomSection:
    """A section that ``read_state`` serves under ``/canister/<id>/metadata/<name>``."""

    public: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What the replica needs to know of a module, and the bytes to compile.

    Attributes:
        module_hash: SHA-256 of the module as it was installed.
        size: Bytes of the module as it was installed.
        wasm: The instrumented binary.
        memory64: Whether pointers have 64 bits.
        has_memory: Whether there is a memory, exported as ``memory_name``.
        prefix: What the names of the added exports begin with.
        global_types: The value types that ``save_name`` gives and ``load_name`` takes.
        has_table: Whether there is a table, exported as ``table_name``.
        has_start: Whether there was a start function, now exported as ``start_name``.
        hooks: Names of the exported system entry points, such as ``canister_init``.
        methods: Public methods: name to ``update``, ``query`` or ``composite_query``.
        metadata: Custom sections by name, without their ``icp:`` prefix.
        changes_tables: Whether code may change tables or drop segments: then each message gets a
            fresh instance, as it does on the IC, where neither is kept between messages.
    """

    module_hash: bytes
    size: int
    wasm: bytes
    memory64: bool
    has_memory: bool
    prefix: str
    global_types: tuple[int, ...]
    has_table: bool
    has_start: bool
    hooks: frozenset[str]
    methods: dict[str, str]
    metadata: dict[str, CustomSection]
    changes_tables: bool

    @property
    def memory_name(self) -> str:
        """The export name of the memory."""
        return f"{self.prefix}memory"

    @property
    def table_name(self) -> str:
        """The export name of the first table."""
        return f"{self.prefix}table"

    @property
    def start_name(self) -> str:
        """The export name of the former start function."""
        return f"{self.prefix}start"

    @property
    def save_name(self) -> str:
        """The export name of the function that returns all mutable globals."""
        return f"{self.prefix}save"

    @property
    def load_name(self) -> str:
        """The export name of the function that sets all mutable globals to its arguments."""
        return f"{self.prefix}load"

    @property
    def orthogonal_persistence(self) -> bool:
        """Whether Motoko's enhanced orthogonal persistence built this module."""
        return "enhanced-orthogonal-persistence" in self.metadata


def _leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(data: bytes) -> bytes:
    return _leb(len(data)) + data


def decompress(module: bytes, limit: int = MAX_MODULE_SIZE) -> bytes:
    """The module itself, unpacked if it is a gzip stream.

    Raises:
        InvalidModuleError: If the stream is broken or unpacks to more than ``limit`` bytes.
    """
    if not module.startswith(_GZIP_MAGIC):
        return module
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(module)) as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidModuleError(f"the gzip stream is broken: {error}") from error
    if len(data) > limit:
        raise InvalidModuleError(f"the module unpacks to more than {limit} bytes")
    return data


def _skip_constant_expression(reader: Cursor) -> None:
    while True:
        opcode = reader.byte()
        if opcode == _END:
            return
        if opcode in (_I32_CONST, _I64_CONST, _GLOBAL_GET, _REF_FUNC, _REF_NULL):
            while reader.byte() >= 0x80:
                pass
        elif opcode == _F32_CONST:
            reader.take(4)
        elif opcode == _F64_CONST:
            reader.take(8)
        elif opcode == _SIMD:
            reader.leb()
            reader.take(16)
        elif opcode not in _EXTENDED_CONST:
            raise InvalidModuleError(f"opcode {opcode:#x} in a constant expression")


def _check_imports(reader: Cursor) -> int:
    """Check each import's form and return the number of imported functions."""
    count = reader.leb()
    for _ in range(count):
        module, field = reader.name(), reader.name()
        kind = reader.byte()
        if kind != _KIND_FUNCTION:
            raise InvalidModuleError(
                f"it imports {module}.{field}, which is not a function: "
                "only functions of the module ic0 can be imported"
            )
        reader.leb()
        if module != "ic0":
            raise InvalidModuleError(
                f"it imports a function {field!r} from the module {module!r}: "
                "only functions of the module ic0 can be imported"
            )
    return count


def _mutable_globals(reader: Cursor) -> list[tuple[int, int]]:
    """Index and value type of each."""
    count = reader.leb()
    if count > _MAX_GLOBALS:
        raise InvalidModuleError(f"it has {count} globals, the limit is {_MAX_GLOBALS}")
    mutable = []
    for index in range(count):
        value_type = reader.byte()
        if value_type in (0x63, 0x64):  # (ref null? heap type)
            reader.leb()
        if reader.byte():
            if value_type not in _NUMBER_TYPES:
                raise InvalidModuleError(
                    "a mutable global holds a reference: such a global cannot be kept "
                    "between messages"
                )
            mutable.append((index, value_type))
        _skip_constant_expression(reader)
    return mutable


def _memory_is_64(reader: Cursor) -> bool:
    count = reader.leb()
    if count > 1:
        raise InvalidModuleError(f"it declares {count} memories, the limit is 1")
    return bool(count) and bool(reader.byte() & 0x04)


@dataclass(slots=True)
class _Exports:
    count: int
    raw: bytes
    names: list[tuple[str, int]]


def _exports(reader: Cursor) -> _Exports:
    count = reader.leb()
    start = reader.at
    names = []
    for _ in range(count):
        name = reader.name()
        names.append((name, reader.byte()))
        reader.leb()
    return _Exports(count, reader.data[start : reader.at], names)


def _methods_and_hooks(names: list[tuple[str, int]]) -> tuple[dict[str, str], frozenset[str]]:
    methods: dict[str, str] = {}
    hooks = set()
    for name, kind in names:
        if not name.startswith("canister_"):
            continue
        if kind != _KIND_FUNCTION:
            raise InvalidModuleError(f"the export {name!r} is not a function")
        if name in _HOOKS:
            hooks.add(name)
            continue
        prefix, space, method = name.partition(" ")
        method_kind = _METHOD_KINDS.get(prefix + space)
        if method_kind is None:
            raise InvalidModuleError(
                f"it exports a function with the reserved name {name!r}: names that begin with "
                "canister_ are the entry points of the interface specification"
            )
        if method in methods:
            raise InvalidModuleError(f"it exports the method {method!r} more than once")
        methods[method] = method_kind
    if len(methods) > _MAX_METHODS:
        raise InvalidModuleError(f"it exports {len(methods)} methods, the limit is {_MAX_METHODS}")
    if sum(map(len, methods)) > _MAX_METHOD_NAMES:
        raise InvalidModuleError(
            f"the names of its methods are longer than {_MAX_METHOD_NAMES} bytes in sum"
        )
    return methods, frozenset(hooks)


def _metadata(sections: list[tuple[str, bytes]]) -> dict[str, CustomSection]:
    metadata: dict[str, CustomSection] = {}
    size = 0
    for full_name, content in sections:
        if not full_name.startswith("icp:"):
            # Motoko marks its persistence by a plain section name.
            if full_name == "enhanced-orthogonal-persistence":
                metadata.setdefault(full_name, CustomSection(public=False, content=content))
            continue
        visibility, _, name = full_name.partition(" ")
        if visibility not in ("icp:public", "icp:private"):
            raise InvalidModuleError(
                f"the custom section {full_name!r} has the reserved prefix icp: but is neither "
                "icp:public nor icp:private"
            )
        if name in metadata:
            raise InvalidModuleError(f"the custom section {name!r} appears more than once")
        metadata[name] = CustomSection(public=visibility == "icp:public", content=content)
        size += len(name.encode()) + len(content)
    if len(metadata) > _MAX_CUSTOM_SECTIONS:
        raise InvalidModuleError(f"it has more than {_MAX_CUSTOM_SECTIONS} icp: custom sections")
    if size > _MAX_CUSTOM_SIZE:
        raise InvalidModuleError(f"its icp: custom sections exceed {_MAX_CUSTOM_SIZE} bytes")
    return metadata


def _split(wasm: bytes) -> tuple[dict[int, bytes], list[tuple[str, bytes]], bytes | None]:
    """The sections by number, the custom sections by name, and the name section's body."""
    sections: dict[int, bytes] = {}
    custom: list[tuple[str, bytes]] = []
    names: bytes | None = None
    rank = -1
    reader = Cursor(wasm, len(_WASM_MAGIC), len(wasm))
    while reader.at < reader.end:
        section = reader.byte()
        size = reader.leb()
        if size > reader.end - reader.at:
            raise InvalidModuleError("a section is longer than the module")
        inner = Cursor(wasm, reader.at, reader.at + size)
        body = reader.take(size)
        if section == _CUSTOM:
            name = inner.name()
            custom.append((name, wasm[inner.at : inner.end]))
            if name == "name":
                names = body
            continue
        if section not in _ORDER or _ORDER.index(section) <= rank:
            raise InvalidModuleError(f"the section of number {section} is out of place")
        rank = _ORDER.index(section)
        sections[section] = body
    return sections, custom, names


def _append(sections: dict[int, bytes], section: int, *entries: bytes) -> int:
    """Add entries to a section that is a counted list; the count before."""
    body = sections.get(section, b"\0")
    reader = Cursor(body, 0, len(body))
    count = reader.leb()
    sections[section] = _leb(count + len(entries)) + body[reader.at :] + b"".join(entries)
    return count


def _add_globals_access(sections: dict[int, bytes], mutable: list[tuple[int, int]]) -> None:
    """Add a function that returns the given globals, and one that sets them."""
    types = _leb(len(mutable)) + bytes(value_type for _, value_type in mutable)
    first_type = _append(sections, _TYPE, b"\x60\0" + types, b"\x60" + types + b"\0")
    _append(sections, _FUNCTION, _leb(first_type), _leb(first_type + 1))
    save = b"".join(b"\x23" + _leb(index) for index, _ in mutable)
    load = b"".join(
        b"\x20" + _leb(place) + b"\x24" + _leb(index) for place, (index, _) in enumerate(mutable)
    )
    _append(sections, _CODE, *(_sized(b"\0" + body + b"\x0b") for body in (save, load)))


def _export_entry(name: str, kind: int, index: int) -> bytes:
    return _sized(name.encode()) + bytes([kind]) + _leb(index)


def instrument(module: bytes) -> ModuleInfo:
    """Check a module's shape and rewrite it for running.

    Args:
        module: The module as given to ``install_code``: Wasm, or Wasm packed by gzip.

    Returns:
        What the module offers, with the binary to compile. Types and code are the engine's to
        check.

    Raises:
        InvalidModuleError: If a rule of the interface specification is broken.
    """
    module_hash = hashlib.sha256(module).digest()
    wasm = decompress(module)
    if not wasm.startswith(_WASM_MAGIC):
        raise InvalidModuleError("it does not begin with the magic number and version of Wasm 1")
    sections, custom, names = _split(wasm)

    def reader(section: int) -> Cursor:
        body = sections.get(section, b"\0")
        return Cursor(body, 0, len(body))

    imported = _check_imports(reader(_IMPORT))
    functions = reader(_FUNCTION).leb()
    if functions > _MAX_FUNCTIONS:
        raise InvalidModuleError(f"it has {functions} functions, the limit is {_MAX_FUNCTIONS}")
    tables = reader(_TABLE).leb()
    has_memory = reader(_MEMORY).leb() > 0
    memory64 = _memory_is_64(reader(_MEMORY))
    mutable = _mutable_globals(reader(_GLOBAL))
    exports = _exports(reader(_EXPORT))
    methods, hooks = _methods_and_hooks(exports.names)
    metadata = _metadata(custom)
    code = sections.get(_CODE, b"\0")

    prefix = "#"
    while any(name.startswith(prefix) for name, _ in exports.names):
        prefix += "#"
    entries = []
    if mutable:
        _add_globals_access(sections, mutable)
        entries.append(_export_entry(f"{prefix}save", _KIND_FUNCTION, imported + functions))
        entries.append(_export_entry(f"{prefix}load", _KIND_FUNCTION, imported + functions + 1))
    if has_memory:
        entries.append(_export_entry(f"{prefix}memory", _KIND_MEMORY, 0))
    if tables:
        entries.append(_export_entry(f"{prefix}table", _KIND_TABLE, 0))
    has_start = _START in sections
    if has_start:
        start = reader(_START).leb()
        entries.append(_export_entry(f"{prefix}start", _KIND_FUNCTION, start))
        del sections[_START]
    sections[_EXPORT] = _leb(exports.count + len(entries)) + exports.raw + b"".join(entries)

    out = bytearray(_WASM_MAGIC)
    for section in _ORDER:
        if section in sections:
            out += bytes([section]) + _sized(sections[section])
    if names is not None:
        out += bytes([_CUSTOM]) + _sized(names)
    return ModuleInfo(
        module_hash=module_hash,
        size=len(module),
        wasm=bytes(out),
        memory64=memory64,
        has_memory=has_memory,
        prefix=prefix,
        global_types=tuple(value_type for _, value_type in mutable),
        has_table=tables > 0,
        has_start=has_start,
        hooks=hooks,
        methods=methods,
        metadata=metadata,
        changes_tables=changes_tables(code, tables=tables),
    )
