"""Reads an entry from TOML, and says of each mistake in which field it is.

The least that says all there is to say of a stranger's receiver:

    name = "theirs"
    wasm = "theirs.wasm"
    role = "receiver"
    dialects = ["maf"]

Everything else has a default. What an entry does not offer is never asked for; the scenarios that
need it are then unsupported, with that reason.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bridge import candid, dialects
from bridge.conformance.entry import Entry, Method, Variant, is_packaged
from bridge.errors import BridgeError, PrincipalError, UsageError
from bridge.principal import Principal

_SECOND: Final = 1_000_000_000
_LEAST: Final = 'name = "theirs", wasm = "theirs.wasm" and dialects = ["maf"], a line each'
ROLES: Final = ("sender", "receiver", "both")
_APPLICATIONS: Final = ("unknown", "echo", "compute", "crc32", "player")
_LONGEST_NAME: Final = 60
_ASKED: Final = ("nothing", "watch", "own")
_VARIANTS: Final = ("priced", "sender", "receiver", "previous")
_ANSWERS: Final = ("outcome", "handled")


def parse(text: str, *, place: Path, called: str) -> Entry:
    """Read an entry from TOML.

    Args:
        text: The TOML.
        place: The folder that relative paths are read from.
        called: What errors call it.

    Raises:
        UsageError: As `load`.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"the entry {called} is not TOML: {error}", hint=f"the least is: {_LEAST}"
        ) from error
    return from_mapping(raw, place=place, called=called)


def is_name(name: str) -> bool:
    """Whether a text can stand for an implementation in a matrix."""
    return bool(name) and name.isprintable() and len(name) <= _LONGEST_NAME and "/" not in name


class _Fields:
    """A table of an entry; each field is taken once, with its type, and none may remain."""

    def __init__(self, raw: Mapping[str, Any], called: str, within: str = "") -> None:
        self._raw = dict(raw)
        self._called = called
        self._within = within

    def fault(self, name: str, wrong: str, hint: str | None = None) -> UsageError:
        return UsageError(
            f"the entry {self._called}: {self._within}{name} {wrong}",
            hint=hint or f"the least is: {_LEAST}",
        )

    def take(self, name: str, kind: type, default: Any) -> Any:
        value = self._raw.pop(name, default)
        if value is not default and type(value) is not kind:
            words = {str: "a text", int: "a whole number", list: "a list", dict: "a table"}
            raise self.fault(name, f"must be {words.get(kind, kind.__name__)}, not {value!r:.60}")
        return value

    def text(self, name: str, default: str | None = None, *, among: tuple[str, ...] = ()) -> Any:
        value = self.take(name, str, default)
        if value is not None and among and value not in among:
            raise self.fault(name, f"cannot be {value!r:.60}", "choose one of " + ", ".join(among))
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.take(name, list, ())
        if not all(isinstance(value, str) for value in values):
            raise self.fault(name, "must be a list of texts")
        return tuple(values)

    def table(self, name: str) -> "_Fields":
        return _Fields(self.take(name, dict, {}), self._called, f"{self._within}{name}.")

    def holds_table(self, name: str) -> bool:
        return isinstance(self._raw.get(name), dict)

    def names(self) -> list[str]:
        return list(self._raw)

    def end(self) -> None:
        if self._raw:
            raise self.fault(
                next(iter(self._raw)), "is no field of an entry", "fields: " + ", ".join(_FIELDS)
            )


_FIELDS: Final = (
    *("name", "about", "role", "dialects", "wasm", "packaged", "canister", "command", "install"),
    *("install_fields", "url", "requests", "response"),
    *("send", "answers", "asked", "application", "first_retry", "attempts", "lacks", "variants"),
)


