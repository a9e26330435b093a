"""Reads the public declarations out of Motoko and Rust sources, with their comments.

It knows as much of the two languages as that takes: where a declaration ends, and what is inside of
what. Sources are of the house's own format, one declaration a line or more. It knows no page.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_OPENING, _CLOSING = "([{", ")]}"


@dataclass
class Declaration:
    """One public name: what is written of it in the source, without the body of a function."""

    name: str
    kind: str
    code: str
    comment: str
    members: list["Declaration"] = field(default_factory=list)


# --- What both languages have in common -----------------------------------------------------------

_QUIET = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)


def _muted(text: str) -> str:
    """The text with strings and comments blanked: only brackets of code are left."""
    return _QUIET.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def _closing(code: str, at: int) -> int:
    """The place behind the bracket that closes the one at ``at``."""
    depth = 0
    for place in range(at, len(code)):
        if code[place] in _OPENING:
            depth += 1
        elif code[place] in _CLOSING:
            depth -= 1
            if depth == 0:
                return place + 1
    raise ValueError(f"a bracket is not closed: {code[at : at + 60]!r}")


def _until(code: str, at: int, ends: str) -> int:
    """The first place, outside of brackets, of one of the characters."""
    while at < len(code) and code[at] not in ends:
        at = _closing(code, at) if code[at] in _OPENING else at + 1
    return at


def _comment_before(text: str, at: int) -> str:
    """The ``///`` lines right before a place, attributes between them left out."""
    lines = []
    for line in reversed(text[:at].rstrip(" ").splitlines()):
        bare = line.strip()
        if bare.startswith("///"):
            lines.append(bare[3:].removeprefix(" "))
        elif not bare.startswith(("#[", "#![")):
            break
    return "\n".join(reversed(lines)).strip()


def _dedented(code: str) -> str:
    """A declaration as if it stood at the margin: its first line does already."""
    first, *others = code.rstrip().splitlines()
    widths = [len(line) - len(line.lstrip()) for line in others if line.strip()]
    # The last line closes what the first opened, so that it stands where the first one did.
    cut = widths[-1] if widths and others[-1].strip()[:1] in _CLOSING else min(widths, default=0)
    return "\n".join([first.strip(), *(line[cut:].rstrip() for line in others)])


def _direct(code: str, start: int, end: int) -> Iterator[int]:
    """The places of line beginnings in ``code[start:end]`` that no bracket in it encloses."""
    at = start
    while at < end:
        line_end = code.find("\n", at, end)
        yield at + len(code[at:end]) - len(code[at:end].lstrip(" "))
        place = at
        stop = end if line_end < 0 else line_end
        while place < stop:
            if code[place] in _OPENING:
                place = _closing(code, place)
                if place > stop:  # it closes on a later line, which goes on from there
                    line_end = code.find("\n", place, end)
                    stop = end if line_end < 0 else line_end
            else:
                place += 1
        at = stop + 1


# --- Motoko ---------------------------------------------------------------------------------------

_MOTOKO = re.compile(
    r"public (?:(?P<kind>type|class|let|func|module)|(?:shared|query|composite query)\b[^\n]*?func)"
    r"\s+(?P<name>\w+)"
)


def motoko(file: Path) -> list[Declaration]:
    """The public declarations of a Motoko module, class members under their class."""
    text = file.read_text(encoding="utf-8")
    code = _muted(text)
    start = re.search(r"^(?:module|mixin)\b", code, re.MULTILINE)
    if start is None:
        raise ValueError(f"{file} is neither a module nor a mixin")
    body = _until_brace(code, start.start())
    return list(_motoko_in(text, code, body + 1, _closing(code, body) - 1))


def _until_brace(code: str, at: int) -> int:
    """The brace that opens a body: what stands before it may have round and square brackets."""
    while code[at] != "{":
        at = _closing(code, at) if code[at] in "([" else at + 1
    return at


