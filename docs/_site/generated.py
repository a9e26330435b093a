"""The reference pages that are printed from the code: settings, command line, errors, APIs.

Each function returns one page as Markdown. Run as a program it rewrites those that are kept in
``docs/reference``; a test refuses a page that is not what the code says. Nothing here knows how the
site is built.
"""

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import declarations
from declarations import Declaration

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
`asyncFlow_configure` and at install, durations in nanoseconds
([`candid/settings.did`](../../candid/settings.did)).

| setting | default | meaning |
| --- | --- | --- |
{_lines(rows)}

Two settings are tables. `attach_cycles = {{ new = 0, ack = 0, fin = 0 }}` is what is sent along
with each kind of message, unless the peer's own table says otherwise.
`[peers."<principal>"]` configures one peer: `dialect`, `null_ack` (`"response"` or `"receipt"`),
`ids` (`"opaque"` or `"ulid"`) and `attach_cycles`.
"""


# --- Command line ---------------------------------------------------------------------------------


def _commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _commands(found, _context(found, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    """The context that a run of the command has: what a parent sets, as ``-h``, holds below it."""
    return click.Context(command, parent, name, terminal_width=96, **command.context_settings)


def command_line() -> str:
    """The page of the command line: each command's own help."""
    parts = [
        "# Command line",
        "",
        "Data goes to standard output, talk to standard error. Exit codes: 0 yes, 1 a negative",
        "answer or a failure of the place, 2 wrong usage, 3 the network, 4 an answer that is not",
        "to be trusted, 130 interrupted.",
        "",
    ]
    for context in _commands(root, _context(root, "ic-bridge", None)):
        text = context.command.get_help(context).rstrip()
        parts += [f"## {context.command_path}", "", "```text", text, "```", ""]
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
            ", a ".join(f"`{name}`" for name in [error.__name__, *kinds]),
            str(error.exit_code),
            cause,
            cure[:1].upper() + cure[1:],
        )
        rows.append(f"| {' | '.join(cells)} |")
    return f"""# Errors

All that this package raises on purpose is a `BridgeError` from `bridge.errors`. Its text says what
was wrong and what was expected; its `hint` says what to do. The command line prints both and leaves
with the exit code of the table, without a traceback.

| error | exit code | cause | what to do |
| --- | --- | --- | --- |
{_lines(rows)}

Reject codes of `CallRejectedError.code`: 1 the system failed for good, 2 for now, 3 there is no
such canister or method, 4 the canister refused, 5 the canister trapped or is stopped, 6 it is not
known what happened (only calls with a bounded wait).
"""


# --- Contracts ------------------------------------------------------------------------------------


def contracts(readme: str) -> str:
    """The page of the interface contracts: their README, and the text of each file below it."""
    parts = [readme.rstrip(), ""]
    for path in sorted((ROOT / "candid").glob("*.did")):
        parts += [f"## `{path.name}`", "", "```candid", path.read_text("utf-8").rstrip(), "```", ""]
    return "\n".join(parts)


# --- APIs -----------------------------------------------------------------------------------------

