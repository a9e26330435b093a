"""Writes docs/motoko-cost.md from what was measured. Knows no canister."""

from benchmarks.report import ROOT, amount

PAGE = ROOT / "docs" / "motoko-cost.md"
HEAD = """# What the Motoko library costs

Written by `make bench-motoko`. Every figure is measured on the embedded replica; instructions are
the canisters' own performance counters, alike on every machine (ids and keys move them a little).

- **Ours** is the library, in the canister `player`: a request and a response of 100 bytes, from
  opening the flow until both sides have ended it. What tells the application is in it.
- **plain await** is what the library replaces: the same request, its answer awaited.
- **the algorithm** is what the published Motoko package does, as [the protocol page](protocol.md)
  describes it, in canisters of our own (`foreign_maf_sender`, `foreign_maf_receiver`). Its
  weaknesses are part of its price: no durable state, no hashes, no quotas, no history, no check of
  who answers.
"""
NOTES = {
    "Instructions of one flow": (
        "The algorithm's figures are those of a flow alone; what it does for all that waits, below."
    ),
    "What grows with other flows": (
        "All indices of the library are trees, so a step pays for their depth, and for dropping "
        "what is over of calls in flight and paid marks, 200 of each at most. Nothing runs while "
        "nothing is due. The algorithm looks through all that waits every five seconds, in the "
        "same few instructions for each message: its figures are measured up to 1,000 that wait, "
        "and what it takes beyond that was not measured."
    ),
    "Cycles": (
        "By the public fees of a subnet of 13 nodes: 5 M a message executed, 260 k a call, 1 k a "
        "byte sent, 1 an instruction. The embedded replica charges nothing, so this is reckoned "
        "from what its message log holds: requests, their answers, and timers."
    ),
    "Memory": (
        "Heap in use once garbage is collected, all indices included. A tombstone is what remains "
        "of a served request for the horizon; the quota is 1,000,000 of them. The note that "
        "`player` makes of how often its handler ran is in that figure."
    ),
    "Upgrades": (
        "Instructions until the canister was ready, over some upgrades one after another. The heap "
        "is kept as it is: the library does no work for each flow, and a hundredfold of tombstones "
        "moves the figure by some percent. The quota of 1,000,000 tombstones is ten times the "
        "largest number here; it was not filled. The whole of an upgrade, the part before "
        "included, runs here under the limit that the last row states; a subnet allows 300 billion."
    ),
    "Modules": "Built and shrunk, with the interface as metadata.",
}


def _table(rows):
    yield "| what | ours | beside | theirs | ratio | target |"
    yield "| --- | ---: | --- | ---: | ---: | --- |"
    for row in rows:
        target = "" if row.target is None else f"at most {row.target:g}"
        yield (
            f"| {row.work} | {amount(row.ours, row.unit)} | {row.baseline} "
            f"| {amount(row.theirs, row.unit)} | {row.ratio:.2f} | {target} |"
        )


def write(chapters):
    """Write the page; ``chapters`` are rows by title, in order."""
    lines = [HEAD]
    for title, rows in chapters.items():
        lines += [f"## {title}", NOTES[title], "", *_table(rows), ""]
    PAGE.write_text("\n".join(lines), encoding="utf-8")