def _motoko_in(text: str, code: str, start: int, end: int) -> Iterator[Declaration]:
    for at in _direct(code, start, end):
        found = _MOTOKO.match(text, at, end)
        if found is None:
            continue
        kind = found["kind"] or "method"
        comment = _comment_before(text, at)
        if kind == "class":
            body = _until_brace(code, found.end())
            members = list(_motoko_in(text, code, body + 1, _closing(code, body) - 1))
            yield Declaration(found["name"], kind, text[at:body].rstrip(), comment, members)
        elif kind == "type":
            stop = _until(code, at, ";")
            yield Declaration(found["name"], kind, _dedented(text[at:stop]), comment)
        elif kind == "let":
            stop = _until(code, at, ";=")
            value = text[stop : _until(code, stop, ";")]
            whole = text[at:stop].rstrip() + (f" {value}" if "\n" not in value else "")
            yield Declaration(found["name"], kind, whole, comment)
        else:
            yield Declaration(found["name"], kind, _motoko_signature(text, code, found), comment)


def _motoko_signature(text: str, code: str, found: re.Match[str]) -> str:
    """A function up to its body; a result type in braces belongs to it."""
    at = found.end()
    while code[at] not in "{=;":
        if code[at] == ":":  # of the result: its own braces end before those of the body
            at += 1
            while code[at].isspace() or re.match(r"async\*?\s", code[at:]):
                at += len(re.match(r"async\*?\s|\s", code[at:])[0])  # type: ignore[index]
            if code[at] in _OPENING:
                at = _closing(code, at)
        else:
            at = _closing(code, at) if code[at] in "([" else at + 1
    return _dedented(text[found.start() : at].replace("system func", "func"))


_ALIAS = re.compile(r"public (?:type|let) \w+ = (\w+)\.(\w+)")
_IMPORT = re.compile(r'^import (\w+) "(\w+)";', re.MULTILINE)


def motoko_surface(file: Path) -> list[Declaration]:
    """What a module offers, with names that it only passes on as they are declared elsewhere."""
    imports = dict(_IMPORT.findall(file.read_text(encoding="utf-8")))
    surface: dict[str, Declaration] = {}
    for own in motoko(file):
        alias = _ALIAS.match(own.code)
        found = own
        if alias is not None and alias[1] in imports:
            others = motoko(file.with_name(f"{imports[alias[1]]}.mo"))
            ranked = [one for one in others if one.name == alias[2]]
            found = next((one for one in ranked if one.kind == own.kind), ranked[0])
            code = re.sub(rf"\b{alias[2]}\b", own.name, found.code, count=1)
            comment = own.comment or found.comment
            found = Declaration(own.name, found.kind, code, comment, found.members)
        surface[found.name] = found
    return list(surface.values())


def motoko_types(surface: list[Declaration], files: list[Path]) -> list[Declaration]:
    """The types of these files that a surface speaks of without declaring them, and theirs."""
    known: dict[str, Declaration] = {}
    for file in files:
        known |= {one.name: one for one in motoko(file) if one.kind == "type"}
    shown = {one.name for one in surface}
    waiting = [code for one in surface for code in [one.code, *(m.code for m in one.members)]]
    found: list[Declaration] = []
    while waiting:
        for name in re.findall(r"\b[A-Z]\w*", _muted(waiting.pop())):
            if name in known and name not in shown:
                shown.add(name)
                found.append(known[name])
                waiting.append(known[name].code)
    return sorted(found, key=lambda one: one.name)


# --- Rust -----------------------------------------------------------------------------------------

_RUST = re.compile(
    r"pub (?:(?:const |async )*(?P<kind>fn|struct|enum|trait|type|const|static)) (?P<name>\w+)"
)
_IMPL = re.compile(r"impl(?:<[^{]*?>)? (?P<type>\w+)[^{]*\{")


def rust(file: Path) -> list[Declaration]:
    """The public declarations of a Rust module; methods are members of their type."""
    text = file.read_text(encoding="utf-8")
    code = _muted(text)
    found: dict[str, Declaration] = {}
    methods: list[tuple[str, Declaration]] = []
    for at in _direct(code, 0, len(code)):
        if text.startswith("impl", at):
            block = _IMPL.match(code, at)
            if block is None or " for " in block[0]:
                continue
            end = _closing(code, block.end() - 1) - 1
            for inner in _direct(code, block.end(), end):
                one = _rust_at(text, code, inner)
                if one is not None:
                    methods.append((block["type"], one))
        else:
            one = _rust_at(text, code, at)
            if one is not None:
                found[one.name] = one
    for owner, method in methods:
        if owner in found:
            found[owner].members.append(method)
    return list(found.values())


