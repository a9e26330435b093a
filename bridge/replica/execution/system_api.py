"""The System API (``ic0``) as one table: name, signature, allowed contexts, function.

The table is at once the code, the check of a module's imports, the check of contexts at run time,
and the coverage page of the documentation.
"""

# Importing them fills the table.
from bridge.replica.execution import api_calls, api_canister, api_cycles  # noqa: F401
from bridge.replica.execution.run import EVERYWHERE, Mode
from bridge.replica.execution.table import TABLE, Row, check_context, limit_text, signature

__all__ = ["TABLE", "Row", "check_context", "coverage_page", "limit_text", "signature"]

_HEAD = """# System API

Every function of the interface specification, section Overview of imports, and where it may be
called; the letters are the specification's, `*` is everywhere but in `(start)` (`s`). `I` is `i32`
or `i64`, by the width of the canister's memory. Printed from the replica's own table by
`make system-api`.

| function | type | contexts | memories |
| --- | --- | --- | --- |
"""


def _contexts(row: Row) -> str:
    if row.contexts & EVERYWHERE == EVERYWHERE:
        return "* s" if row.contexts & Mode.s else "*"
    return " ".join(str(mode.name) for mode in Mode if mode & row.contexts)


def _type(row: Row) -> str:
    words = {"I": "I", "i": "i32", "l": "i64"}
    params = ", ".join(words[letter] for letter in row.params)
    return f"({params}) -> {words[row.result] if row.result else '()'}"


def coverage_page() -> str:
    """The table as a page of the documentation, in Markdown."""
    return _HEAD + "".join(
        f"| `{row.name}` | `{_type(row)}` | {_contexts(row)} | "
        f"{'32-bit' if row.only32 else 'all'} |\n"
        for row in TABLE.values()
    )
