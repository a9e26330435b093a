"""Measures Candid beside its peers; run as ``python -m benchmarks.candid.run`` from the root.

Each implementation runs as a program of its own, in turns, so that a busy moment of the machine
does not fall on one of them alone.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import report

HERE = Path(__file__).resolve().parent
PEERS = report.BUILD / "candid"
ROUNDS = 3
MODULES = {"icp-py-core": "icp_candid.candid", "ic-py": "ic.candid"}

# What is measured, and how many times faster than each peer it has to be.
RIVALS = {"icp-py-core": 3, "ic-py": 20, "javascript": 1}
TARGETS = {
    ("message 100 B", "encode"): {"icp-py-core": 25},
    ("message 100 B", "decode"): {"icp-py-core": 15},
    **{
        (work, way): RIVALS
        for work in ("1,000 transfers", "tree of 2,047 nodes", "tree 100 deep")
        for way in ("encode", "decode")
    },
    ("100,000 nats", "encode"): {"icp-py-core": 3},
    ("100,000 nats", "decode"): {"icp-py-core": 3},
}


def command(name):
    """How to start an implementation.

    Raises:
        RuntimeError: If it is not installed.
    """
    if name == "ours":
        return [sys.executable, str(HERE / "ours.py")]
    if name == "javascript":
        node, place = shutil.which("node"), PEERS / "javascript"
        if node is None or not (place / "node_modules").exists():
            raise RuntimeError("node or its packages are missing")
        shutil.copy(HERE / "javascript_peer.mjs", place / "javascript_peer.mjs")
        return [node, str(place / "javascript_peer.mjs")]
    python = PEERS / name / "bin" / "python"
    if not python.exists():
        raise RuntimeError("its environment is missing")
    return [str(python), str(HERE / "python_peer.py"), MODULES[name]]


def all_rounds(works):
    """What each implementation measured in each round, and why one could not be measured."""
    rounds = {name: [] for name in ("ours", *RIVALS)}
    reasons = {}
    for turn in range(ROUNDS):
        for name, found in rounds.items():
            given = dict(works)
            if name == "ic-py":
                if turn:
                    continue  # it takes minutes for what the others do in milliseconds
                del given[
                    "message 1 MB"
                ]  # seconds to minutes for one call; no target is against it
            try:
                found.append(report.measure(*command(name), given=given))
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                reasons[name] = str(error)
    return rounds, reasons


def seconds(rounds, *path):
    """The best time of a work over the rounds, in seconds, and its spread."""
    time, _ = report.best(rounds, *path, "best")
    worst = max(float(report.best([one], *path, "worst")[0]) for one in rounds)
    return time / 1e6, worst / time - 1


def beside_peers(rounds, reasons):
    """A row for each work and peer."""
    for (work, way), peers in TARGETS.items():
        ours, spread = seconds(rounds["ours"], work, way)
        for peer, target in peers.items():
            title = f"{work}, {way}"
            try:
                theirs, _ = seconds(rounds[peer], work, way)
            except (KeyError, TypeError, ValueError):
                failed = [
                    one[work]["error"] for one in rounds[peer] if "error" in one.get(work, {})
                ]
                note = reasons.get(peer) or (failed[0] if failed else "not measured")
                yield report.missing(title, peer, note, target)
                continue
            yield report.faster(title, ours, peer, theirs, target, spread=spread)


def beside_itself(ours):
    """Rows for what has to cost as little as something else of ours."""
    copy, _ = seconds(ours, "message 1 MB", "copy")
    for way in ("encode", "decode"):
        large, spread = seconds(ours, "message 1 MB", way)
        yield report.within(f"message 1 MB, {way}", large, "one copy", copy, 1.5, spread=spread)
        small, _ = seconds(ours, "message 100 B", way)
        other, spread = seconds(ours, "other names 100 B", way)
        title = f"same shape, other names, {way}"
        yield report.within(title, other, "message 100 B", small, 1.2, spread=spread)
    own, _ = seconds(ours, "message 100 B", "decode")
    foreign, spread = seconds(ours, "message 100 B", "foreign")
    title = "another sender's layout, decode"
    yield report.within(title, foreign, "own layout", own, 1.2, spread=spread)
    turns, spread = seconds(ours, "message 100 B", "six layouts in turn")
    title = "six layouts in turn, decode"
    yield report.within(title, turns / 6, "own layout", own, 1.5, spread=spread)


def main():
    works = report.measure(sys.executable, str(HERE / "work.py"))
    rounds, reasons = all_rounds(works)
    if "ours" in reasons:
        sys.exit(f"bridge.candid could not be measured: {reasons['ours']}")
    report.publish("candid", [*beside_peers(rounds, reasons), *beside_itself(rounds["ours"])])


if __name__ == "__main__":
    main()
