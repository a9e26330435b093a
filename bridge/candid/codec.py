"""Encoding and decoding messages: the compiled codecs, their caches, and how failures are told.

Failures are rare, so the plain code says nothing about where they are; the same message is then
gone through once more by the tracing form, which does.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any, Final, Generic, TypeVar

from bridge.candid import runtime as rt
from bridge.candid import types as t
from bridge.candid.budget import DEFAULT, Budget
from bridge.candid.decode import Decoder, DecoderWriter
from bridge.candid.encode import Encoder, EncoderWriter
from bridge.candid.table import Table, flatten, header_bytes, parse_header, to_types
from bridge.errors import CandidError

_K = TypeVar("_K")
_V = TypeVar("_V")

# Layouts of messages remembered by one codec, those of them tried before the type table is read,
# and codecs remembered for encode() and decode().
_LAYOUTS: Final = 32
_TRIED: Final = 8
# A longer head is compiled each time that it comes: overlong numbers and types of a future Candid
# could fill memory with heads of megabytes.
_LONGEST_HEAD: Final = 1 << 16
_CODECS: Final = 256


class _Recent(Generic[_K, _V]):
    """The last entries used; safe to use from many threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[_K, _V] = OrderedDict()
        self._lock = Lock()

    def get(self, key: _K) -> _V | None:
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: _K, value: _V) -> None:
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


class _Charge:
    """Counts the work of writing a decoder: pairs of types compared, and pairs compiled."""

    def __init__(self, expected: Table, budget: Budget, length: int) -> None:
        self._compared: rt.State = [budget.base + budget.per_byte * length]
        parts = len(expected.args) + sum(1 + len(entry.refs) for entry in expected.entries)
        self._compiled: rt.State = [budget.parts + 4 * parts]

    def compare(self) -> None:
        rt.charge(self._compared, 4)

    def compile(self, parts: int) -> None:
        rt.charge(self._compiled, parts)


class _Layout:
    """How one message's types are read as the expected ones; compiled when first needed."""

    def __init__(self, header: bytes, wire: Table, expected: Table, plain: Decoder) -> None:
        self.header = header
        self.wire = wire
        self.expected = expected
        self.plain = plain
        self._others: dict[bool, Any] = {}

    def careful(self, *, deep: bool) -> Any:
        """The tracing form of the decoder, and the deep one; the plain one has paid for it."""
        if deep not in self._others:
            self._others[deep] = DecoderWriter(
                self.wire, self.expected, len(self.header), trace=True, deep=deep
            ).build()
        return self._others[deep]


_Known = tuple[bytes, Decoder, _Layout]