def from_mapping(raw: Mapping[str, Any], *, place: Path, called: str) -> Entry:
    """An entry from a table that was read.

    Raises:
        UsageError: As `load`.
    """
    fields = _Fields(raw, called)
    name = fields.text("name")
    if not name:
        raise fields.fault("name", "is missing", "give the name that the matrix shall show")
    if not is_name(name):
        raise fields.fault(
            "name", f"cannot be {name!r:.60}", f"at most {_LONGEST_NAME} printable characters"
        )
    spoken = fields.texts("dialects")
    if not spoken:
        raise fields.fault("dialects", "is missing", 'such as dialects = ["maf"]')
    for dialect in spoken:
        if dialect not in dialects.DIALECTS:
            raise fields.fault(
                "dialects",
                f"names {dialect!r:.60}, which is none",
                "choose from " + ", ".join(dialects.DIALECTS),
            )
    role = fields.text("role", "both", among=ROLES)
    canister = fields.text("canister")
    asked = fields.text("asked", "nothing", among=_ASKED)
    command = fields.texts("command")
    ours = asked == "watch" or bool(command)
    entry = Entry(
        name=name,
        role=role,
        dialects=spoken,
        about=fields.text("about", ""),
        wasm={
            dialect: place / path for dialect, path in _by_dialect(fields, "wasm", spoken).items()
        },
        packaged=_packaged(fields, spoken),
        canister=None if canister is None else _canister(fields, canister),
        url=_url(fields),
        command=command,
        install=_install(fields, "reference" if ours else "()"),
        install_fields=_install_fields(fields),
        send=_send(fields),
        answers=_answers(fields),
        asked=asked,
        application=_applications(fields, spoken),
        requests=_requests(fields),
        response=_payload(fields, "response", fields.text("response")),
        first_retry=_duration(fields, "first_retry", "330 s"),
        attempts=_count(fields, "attempts", 10),
        lacks=_texts_by_name(fields, "lacks"),
        variants=_variants(fields, spoken, place),
    )
    fields.end()
    sources = [bool(entry.wasm), bool(entry.packaged), canister is not None, bool(entry.command)]
    if sum(sources) != 1:
        raise fields.fault(
            "wasm", "or packaged, canister or command must be given", "exactly one of the four"
        )
    if entry.url and entry.canister is None:
        raise fields.fault("url", "needs canister", "it says where one stands that is installed")
    if entry.answers and entry.asked != "own":
        raise fields.fault("answers", "needs asked to be own", 'add asked = "own"')
    return entry


def _by_dialect(fields: _Fields, name: str, spoken: tuple[str, ...]) -> dict[str, str]:
    """One text for all dialects, or a table by dialect."""
    if not fields.holds_table(name):
        text = fields.text(name)
        return {} if text is None else dict.fromkeys(spoken, text)
    table = fields.table(name)
    texts = {dialect: table.text(dialect) for dialect in table.names()}
    for dialect in texts:
        if dialect not in spoken:
            raise table.fault(dialect, "is not among its dialects", ", ".join(spoken))
    if missing := [dialect for dialect in spoken if dialect not in texts]:
        raise table.fault(missing[0], "is missing", "one for each of its dialects")
    return texts


def _packaged(fields: _Fields, spoken: tuple[str, ...]) -> dict[str, str]:
    named = _by_dialect(fields, "packaged", spoken)
    for text in named.values():
        if not is_packaged(text):
            raise fields.fault("packaged", f"cannot be {text!r:.60}", "such as motoko/both_maf")
    return named


def _applications(fields: _Fields, spoken: tuple[str, ...]) -> dict[str, str]:
    named = _by_dialect(fields, "application", spoken)
    for text in named.values():
        if text not in _APPLICATIONS:
            raise fields.fault(
                "application",
                f"cannot be {text!r:.60}",
                "choose one of " + ", ".join(_APPLICATIONS),
            )
    return named


def _canister(fields: _Fields, text: str) -> Principal:
    try:
        return Principal.from_text(text)
    except PrincipalError as error:
        raise fields.fault("canister", f"is no canister id: {error.message}") from error


def _url(fields: _Fields) -> str:
    text: str = fields.text("url", "")
    if text and not re.fullmatch(r"https?://[^\s/?#]+/?", text):
        raise fields.fault(
            "url", f"is no network's: {text!r:.60}", 'such as "http://127.0.0.1:4943"'
        )
    return text.rstrip("/")


def _install(fields: _Fields, default: str) -> str:
    text: str = fields.text("install", default)
    if text != "reference":
        _check_values(fields, "install", text)
    return text


