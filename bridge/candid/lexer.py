"""The words of Candid's text: shared by ``.did`` files and textual values.

Comments are dropped here; block comments nest. A text literal's content is kept as bytes, since a
blob may hold any. Grammar is the parsers' business.
"""

import re
from typing import Final, NamedTuple, NoReturn

from bridge.errors import CandidError

_TOKEN: Final = re.compile(
    r"""
    (?P<space>[\ \t\r\n]+|//[^\n]*)
  | (?P<comment>/\*)
  | (?P<id>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<float>
        0[xX][0-9A-Fa-f](?:_?[0-9A-Fa-f])*
          (?:\.(?:[0-9A-Fa-f](?:_?[0-9A-Fa-f])*)?(?:[pP][+-]?[0-9](?:_?[0-9])*)?
            |[pP][+-]?[0-9](?:_?[0-9])*)
      | [0-9](?:_?[0-9])*
          (?:\.(?:[0-9](?:_?[0-9])*)?(?:[eE][+-]?[0-9](?:_?[0-9])*)?
            |[eE][+-]?[0-9](?:_?[0-9])*)
    )
  | (?P<nat>0[xX][0-9A-Fa-f](?:_?[0-9A-Fa-f])*|[0-9](?:_?[0-9])*)
  | (?P<text>")
  | (?P<symbol>->|[{}()<>:;,=.+-])
    """,
    re.VERBOSE,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f\x7f]+')
_ESCAPE: Final = re.compile(
    r"\\(?:(?P<simple>[nrt\\\"'])|(?P<byte>[0-9A-Fa-f]{2})"
    r"|u\{(?P<char>[0-9A-Fa-f](?:_?[0-9A-Fa-f])*)\})"
)
_SIMPLE: Final = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\", '"': b'"', "'": b"'"}


class Token(NamedTuple):
    """One word.

    Attributes:
        kind: ``id``, ``nat``, ``float``, ``text``, ``symbol`` or ``end``.
        text: As written; for a text literal nothing.
        at: Character offset.
        content: What a text literal stands for.
    """

    kind: str
    text: str
    at: int
    content: bytes = b""


def fault(source: str, at: int, message: str, *, hint: str | None = None) -> CandidError:
    """An error with its line and column."""
    line = source.count("\n", 0, at) + 1
    column = at - (source.rfind("\n", 0, at) + 1) + 1
    return CandidError(f"line {line}, column {column}: {message}", offset=at, hint=hint)


def tokens(source: str) -> list[Token]:
    """All words of a text, with an ``end`` at its end.

    Raises:
        CandidError: If something is no word, or a comment or text literal does not end.
    """
    found = []
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise fault(source, at, f"unexpected character {source[at]!r}")
        kind = str(match.lastgroup)
        if kind == "comment":
            at = _comment_end(source, at)
        elif kind == "text":
            content, end = _literal(source, at)
            found.append(Token("text", "", at, content))
            at = end
        else:
            if kind != "space":
                found.append(Token(kind, match[0], at))
            at = match.end()
    found.append(Token("end", "", len(source)))
    return found


def _comment_end(source: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(source, start):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    raise fault(source, start, "the comment does not end")


def _literal(source: str, start: int) -> tuple[bytes, int]:
    """A text literal's content, and the offset after its closing quote."""
    at = start + 1
    out = bytearray()
    while at < len(source):
        if plain := _PLAIN.match(source, at):
            try:
                out += plain[0].encode()
            except UnicodeEncodeError:
                raise fault(
                    source,
                    at,
                    "a lone surrogate is no character",
                    hint="an argument typed in a shell is read by the locale, which has to be one "
                    "of UTF-8: LC_ALL=C.UTF-8",
                ) from None
            at = plain.end()
        elif source[at] == '"':
            return bytes(out), at + 1
        elif escape := _ESCAPE.match(source, at):
            out += _escaped(source, at, escape)
            at = escape.end()
        elif source[at] == "\\":
            raise fault(source, at, "unknown escape; expected \\n, \\t, \\\\, \\xx or \\u{...}")
        else:
            raise fault(source, at, "a control character must be written as an escape")
    raise fault(source, start, "the text literal does not end")


def _escaped(source: str, at: int, escape: re.Match[str]) -> bytes:
    if escape["simple"]:
        return _SIMPLE[escape["simple"]]
    if escape["byte"]:
        return bytes.fromhex(escape["byte"])
    digits = escape["char"].replace("_", "").lstrip("0")
    code = int(digits or "0", 16) if len(digits) <= 6 else 0x110000
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise fault(source, at, "the escape is no Unicode scalar value")
    return chr(code).encode()


def integer(source: str, token: Token) -> int:
    """The number that a ``nat`` word stands for."""
    digits = token.text.replace("_", "")
    if digits[:2] in ("0x", "0X"):
        return int(digits, 16)
    try:
        return int(digits)
    except ValueError:  # Python refuses very long decimal numbers, since they take quadratic time
        raise fault(
            source, token.at, "the number has too many digits", hint="write it as hexadecimal"
        ) from None


class Cursor:
    """A place among the words of a text.

    Args:
        source: The text.

    Raises:
        CandidError: If the text does not consist of words.
    """

    def __init__(self, source: str) -> None:
        if not isinstance(source, str):
            raise CandidError(f"expected text, not {type(source).__name__}")
        self.source = source
        self._tokens = tokens(source)
        self._place = 0

    @property
    def now(self) -> Token:
        """The word at the place."""
        return self._tokens[self._place]

    def ahead(self, count: int = 1) -> Token:
        """A word further on."""
        return self._tokens[min(self._place + count, len(self._tokens) - 1)]

    def next(self) -> Token:
        """The word at the place, going past it."""
        token = self._tokens[self._place]
        if token.kind != "end":
            self._place += 1
        return token

    def at_symbol(self, symbol: str) -> bool:
        """Whether a symbol stands here."""
        token = self.now
        return token.kind == "symbol" and token.text == symbol

    def at_word(self, word: str) -> bool:
        """Whether an identifier or keyword stands here."""
        token = self.now
        return token.kind == "id" and token.text == word

    def take(self, symbol: str) -> bool:
        """Go past a symbol if it stands here."""
        if self.at_symbol(symbol):
            self._place += 1
            return True
        return False

    def expect(self, symbol: str, what: str) -> Token:
        """Go past a symbol that must stand here."""
        if not self.at_symbol(symbol):
            self.fail(f"expected {symbol!r} {what}")
        return self.next()

    def fail(
        self, message: str, token: Token | None = None, *, hint: str | None = None
    ) -> NoReturn:
        """Refuse the text, telling what stands at the place."""
        token = token or self.now
        if token.kind == "end":
            found = "the text ends"
        elif token.kind == "text":
            found = "there is a text literal"
        else:
            found = f"there is {token.text[:40]!r}"
        raise fault(self.source, token.at, f"{message}, but {found}", hint=hint)

    def text(self, token: Token) -> str:
        """The content of a text literal as characters."""
        try:
            return token.content.decode()
        except UnicodeDecodeError:
            raise fault(self.source, token.at, "the text literal is not UTF-8") from None