class Codec:
    """Encodes and decodes argument lists of given types; compiled once, safe to share.

    Args:
        types: The types of the arguments, in order.
        budget: Bounds on decoding.

    Raises:
        CandidError: If something among ``types`` is not a type, or is not defined.
    """

    def __init__(self, types: Iterable[t.Type], *, budget: Budget = DEFAULT) -> None:
        self._types = tuple(types)
        self._budget = budget
        self._table = flatten(self._types)
        self._encoder: Encoder | None = None
        self._careful: dict[bool, Any] = {}
        self._layouts: _Recent[bytes, _Layout] = _Recent(_LAYOUTS)
        # The last layout met, and some before it, tried before any look-up.
        self._last: _Known | None = None
        self._latest: tuple[_Known, ...] = ()

    @property
    def types(self) -> tuple[t.Type, ...]:
        """The types of the arguments."""
        return self._types

    @property
    def header(self) -> bytes:
        """How every message of this codec begins: magic number, type table, argument types."""
        return header_bytes(self._table)

    def encode(self, *values: Any) -> bytes:
        """A message with these values.

        Raises:
            CandidError: If a value is not of its type, with the path to the fault.
        """
        encoder = self._encoder
        if encoder is None:
            encoder = self._encoder = EncoderWriter(self._table).build()
        try:
            return encoder(*values)
        except Exception:  # noqa: BLE001 - whatever it was, the careful form says what is wrong
            return self._encode_carefully(values)

    def _encode_carefully(self, values: tuple[Any, ...]) -> bytes:
        if len(values) != len(self._types):
            wanted = f"{len(self._types)} argument{'' if len(self._types) == 1 else 's'}"
            raise CandidError(f"expected {wanted}, not {len(values)}") from None
        path: list[str] = []
        deep = False
        while True:
            if deep not in self._careful:
                self._careful[deep] = EncoderWriter(self._table, trace=True, deep=deep).build()
            try:
                if deep:
                    result = rt.run_deep(self._careful[True](path, *values), self._budget.depth)
                else:
                    result = self._careful[False](path, *values)
            except (rt.TooDeep, RecursionError):
                if deep:
                    raise CandidError("the value is nested too deeply") from None
                deep = True
                path.clear()
                continue
            except rt.Over:
                raise CandidError(
                    f"the value is nested more than {self._budget.depth} deep, or contains itself"
                ) from None
            except CandidError as error:
                place = _place(path) + error.path
                raise CandidError(error.told, path=place, hint=error.hint) from error.__cause__
            except Exception as error:
                # A mapping, sequence or property of the caller's own that fails when it is read.
                message = f"the value cannot be read: {type(error).__name__}: {error}"
                raise CandidError(message, path=_place(path)) from error
            return bytes(result)

    def decode(self, data: bytes | bytearray | memoryview) -> list[Any]:
        """The values of a message, read as the expected types.

        Raises:
            CandidError: If the message is malformed, does not fit the types, or costs more than
                the budget; with the path in the value and the byte offset.
        """
        if type(data) is not bytes:
            data = as_message(data)
        last = self._last
        if last is None or not data.startswith(last[0]):
            last = self._find(data)
        try:
            return last[1](data, [self._budget.base + self._budget.per_byte * len(data)])
        except Exception:  # noqa: BLE001 - told apart by the careful form
            return self._decode_carefully(data, last[2])

    def _find(self, data: bytes) -> _Known:
        """What is known of a message's layout, which is not the last one's."""
        latest = self._latest
        # A head that is known need not be parsed, since none is the beginning of another.
        for known in latest:
            if data.startswith(known[0]):
                break
        else:
            layout = self._find_layout(data)
            known = (layout.header, layout.plain, layout)
            if len(layout.header) > _LONGEST_HEAD:
                return known
            self._latest = (known, *latest[: _TRIED - 1])
        self._last = known
        return known

    def _find_layout(self, data: bytes) -> _Layout:
        """The layout of a message whose head is not among the latest."""
        budget = self._budget
        wire, start = parse_header(data, budget.type_nodes)
        header = data[:start]
        layout = self._layouts.get(header)
        if layout is None:
            charge = _Charge(self._table, budget, len(data))
            writer = DecoderWriter(
                wire, self._table, start, compare=charge.compare, compile_=charge.compile
            )
            try:
                decoder = writer.build()
            except (rt.Over, RecursionError):
                raise CandidError(
                    "comparing the message's types with those expected costs more than the budget",
                    offset=start,
                ) from None
            layout = _Layout(header, wire, self._table, decoder)
            if start <= _LONGEST_HEAD:
                self._layouts.put(header, layout)
        return layout

    def _decode_carefully(self, data: bytes, layout: _Layout) -> list[Any]:
        """Find out what is wrong, or decode what nests too deep for the plain form."""
        budget = self._budget
        deep = False
        while True:
            path: list[str] = []
            state: rt.State = [budget.base + budget.per_byte * len(data), path, budget.depth]
            try:
                decoder = layout.careful(deep=deep)
                if deep:
                    # The decoder looks at the depth itself, and knows where it stands.
                    values = rt.run_deep(decoder(data, state), budget.depth + 3)
                else:
                    values = decoder(data, state)
            except (rt.TooDeep, RecursionError):
                if deep:
                    raise CandidError("the message is nested too deeply") from None
                deep = True
                continue
            except rt.SIGNALS as signal:
                raise told(signal, data, path, state) from None
            except CandidError as error:
                raise CandidError(
                    error.told, path=_place(path), offset=error.offset, hint=error.hint
                ) from error.__cause__
            result: list[Any] = values
            return result