def _install_fields(fields: _Fields, default: str = "record {}") -> str:
    text: str = fields.text("install_fields", default)
    if not text:
        return text
    _check_values(fields, "install_fields", f"({text})")
    (type_,), _ = candid.infer_values(f"({text})")
    if not isinstance(type_, candid.Record):
        raise fields.fault("install_fields", "must be a record", 'such as "record { n = 1 : nat }"')
    return text


def _check_values(fields: _Fields, name: str, text: str) -> None:
    try:
        candid.infer_values(text)
    except BridgeError as error:
        raise fields.fault(name, f"is no Candid text: {error.message}") from error


def _requests(fields: _Fields) -> tuple[bytes, ...]:
    found = [_payload(fields, "requests", text) for text in fields.texts("requests")]
    payloads = tuple(payload for payload in found if payload is not None)
    if len(payloads) == 1 or len(set(payloads)) != len(payloads):
        raise fields.fault("requests", "must be at least two, of which none is another")
    return payloads


def _payload(fields: _Fields, name: str, text: str | None) -> bytes | None:
    """The bytes of a text as it stands, or of a blob as Candid has it."""
    if text is None or not text.startswith("blob "):
        return None if text is None else text.encode()
    _check_values(fields, name, f"({text})")
    _, values = candid.infer_values(f"({text})")
    if len(values) != 1 or not isinstance(values[0], bytes):
        raise fields.fault(name, f"is no blob: {text!r:.60}", "such as 'blob \"\\01\\02\"'")
    return values[0]


def _send(fields: _Fields) -> Method | None:
    if "send" not in fields.names():
        return None
    return _method(fields.table("send"))


def _method(fields: _Fields) -> Method:
    name = fields.text("method")
    if not name:
        raise fields.fault("method", "is missing", "the name of the canister's method")
    query = fields.take("query", bool, default=False)
    method = Method(
        name,
        fields.text("arguments", "()"),
        query,
        fields.text("field", ""),
        fields.text("where", ""),
    )
    fields.end()
    return method


def _answers(fields: _Fields) -> dict[str, Method]:
    table = fields.table("answers")
    for name in table.names():
        if name not in _ANSWERS:
            raise table.fault(name, "cannot be asked", "choose from " + ", ".join(_ANSWERS))
    return {name: _method(table.table(name)) for name in table.names()}


def _duration(fields: _Fields, name: str, default: str) -> int:
    text: str = fields.text(name, default)
    number, _, unit = text.partition(" ")
    units = {"ms": 1_000_000, "s": _SECOND, "min": 60 * _SECOND, "h": 3600 * _SECOND}
    if not number.isdecimal() or unit not in units or int(number) == 0:
        raise fields.fault(name, f"is no duration: {text!r:.60}", 'such as "330 s"')
    return int(number) * units[unit]


def _count(fields: _Fields, name: str, default: int) -> int:
    count: int = fields.take(name, int, default)
    if not 1 <= count <= 1000:
        raise fields.fault(name, "is a number from 1 to 1000")
    return count


def _texts_by_name(fields: _Fields, name: str) -> dict[str, str]:
    table = fields.table(name)
    return {key: table.text(key) for key in table.names()}


def _variants(fields: _Fields, spoken: tuple[str, ...], place: Path) -> dict[str, Variant]:
    """Each a text, which is a build that speaks `unified`, or a table by dialect."""
    table = fields.table("variants")
    found = {}
    for name in table.names():
        if name not in _VARIANTS:
            raise table.fault(name, "is none", "choose from " + ", ".join(_VARIANTS))
        more = ""
        if not table.holds_table(name):
            sources = {"unified": table.text(name)}
        else:
            given = table.table(name)
            more = _install_fields(given, "")
            sources = {dialect: given.text(dialect) for dialect in given.names()}
            for dialect in sources:
                if dialect not in spoken:
                    raise given.fault(dialect, "is not among its dialects", ", ".join(spoken))
        modules = {d: s if is_packaged(s) else str(place / s) for d, s in sources.items()}
        found[name] = Variant(modules, more)
    return found