def _rust_at(text: str, code: str, at: int) -> Declaration | None:
    found = _RUST.match(text, at)
    if found is None:
        return None
    kind, comment = found["kind"], _comment_before(text, at)
    stop = _until(code, at, "{;=" if kind == "fn" else ";")
    if kind in {"struct", "enum", "trait"}:
        stop = next(place for place in range(at, len(code)) if code[place] in "{;(")
        stop = _closing(code, stop) if code[stop] in "{(" else stop
    elif kind == "fn":
        stop = next(
            place for place in _outside(code, at) if code[place] in "{;"
        )  # a where clause belongs to it
    declaration = _dedented(text[at:stop])
    if kind == "struct":
        declaration = _public_fields(declaration)
    return Declaration(found["name"], kind, declaration, comment)


def _outside(code: str, at: int) -> Iterator[int]:
    """Places outside of round and square brackets."""
    while at < len(code):
        if code[at] in "([":
            at = _closing(code, at)
        else:
            yield at
            at += 1


def _public_fields(code: str) -> str:
    """A struct without the fields that are its own business, and without their comments."""
    if "{" not in code:
        return re.sub(r"\((?!\s*pub).*\)", "(...)", code, flags=re.DOTALL)
    head, *lines = code.splitlines()
    kept: list[str] = []
    waiting: list[str] = []
    hidden = False
    for line in lines[:-1]:
        bare = line.strip()
        if bare.startswith(("///", "//")):
            waiting.append(line)
        elif bare.startswith("#["):
            continue
        elif bare.startswith("pub ") or (kept and not bare.startswith("pub") and _goes_on(kept)):
            kept += [*waiting, line]
            waiting = []
        else:
            waiting, hidden = [], hidden or bool(bare)
    kept += ["    // and what is private"] if hidden and kept else []
    if not kept:
        return head.rstrip().removesuffix("{").rstrip()
    return "\n".join([head, *kept, lines[-1]])


def _goes_on(kept: list[str]) -> bool:
    """Whether the last field is not at its end yet."""
    return not kept[-1].rstrip().endswith(",")


_MACRO = re.compile(r"^#\[macro_export\]\nmacro_rules! (\w+)", re.MULTILINE)


def rust_macros(files: Iterable[Path]) -> list[Declaration]:
    """The macros that files export from the crate's root."""
    macros = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        for found in _MACRO.finditer(text):
            comment = _comment_before(text, found.start())
            name = f"{found[1]}!"
            macros.append(Declaration(name, "macro", f"async_flow::{name}(...)", comment))
    return macros


_EXPORTS = re.compile(r"^pub use ((?:\w+::)*\w+)::(?:\{([^}]*)\}|(\w+));", re.MULTILINE)


def rust_exports(file: Path, crate: Path) -> list[Declaration]:
    """What a module passes on of other modules, in its own order.

    Args:
        file: The module's source.
        crate: The folder of the crate's sources.

    Raises:
        ValueError: If a name that is passed on is not found.
    """
    exported: list[Declaration] = []
    for path, several, one in _EXPORTS.findall(file.read_text(encoding="utf-8")):
        place = crate if path.startswith("crate::") else file.parent
        source = place.joinpath(*path.removeprefix("crate::").split("::")).with_suffix(".rs")
        declared = {item.name: item for item in [*rust_exports(source, crate), *rust(source)]}
        names = [name.strip() for name in (several or one).split(",") if name.strip()]
        if missing := [name for name in names if name not in declared]:
            raise ValueError(f"{source} declares no public {', '.join(missing)}")
        exported += [declared[name] for name in names]
    return exported


def opening_comment(file: Path) -> str:
    """What the first lines of a Motoko or Rust source say of it: a first paragraph."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not re.match(r"//[/!]", line) or not line[3:].strip():
            break
        lines.append(line[3:].strip())
    return " ".join(lines)
