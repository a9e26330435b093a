"""Measures the embedded replica, prints the table of targets and keeps it as JSON."""

import contextlib
import functools
import json
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "bench"
MODULE = ROOT / "motoko_reference" / "wasm" / "receiver.wasm"
ROUNDS = 3


@contextlib.contextmanager
def process(*command):
    """A program that prints one line when it is ready; ended afterwards."""
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = running.stdout.readline().strip()
        if not line:
            sys.exit(f"{command[0]} did not start")
        yield line
    finally:
        running.terminate()
        running.wait(10)
        running.stdout.close()


def run(*command):
    """What a program measured."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(work, ours, baseline, baseline_value, target, *, unit="s", at_least=False, spread=0.0):
    ratio = ours / baseline_value
    return {
        "work": work, "ours": ours, "unit": unit, "baseline": baseline,
        "baseline_value": baseline_value, "ratio": ratio, "target": target, "at_least": at_least,
        "met": None if target is None else ratio >= target if at_least else ratio <= target,
        "spread": spread,
    }  # fmt: skip


def best(rounds, *path):
    """The smallest of a figure over the rounds, and its spread."""
    values = [functools.reduce(operator.getitem, path, found) for found in rounds]
    return min(values), (max(values) - min(values)) / min(values)


def outside_rows():
    command = str(Path(sys.executable).with_name("ic-bridge"))
    bare_server = str(ROOT / "benchmarks" / "agent" / "bare_server.py")
    with (
        process(command, "replica", "start", "--admin") as ready,
        process(sys.executable, bare_server) as bare,
    ):
        url = json.loads(ready)["url"]
        rounds = [run(sys.executable, str(HERE / "outside.py"), url, bare) for _ in range(ROUNDS)]
    rows = []
    for kind, name, target in (("query", "query", 3), ("update", "update, v4, certified", 6)):
        ours, spread = best(rounds, kind, "ours")
        floor, _ = best(rounds, kind, "bare")
        rows.append(row(name, ours, "bare POST", floor, target, spread=spread))
    shared, spread = best(rounds, "in_flight", "rounds")
    rows.append(row("rounds an update, 64 in flight", shared, "one a request", 1, 0.5,
                    unit="", spread=spread))  # fmt: skip
    many, spread = best(rounds, "in_flight", "ours")
    one, _ = best(rounds, "update", "ours")
    rows.append(row("update among 64 in flight", many, "one at a time", one, 1, spread=spread))
    return rows


def inside_rows():
    rounds = [run(sys.executable, str(HERE / "inside.py")) for _ in range(ROUNDS)]
    rows = []
    echo, _ = best(rounds, "execution", "raw", "echo")
    message, spread = best(rounds, "execution", "message")
    rows.append(row("one message, small canister", message, "2 raw calls + 100 us",
                    2 * echo + 100e-6, 1, spread=spread))  # fmt: skip
    receive, _ = best(rounds, "execution", "raw", "receive")
    one_way, spread = best(rounds, "execution", "one_way")
    rows.append(row("one-way message", one_way, "6 raw calls + 100 us", 6 * receive + 100e-6, 1,
                    spread=spread))  # fmt: skip
    for name in rounds[0]["rollback"]:
        kind, mib = name.split(", ")
        for end, words in (("undone", "undo"), ("kept", "keep")):
            ours, spread = best(rounds, "rollback", name, end)
            small, _ = best(rounds, "rollback", f"{kind}, 1", end)
            whole, _ = best(rounds, "copying", mib)
            work = f"{kind}, {words}, {mib} MiB"
            # The cost may not grow as the size does: 512 times the memory, 8 times the time.
            beside = ("copying it all", whole, None) if mib == "1" else ("at 1 MiB", small, 8)
            rows.append(row(work, ours, *beside, spread=spread))
    empty, _ = best(rounds, "large_state", "empty")
    for key, name in (("canisters", "10,000 canisters"), ("requests", "100,000 requests")):
        ours, spread = best(rounds, "large_state", key)
        rows.append(row(f"certified update, {name}", ours, "empty subnet", empty, 1.2,
                        spread=spread))  # fmt: skip
    first, _ = best(rounds, "installation", "first")
    again, spread = best(rounds, "installation", "again")
    rows.append(row("module seen before", again, "the first time", first, 0.05, spread=spread))
    return rows


def first_row():
    """Process start to first certified update, with an empty cache each time."""
    found = {"serve": [], "floor": []}
    for _ in range(ROUNDS):
        for what, times in found.items():
            with tempfile.TemporaryDirectory() as place:
                start = time.perf_counter()
                subprocess.run(
                    [sys.executable, str(HERE / "first.py"), what, str(MODULE)],
                    env={**os.environ, "XDG_CACHE_HOME": place}, check=True,
                )  # fmt: skip
                times.append(time.perf_counter() - start)
    return row("start to first certified update", statistics.median(found["serve"]),
               "imports + compiling", statistics.median(found["floor"]), 2)  # fmt: skip


def show(rows):
    print(f"{'work':40} {'ours':>11} {'beside':>22} {'theirs':>11} {'ratio':>7} {'target':>7}")
    for one in rows:
        scale, unit = (1e6, " us") if one["unit"] == "s" else (1, "   ")
        sign = ">=" if one["at_least"] else "<="
        target = "" if one["target"] is None else f"{sign}{one['target']}"
        print(
            f"{one['work']:40} {one['ours'] * scale:8.1f}{unit} {one['baseline']:>22} "
            f"{one['baseline_value'] * scale:8.1f}{unit} {one['ratio']:7.2f} {target:>7} "
            f"{({True: 'met', False: 'missed', None: ''})[one['met']]}"
        )
    judged = [one for one in rows if one["target"] is not None]
    print(f"{sum(one['met'] for one in judged)} of {len(judged)} targets met")


def main():
    rows = [*outside_rows(), *inside_rows(), first_row()]
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "replica.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    show(rows)


if __name__ == "__main__":
    main()