def _place(path: list[str]) -> str:
    """A path as text; the middle of a very long one is left out."""
    if len(path) > 40:
        path = [*path[:20], "...", *path[-20:]]
    return "".join(path)


def as_message(data: object) -> bytes:
    """The message as ``bytes``."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CandidError(f"a message is bytes, not {type(data).__name__}")
    return bytes(data)


def told(
    signal: Exception, data: bytes, path: list[str], state: rt.State, at: int | None = None
) -> CandidError:
    """The error that a signal from decoding stands for; ``at`` for one that does not say where."""
    place = _place(path)
    match signal:
        case rt.Malformed() | rt.Mismatch():
            message, offset = signal.args
            return CandidError(message, path=place, offset=offset)
        case rt.Over():
            offset = signal.args[0] if signal.args else at
            if state[0] < 0:
                return CandidError(
                    "decoding costs more than the budget for a message of this length",
                    path=place,
                    offset=offset,
                    hint="give a larger Budget if the sender is to be trusted",
                )
            message = "the message is nested more deeply than the budget allows"
            return CandidError(message, path=place, offset=offset)
        case UnicodeDecodeError():
            return CandidError("the text is not UTF-8", path=place)
        case _:
            return CandidError("the message ends inside this value", path=place, offset=len(data))


_by_identity: Final[_Recent[tuple[int, ...], Codec]] = _Recent(_CODECS)
_by_layout: Final[_Recent[object, Codec]] = _Recent(_CODECS)


def codec_for(types: Sequence[t.Type]) -> Codec:
    """A codec for these types, from a bounded cache."""
    identity = tuple(map(id, types))
    # A cached codec holds its types, so their identities cannot be taken by others.
    found = _by_identity.get(identity)
    if found is not None:
        return found
    table = flatten(types)
    key = (table.entries, table.args, tuple(_labels(type_) for type_ in table.types))
    shared = _by_layout.get(key)
    codec = Codec(types)
    if shared is not None:
        codec = _sharing(codec, shared)
    else:
        _by_layout.put(key, codec)
    _by_identity.put(identity, codec)
    return codec


def _sharing(codec: Codec, other: Codec) -> Codec:
    """Let a codec use what another has compiled for types written the same way."""
    codec._encoder = other._encoder  # noqa: SLF001 - the same class's parts
    codec._careful = other._careful  # noqa: SLF001
    codec._layouts = other._layouts  # noqa: SLF001
    codec._last = other._last  # noqa: SLF001
    codec._latest = other._latest  # noqa: SLF001
    return codec


def _labels(type_: t.Type) -> object:
    if isinstance(type_, t.Record):
        return tuple(field.label for field in type_.declared), type_.into
    if isinstance(type_, t.Variant):
        return tuple(field.label for field in type_.fields)
    return None


def encode(types: Sequence[t.Type], values: Sequence[Any]) -> bytes:
    """A message with ``values`` of ``types``; the compiled codec is kept in a bounded cache.

    Raises:
        CandidError: If a value is not of its type.
    """
    return codec_for(types).encode(*values)


def decode(types: Sequence[t.Type], data: bytes | bytearray | memoryview) -> list[Any]:
    """The values of a message, read as ``types``; with the default budget.

    Raises:
        CandidError: If the message is malformed, does not fit, or costs more than the budget.
    """
    return codec_for(types).decode(data)


def message_types(
    data: bytes | bytearray | memoryview, *, names: Iterable[str] = (), budget: Budget = DEFAULT
) -> list[t.Type]:
    """The types that a message itself says its arguments have.

    Args:
        data: The message; its values are not looked at.
        names: Names that labels may have; a label is a number where none of these fits.
        budget: Bounds on the type table.

    Raises:
        CandidError: If the type table is malformed or larger than the budget allows.
    """
    table, _ = parse_header(as_message(data), budget.type_nodes)
    return to_types(table, names)