# What a program uses, by what it is for.
_PYTHON = {
    "The bridge": [
        "bridge.service.Bridge",
        "bridge.service.CheckedPeer",
        "bridge.service.Request",
        "bridge.service.Outcome",
        "bridge.service.Sighting",
        "bridge.service.DEFERRED",
        "bridge.service.RetryLater",
        "bridge.service.FinalFailure",
        "bridge.service.mailbox_argument",
    ],
    "Settings": ["bridge.flow.Policy", "bridge.flow.PeerPolicy", "bridge.flow.Cycles"],
    "Stores": [
        "bridge.store.MemoryStore",
        "bridge.store.SQLiteStore",
        "bridge.store.PostgresStore",
        "bridge.store.Store",
        "bridge.store.StoreView",
        "bridge.store.view",
    ],
    "Networks": [
        "bridge.network.Network",
        "bridge.network.open_network",
        "bridge.network.Canister",
        "bridge.network.create_canister",
        "bridge.network.install_code",
        "bridge.network.AdminClient",
        "bridge.network.LoggedMessage",
    ],
    "The agent": [
        "bridge.agent.Agent",
        "bridge.agent.Identity",
        "bridge.agent.SignedCall",
        "bridge.agent.Limits",
        "bridge.agent.Retries",
        "bridge.agent.Timeouts",
        "bridge.principal.Principal",
    ],
    "Reference canisters": [
        "bridge.reference.ReferenceCanister",
        "bridge.reference.install_argument",
        "bridge.contracts.interface",
        "bridge.contracts.motoko_canister",
        "bridge.contracts.rust_canister",
    ],
    "The replica": ["bridge.replica.Replica"],
    "Conformance": [
        "bridge.conformance.entries.Entry",
        "bridge.conformance.entries.load",
        "bridge.conformance.entries.shipped",
        "bridge.conformance.runner.run",
        "bridge.conformance.results.Report",
        "bridge.conformance.results.Cell",
        "bridge.conformance.results.CellKey",
        "bridge.conformance.results.Verdict",
        "bridge.conformance.reports.Requirements",
        "bridge.conformance.reports.to_document",
        "bridge.conformance.reports.read_document",
        "bridge.conformance.reports.to_junit",
        "bridge.conformance.reports.to_markdown",
        "bridge.conformance.reports.to_page",
        "bridge.conformance.reports.digest",
    ],
    "Watching flows": [
        "bridge.monitor.Watch",
        "bridge.monitor.CanisterWatch",
        "bridge.monitor.StoreWatch",
        "bridge.monitor.Status",
        "bridge.monitor.SideUsage",
        "bridge.monitor.Limits",
        "bridge.monitor.PeerTraffic",
        "bridge.monitor.FlowList",
        "bridge.monitor.FlowView",
        "bridge.monitor.FlowEvent",
        "bridge.monitor.EventsMissed",
        "bridge.monitor.HistoryReset",
        "bridge.monitor.Restarted",
        "bridge.monitor.ContactLost",
        "bridge.monitor.ContactRegained",
        "bridge.monitor.Trust",
        "bridge.monitor.Exporter",
        "bridge.monitor.BridgeMetrics",
    ],
    "Message traces": [
        "bridge.monitor.MessageRecord",
        "bridge.monitor.read_trace",
        "bridge.monitor.write_trace",
        "bridge.monitor.draw_timeline",
    ],
    "Candid": [
        "bridge.candid.Codec",
        "bridge.candid.encode",
        "bridge.candid.decode",
        "bridge.candid.Budget",
        "bridge.candid.Case",
        "bridge.candid.Some",
        "bridge.candid.parse_did",
        "bridge.candid.Interface",
        "bridge.candid.parse_values",
        "bridge.candid.values_text",
        "bridge.candid.is_subtype",
        "bridge.candid.subtype_faults",
        "bridge.candid.upgrade_faults",
    ],
}


