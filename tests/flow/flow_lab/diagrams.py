"""The command behind ``make diagrams``: draws docs/flow/states.md from the tables."""

import sys
from pathlib import Path

from bridge.flow import receiver, sender
from bridge.flow.tables import Table

PAGE = Path(__file__).resolve().parents[3] / "docs" / "flow" / "states.md"
HEAD = """# State diagrams

Drawn from the tables in the code by `make diagrams`; a test refuses a page that is not what the
tables say. The words on an arrow are those of the [protocol page](../protocol.md), which says
what is done on the way. What leaves the state unchanged is not drawn.
"""


def _name(state) -> str:
    return "[*]" if state is None else "".join(word.title() for word in state.value.split("_"))


def _label(row) -> str:
    """The page's words, without the notation that a diagram cannot carry."""
    words = row.page[1] if row.page else row.name.replace("_", " ")
    return words.replace("`", "").replace(";", ",").replace(":", ",")


def diagram(table: Table) -> str:
    """A Mermaid state diagram of one table."""
    edges: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        for source in row.states:
            for target in row.to:
                if source is not target:
                    labels = edges.setdefault((_name(source), _name(target)), [])
                    if _label(row) not in labels:
                        labels.append(_label(row))
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [
        f"    {source} --> {target} : {' / '.join(labels)}"
        for (source, target), labels in edges.items()
    ]
    return "\n".join([*lines, "```"])


def text() -> str:
    """The whole page."""
    parts = [f"## {name}\n{diagram(table)}" for name, table in TABLES.items()]
    return "\n".join([HEAD, "\n\n".join(parts), ""])


TABLES = {"Sender": sender.TABLE, "Receiver": receiver.TABLE}


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text(), encoding="utf-8")
    print(f"drew {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
