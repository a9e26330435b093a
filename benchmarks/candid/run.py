"""Measures Candid beside its peers, prints the table of targets and keeps it as JSON.

Each implementation runs as a program of its own, in turns, so that a busy moment of the machine
does not fall on one of them alone. Figures are ratios of times within this run.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "bench"
PEERS = BUILD / "candid"
ROUNDS = 3

# Work, direction, peer, how many times faster (or, as "within", at most so many times slower).
TARGETS = [
    ("message 100 B", "encode", "icp-py-core", 25),
    ("message 100 B", "decode", "icp-py-core", 15),
    ("1,000 transfers", "encode", "icp-py-core", 3),
    ("1,000 transfers", "decode", "icp-py-core", 3),
    ("1,000 transfers", "encode", "ic-py", 20),
    ("1,000 transfers", "decode", "ic-py", 20),
    ("1,000 transfers", "encode", "javascript", 1),
    ("1,000 transfers", "decode", "javascript", 1),
    ("tree of 2,047 nodes", "encode", "icp-py-core", 3),
    ("tree of 2,047 nodes", "decode", "icp-py-core", 3),
    ("tree of 2,047 nodes", "encode", "ic-py", 20),
    ("tree of 2,047 nodes", "decode", "ic-py", 20),
    ("tree of 2,047 nodes", "encode", "javascript", 1),
    ("tree of 2,047 nodes", "decode", "javascript", 1),
    ("tree 100 deep", "encode", "icp-py-core", 3),
    ("tree 100 deep", "decode", "icp-py-core", 3),
    ("tree 100 deep", "encode", "ic-py", 20),
    ("tree 100 deep", "decode", "ic-py", 20),
    ("tree 100 deep", "encode", "javascript", 1),
    ("tree 100 deep", "decode", "javascript", 1),
    ("100,000 nats", "encode", "icp-py-core", 3),
    ("100,000 nats", "decode", "icp-py-core", 3),
]


def command(name):
    """How to start an implementation, or why it cannot run."""
    if name == "ours":
        return [sys.executable, str(HERE / "ours.py")], None
    if name == "javascript":
        node = shutil.which("node")
        place = PEERS / "javascript"
        if node is None or not (place / "node_modules").exists():
            return None, "node or its packages are missing"
        shutil.copy(HERE / "javascript_peer.mjs", place / "javascript_peer.mjs")
        return [node, str(place / "javascript_peer.mjs")], None
    python = PEERS / name / "bin" / "python"
    module = {"icp-py-core": "icp_candid.candid", "ic-py": "ic.candid"}[name]
    if not python.exists():
        return None, "its environment is missing"
    return [str(python), str(HERE / "python_peer.py"), module], None


def run(name, works):
    """The times of one implementation, the best over the rounds."""
    start, reason = command(name)
    if start is None:
        return {}, reason
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        start, input=works, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {}, (done.stderr.strip().splitlines() or ["it failed"])[-1][:100]
    return json.loads(done.stdout), None


def merge(best, found):
    for work, entry in found.items():
        mine = best.setdefault(work, {})
        for key, times in entry.items():
            if isinstance(times, dict):
                old = mine.get(key)
                if old is None or times["best"] < old["best"]:
                    spread = max(times["worst"], old["worst"] if old else 0)
                    mine[key] = {**times, "worst": spread}
            else:
                mine[key] = times


def row(work, ours, baseline_name, baseline, target, *, within=False):
    if not isinstance(baseline, dict) or not isinstance(ours, dict):
        return {
            "work": work,
            "baseline": baseline_name,
            "ours": ours["best"] if isinstance(ours, dict) else None,
            "note": baseline if isinstance(baseline, str) else "not measured",
            "target": target,
            "met": None,
        }
    ratio = ours["best"] / baseline["best"] if within else baseline["best"] / ours["best"]
    return {
        "work": work,
        "ours": ours["best"],
        "baseline": baseline_name,
        "baseline_time": baseline["best"],
        "ratio": ratio,
        "target": target,
        "within": within,
        "met": ratio <= target if within else ratio >= target,
        "spread": (ours["worst"] - ours["best"]) / ours["best"],
    }


def rows_of(times, reasons):
    ours = times["ours"]
    rows = []
    for work, way, peer, target in TARGETS:
        theirs = times[peer].get(work, {})
        baseline = theirs.get(way) or theirs.get("error") or reasons.get(peer) or "not measured"
        rows.append(row(f"{work}, {way}", ours[work][way], peer, baseline, target))
    large, small, other = (
        ours["message 1 MB"],
        ours["message 100 B"],
        ours["other names 100 B"],
    )
    for way in ("encode", "decode"):
        rows.append(
            row(f"message 1 MB, {way}", large[way], "one copy", large["copy"], 1.5, within=True)
        )
        rows.append(
            row(
                f"same shape, other names, {way}",
                other[way],
                "message 100 B",
                small[way],
                1.2,
                within=True,
            )
        )
    rows.append(
        row(
            "another sender's layout, decode",
            small["foreign"],
            "own layout",
            small["decode"],
            1.2,
            within=True,
        )
    )
    turns = {key: time / 6 for key, time in small["six layouts in turn"].items()}
    rows.append(
        row("six layouts in turn, decode", turns, "own layout", small["decode"], 1.5, within=True)
    )
    return rows


def main():
    works = subprocess.run(
        [sys.executable, str(HERE / "work.py")], capture_output=True, text=True, check=True
    ).stdout
    names = ["ours", "icp-py-core", "ic-py", "javascript"]
    times = {name: {} for name in names}
    reasons = {}
    for turn in range(ROUNDS):
        for name in names:
            if name == "ic-py" and turn:
                continue  # it takes minutes for what the others do in milliseconds
            given = json.loads(works)
            if name == "ic-py":
                # Seconds to minutes for one call; no target is against it.
                given.pop("message 1 MB")
            found, reason = run(name, json.dumps(given))
            merge(times[name], found)
            if reason:
                reasons[name] = reason
    if reasons.get("ours"):
        sys.exit(f"bridge.candid could not be measured: {reasons['ours']}")
    rows = rows_of(times, reasons)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "candid.json").write_text(json.dumps({"rows": rows, "times": times}, indent=1))
    print(f"{'work':38} {'ours':>12} {'beside':>14} {'theirs':>12} {'ratio':>8} {'target':>8}")
    for one in rows:
        if one["met"] is None:
            print(f"{one['work']:38} {'':>12} {one['baseline']:>14} {one['note']}")
            continue
        sign = "<=" if one["within"] else ">="
        print(
            f"{one['work']:38} {one['ours']:9.1f} us {one['baseline']:>14} "
            f"{one['baseline_time']:9.1f} us {one['ratio']:8.2f} {sign}{one['target']:<6} "
            f"{'met' if one['met'] else 'missed'}"
        )
    print(f"{sum(bool(one['met']) for one in rows)} of {len(rows)} targets met")


if __name__ == "__main__":
    main()