def _directive(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    if inspect.isclass(value):
        return "class"
    return "function" if inspect.isroutine(value) else "data"


def python_api() -> dict[str, str]:
    """The pages of the Python API by their place: a list of all names, and one for each purpose.

    They are directives that the site's generator carries out.
    """
    top = [
        "# Python",
        "",
        "What `import bridge` offers arrives on first use: the import itself is light. Times are",
        "integers of nanoseconds, sizes are bytes. Everything that is raised on purpose is in",
        "[the table of errors](errors.md); the fixtures for tests have",
        "[a page of their own](pytest.md), and so has [Candid](../candid.md).",
        "",
        "| for | there is |",
        "| --- | --- |",
    ]
    pages = {}
    for title, names in _PYTHON.items():
        place = f"python/{title.lower().replace(' ', '-')}"
        links = [f"{{py:obj}}`~{name}`" for name in names]
        top.append(f"| [{title}]({place}.md) | {', '.join(links)} |")
        parts = [f"# {title}", ""]
        for name in names:
            directive = _directive(name)
            parts += ["```{eval-rst}", f".. auto{directive}:: {name}"]
            parts += ["   :members:"] if directive == "class" else []
            parts += ["```", ""]
        pages[f"reference/{place}.md"] = "\n".join(parts)
    return {"reference/python.md": "\n".join([*top, ""]), **pages}


def _declared(items: Iterable[Declaration], language: str, level: int) -> list[str]:
    """Declarations one below the other: code, then what its comment says."""
    parts = []
    for item in items:
        code = re.sub(r"\[(`[^`]+`)\](?:\([^)]*\))?", r"\1", item.code)
        parts += [f"{'#' * level} {item.name}", "", f"```{language}", code, "```", ""]
        parts += [_prose(item.comment), ""] if item.comment else []
        for member in item.members:
            parts += [f"```{language}", member.code, "```", ""]
            parts += [_prose(member.comment), ""] if member.comment else []
    return parts


def _prose(comment: str) -> str:
    """A comment as a page's text: no headings, and names instead of links into the code."""
    text = re.sub(r"^# (\w+)$", r"**\1:**", comment, flags=re.MULTILINE)
    text = re.sub(r"^\[`\w+`\]: \S+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\[(`[^`]+`)\](?:\([^)]*\))?", r"\1", text).strip()


_MIXINS = {
    "Endpoint": "what peers call, in the dialect `unified`",
    "EndpointPriced": "the same where NEW asks for cycles",
    "EndpointMaf": "the dialect `maf`, beside it",
    "EndpointBounty": "the dialect `bounty`, beside it",
    "EndpointPositional": "the dialect `positional`, beside it",
    "Operations": "what monitors and controllers call",
}
# Their types are spoken of; all others are the library's own business.
_MOTOKO_WORDS = ("Types", "Policy", "Application", "Access", "Peers", "Watch", "Dialects")


def motoko_api() -> str:
    """The page of the Motoko library's public names, from the sources."""
    folder = ROOT / "motoko_reference" / "src"
    surface = declarations.motoko_surface(folder / "lib.mo")
    mixins = {name: declarations.motoko(folder / f"{name}.mo") for name in _MIXINS}
    spoken = [*surface, *(one for items in mixins.values() for one in items)]
    types = declarations.motoko_types(spoken, [folder / f"{name}.mo" for name in _MOTOKO_WORDS])
    parts = ["# Names of the Motoko library", "", '## `import AsyncFlow "mo:async-flow"`', ""]
    parts += _declared(surface, "motoko", 3)
    for name, items in mixins.items():
        parts += [f"## `include {name}(node)`", "", f"{_MIXINS[name].capitalize()}.", ""]
        parts += [f'`import {name} "mo:async-flow/{name}"`', ""]
        parts += _declared(items, "motoko", 3)
    parts += ["## Types that these speak of", "", *_declared(types, "motoko", 3)]
    return "\n".join(parts)


def rust_api() -> str:
    """The page of the Rust crate's public names, from the sources."""
    crate = ROOT / "rust_reference" / "async_flow" / "src"
    in_canister = crate / "canister" / "mod.rs"
    parts = ["# Names of the Rust crate", "", "## `async_flow::canister`", ""]
    parts += [declarations.opening_comment(in_canister), ""]
    parts += _declared(declarations.rust_exports(in_canister, crate), "rust", 3)
    parts += ["## Macros", ""]
    parts += _declared(declarations.rust_macros(sorted(crate.rglob("*.rs"))), "rust", 3)
    modules = re.findall(r"^pub mod (\w+);", (crate / "lib.rs").read_text("utf-8"), re.MULTILINE)
    for name in modules:
        file = crate / f"{name}.rs"
        if file.is_file():
            items = [*declarations.rust_exports(file, crate), *declarations.rust(file)]
            parts += [f"## `async_flow::{name}`", "", declarations.opening_comment(file), ""]
            parts += _declared(items, "rust", 3)
    return "\n".join(parts)


def modules() -> str:
    """The page of the package's modules: the first line of each, room by room."""
    parts = [
        "# Modules",
        "",
        "What each module of the package is for, in the first line of its own documentation. The",
        "rooms are those of [the house](architecture.md).",
        "",
    ]
    package = ROOT / "bridge"
    rows: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        if path.name == "__init__.py" and path.parent == package:
            continue
        place = path.relative_to(package)
        name = ".".join(part for part in place.with_suffix("").parts if part != "__init__")
        room = place.parts[0] if len(place.parts) > 1 else "The ground floor"
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = " ".join(text.split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")
        rows.setdefault(room, []).append(f"| `{name}` | {first} |")
    for room in sorted(rows, key=lambda room: (room != "The ground floor", room)):
        parts += [f"## {room}", "", "| module | what it is for |", "| --- | --- |", *rows[room], ""]
    return "\n".join(parts)


KEPT = {"settings.md": settings, "command-line.md": command_line, "errors.md": error_table}

if __name__ == "__main__":
    for name, page in KEPT.items():
        (ROOT / "docs" / "reference" / name).write_text(page(), encoding="utf-8")
