"""Writes docs/rust-cost.md: the Rust library's figures beside the Motoko library's."""

from benchmarks.report import ROOT, amount

PAGE = ROOT / "docs" / "rust-cost.md"
HEAD = """# What the Rust library costs, beside the Motoko library

Written by `make bench-rust`, with the numbers of open flows that the rows name. It plays the scenes
of `make bench-motoko` with the Rust canister `player`; [that page](motoko-cost.md) says what is
counted. Every figure is measured on the embedded replica; instructions are the canisters' own
performance counters, the same on every machine. Beside each stands what the library replaces, the
plain `await`, in the same language.

| what | Rust | its baseline | ratio | Motoko | its ratio | Rust / Motoko |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""
TAIL = """
- Rust keeps a small record of each flow, and apart from it what the flow carries, in stable
  memory. A step writes one record. The index from keys to records, the due times and the sums
  live on the heap and are made anew from the records at each start, so an upgrade takes longer
  with more flows; Motoko keeps all of it on its heap, which an upgrade keeps as it is.
- A canister's very first flows take less. Within some 25 flows each has reached what it costs from
  then on, with no other flow open, as the nodes of maps in stable memory fill, of which `player`
  keeps several of its own; they are read and written as a whole. All other rows are of later
  flows, so what the rows with open flows have beyond those without comes from the open ones.
- Bytes are those of the whole memory in Rust, which grows by a megabyte at a time for each of its
  parts, and those in use after a collection in Motoko.
- Cycles are reckoned by the public fees of a subnet of 13 nodes, from what the message log holds.
"""


def write(rows, motoko):
    """Write the page; ``motoko`` are the rows of its own figures."""
    theirs = {row["work"]: row for row in motoko if row["ours"] is not None}
    theirs |= {(row["work"], row["baseline"]): row for row in motoko}
    lines = []
    for row in rows:
        named = row.work.replace("after an upgrade", "the most after one")
        same = theirs.get((row.work, row.baseline))
        other = same or theirs.get(named)
        cells = ["-"] * 3
        if other and other["ours"] is not None and row.ours is not None:
            cells = [
                amount(other["ours"], row.unit),
                f"{same['ratio']:.2f}" if same else "-",
                f"{row.ours / other['ours']:.2f}" if other["ours"] else "-",
            ]
        if row.ratio is None:
            lines.append(f"| {row.work} | {row.note} | {row.baseline} | - | - | - | - |")
            continue
        ours = [amount(row.ours, row.unit), f"{row.baseline}: {amount(row.theirs, row.unit)}"]
        lines.append(" | ".join(["", row.work, *ours, f"{row.ratio:.2f}", *cells, ""]).strip())
    PAGE.write_text(HEAD + "\n".join(lines) + "\n" + TAIL, encoding="utf-8")
