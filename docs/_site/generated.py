"""The reference pages that are printed from the code: settings, command line, errors, APIs.

Each function returns one page as Markdown. Run as a program it rewrites those that are kept in
``docs/reference``; a test refuses a page that is not what the code says. Nothing here knows how the
site is built.
"""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from bridge import errors
from bridge.cli import root
from bridge.flow import Policy

ROOT = Path(__file__).resolve().parents[2]
_TIMES = ((3_600 * 10**9, "h"), (60 * 10**9, "min"), (10**9, "s"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def _lines(rows: list[str]) -> str:
    return "\n".join(rows)


# --- Settings -------------------------------------------------------------------------------------

_ARGUMENT = re.compile(r"^    (\w+): (.*?)(?=\n    \w+: |\Z)", re.DOTALL | re.MULTILINE)
_CONFIGURED = {"jitter_permille": "jitter", "bytes_stored": "bytes"}


def _default(name: str, value: object, unit: str) -> str:
    """A default as it would be written in TOML."""
    if name == "jitter":
        assert isinstance(value, int)
        return str(value / 1000)
    if type(value) is not int:
        return str(value).lower()
    for size, word in {"ns": _TIMES, "bytes": _SIZES}.get(unit, ()):
        if value and value % size == 0:
            return f"{value // size} {word}"
    return f"{value:,}"


def settings() -> str:
    """The page of settings, from `Policy`'s documentation and defaults."""
    described = dict(_ARGUMENT.findall(inspect.getdoc(Policy) or ""))
    rows = []
    for field in dataclasses.fields(Policy):
        if field.name in {"peers", "attach_cycles"}:
            continue
        text = " ".join(described[field.name].split())
        unit = "ns" if "(ns" in text else "bytes" if re.search(r"[Bb]ytes", text) else ""
        name = _CONFIGURED.get(field.name, field.name)
        text = re.sub(r"; ``bytes`` in configuration|\s*\((ns|bytes)[^)]*\)", "", text)
        if name == "jitter":
            text = "Most that is added to a wait, as a part of it."
        text = text.replace("``", "`")
        rows.append(f"| `{name}` | {_default(name, field.default, unit)} | {text} |")
    return f"""# Settings

A policy in TOML, as `Policy.from_mapping(tomllib.load(file))` reads it. Durations are text with a
unit (`"330 s"`, `"9 h"`), sizes are bytes or text (`"64 MiB"`). Each value is checked when it is
read; what is wrong is told by name, value and expected range. Canisters take the same settings by
`asyncFlow_configure` and at install, durations in nanoseconds (`candid/settings.did`).

| setting | default | meaning |
| --- | --- | --- |
{_lines(rows)}

Two settings are tables. `attach_cycles = {{ new = 0, ack = 0, fin = 0 }}` is what is sent along
with each kind of message, unless the peer's own table says otherwise.
`[peers."<principal>"]` configures one peer: `dialect`, `null_ack` (`"response"` or `"receipt"`),
`ids` (`"opaque"` or `"ulid"`) and `attach_cycles`.
"""


# --- Command line ---------------------------------------------------------------------------------


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command, info_name=path) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                if found is not None and not found.hidden:
                    yield from _commands(found, f"{path} {name}")


def command_line() -> str:
    """The page of the command line: each command's own help."""
    parts = [
        "# Command line",
        "",
        "Data goes to standard output, talk to standard error. Exit codes: 0 yes, 1 a negative",
        "answer, 2 wrong usage, 3 the network, 4 an answer that is not to be trusted.",
        "",
    ]
    for path, command in _commands(root, "ic-bridge"):
        with click.Context(command, info_name=path, terminal_width=96) as context:
            parts += [f"## {path}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(parts)


# --- Errors ---------------------------------------------------------------------------------------


def error_classes() -> list[type[errors.BridgeError]]:
    """Every error class of the package, a parent before its children."""
    return sorted(
        (
            found
            for _, found in inspect.getmembers(errors, inspect.isclass)
            if issubclass(found, errors.BridgeError) and found.__module__ == errors.__name__
        ),
        key=lambda found: inspect.getsourcelines(found)[1],
    )


def cause_and_cure(error: type[errors.BridgeError]) -> tuple[str, str]:
    """What an error's documentation says of its cause and of what to do."""
    cause, *others = (inspect.getdoc(error) or "").split("\n\n")
    cure = next((part for part in others if part.startswith("What to do: ")), "")
    return " ".join(cause.split()), " ".join(cure.split()).removeprefix("What to do: ")


def error_table() -> str:
    """The page of errors."""
    rows = []
    for error in error_classes():
        kinds = [base.__name__ for base in error.__bases__ if base.__module__ == errors.__name__]
        cause, cure = (part.replace("``", "`") for part in cause_and_cure(error))
        cells = (
            f"`{error.__name__}`",
            ", ".join(f"`{name}`" for name in kinds),
            str(error.exit_code),
            cause,
            cure[:1].upper() + cure[1:],
        )
        rows.append(f"| {' | '.join(cells)} |")
    return f"""# Errors

All that this package raises on purpose is a `BridgeError` from `bridge.errors`. Its text says what
was wrong and what was expected; its `hint` says what to do. The command line prints both and leaves
with the exit code of the table, without a traceback.

| error | is a | exit code | cause | what to do |
| --- | --- | --- | --- | --- |
{_lines(rows)}

Reject codes of `CallRejectedError.code`: 1 the system failed for good, 2 for now, 3 there is no
such canister or method, 4 the canister refused, 5 the canister trapped or is stopped, 6 it is not
known what happened (only calls with a bounded wait).
"""


# --- APIs -----------------------------------------------------------------------------------------

# What a program uses, by what it is for.
_PYTHON = {
    "The bridge": ["bridge.service.Bridge", "bridge.service.Request", "bridge.service.Outcome"],
    "Settings": ["bridge.flow.Policy", "bridge.flow.policy.PeerPolicy"],
    "Networks": ["bridge.network.Network", "bridge.network.Canister", "bridge.network.AdminClient"],
    "Reference canisters": [
        "bridge.reference.ReferenceCanister",
        "bridge.reference.install_argument",
        "bridge.contracts.interface",
        "bridge.contracts.motoko_canister",
        "bridge.contracts.rust_canister",
    ],
    "The agent": ["bridge.agent.Agent", "bridge.agent.Identity", "bridge.principal.Principal"],
    "Stores": ["bridge.store.MemoryStore", "bridge.store.SQLiteStore"],
    "The replica": ["bridge.replica.Replica"],
    "Candid": [
        "bridge.candid.Codec",
        "bridge.candid.encode",
        "bridge.candid.decode",
        "bridge.candid.parse_did",
    ],
}


def python_api() -> str:
    """The page of the Python API, as directives that the site's generator carries out."""
    parts = [
        "# Python",
        "",
        "What `import bridge` offers arrives on first use: the import itself is light.",
        "",
    ]
    for title, names in _PYTHON.items():
        parts += [f"## {title}", ""]
        for name in names:
            is_class = name.rpartition(".")[2][0].isupper()
            parts += ["```{eval-rst}", f".. auto{'class' if is_class else 'function'}:: {name}"]
            parts += ["   :members:"] if is_class else []
            parts += ["```", ""]
    return "\n".join(parts)


def _motoko_items(text: str) -> Iterator[tuple[str, str]]:
    """Public declarations that have a ``///`` comment: (signature, comment)."""
    comment: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("///"):
            comment.append(bare[3:].strip())
            continue
        if bare.startswith("public ") and comment:
            yield re.sub(r"\s*(=\s*)?(\{.*)?$", "", bare), " ".join(comment)
        comment = []


def motoko_api(readme: str) -> str:
    """The page of the Motoko library: its README, and its public names from the sources."""
    parts = [readme.rstrip(), "", "## Public names", ""]
    for file in sorted((ROOT / "motoko_reference" / "src").glob("*.mo")):
        items = list(_motoko_items(file.read_text(encoding="utf-8")))
        if items:
            name = "AsyncFlow" if file.stem == "lib" else f"AsyncFlow/{file.stem}"
            parts += [f"### {name}", ""]
            for signature, comment in items:
                parts += [f"`{signature}`", f": {comment}", ""]
    return "\n".join(parts)


_RUST_DOC = re.compile(
    r"(?P<doc>(?:^ *///.*\n)+)(?:^ *#\[.*\n)*^ *(?P<item>pub (?:async )?(?:fn|struct|enum"
    r"|trait|type|const|static|mod) .*)$",
    re.MULTILINE,
)


def rust_api(readme: str) -> str:
    """The page of the Rust crate: its README, and its public names from the sources."""
    parts = [readme.rstrip(), "", "## Public names", ""]
    folder = ROOT / "rust_reference" / "async_flow" / "src"
    for file in sorted(folder.rglob("*.rs")):
        items = list(_RUST_DOC.finditer(file.read_text(encoding="utf-8")))
        if not items:
            continue
        path = file.relative_to(folder).with_suffix("").parts
        module = "::".join(["async_flow", *(part for part in path if part not in {"lib", "mod"})])
        parts += [f"### {module}", ""]
        for found in items:
            comment = " ".join(re.sub(r"^ *///", "", found["doc"], flags=re.MULTILINE).split())
            signature = re.sub(r"\s*[{(;=]?$", "", found["item"].strip())
            parts += [f"`{signature}`", f": {comment}", ""]
    return "\n".join(parts)


KEPT = {"settings.md": settings, "command-line.md": command_line, "errors.md": error_table}

if __name__ == "__main__":
    for name, page in KEPT.items():
        (ROOT / "docs" / "reference" / name).write_text(page(), encoding="utf-8")
