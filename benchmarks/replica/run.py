"""Measures the embedded replica, prints the table of targets and keeps it as JSON."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import ROOT, best, faster, measure, missing, process, publish, within

HERE = Path(__file__).resolve().parent
MODULE = ROOT / "motoko_reference" / "wasm" / "receiver.wasm"
ROUNDS = 3


def outside_rows():
    command = str(Path(sys.executable).with_name("ic-bridge"))
    bare_server = str(ROOT / "benchmarks" / "agent" / "bare_server.py")
    with (
        tempfile.TemporaryDirectory() as place,
        process(command, "replica", "start", "--admin") as ready,
        process(command, "replica", "start", "--admin", "--state-dir", place) as ready_on_disk,
        process(sys.executable, bare_server) as bare,
    ):
        url, on_disk = json.loads(ready)["url"], json.loads(ready_on_disk)["url"]
        rounds, kept = [], []
        for _ in range(ROUNDS):
            rounds.append(measure(sys.executable, str(HERE / "outside.py"), url, bare))
            kept.append(measure(sys.executable, str(HERE / "outside.py"), on_disk, bare))
    rows = []
    for kind, name, target in (("query", "query", 3), ("update", "update, v4, certified", 6)):
        ours, spread = best(rounds, kind, "ours")
        floor, _ = best(rounds, kind, "bare")
        rows.append(within(name, ours, "bare POST", floor, target, spread=spread))
    shared, spread = best(rounds, "in_flight", "many", "rounds")
    name = "rounds an update, 64 in flight"
    rows.append(within(name, shared, "one a request", 1, 0.5, unit="", spread=spread))
    name = "processor time of an update, 64 in flight"
    if rounds[0]["in_flight"]["many"]["processor"] is None:
        rows.append(missing(name, "one at a time", "only Linux tells it of another process", 1))
    else:
        many, spread = best(rounds, "in_flight", "many", "processor")
        alone, _ = best(rounds, "in_flight", "alone", "processor")
        rows.append(within(name, many, "one at a time", alone, 1, spread=spread))
    many, spread = best(rounds, "in_flight", "many", "ours")
    alone, _ = best(rounds, "in_flight", "alone", "ours")
    rows.append(within("update among 64 in flight", many, "one at a time", alone, 1, spread=spread))
    for path, name in ((("update",), "update"), (("in_flight", "many"), "update among 64")):
        ours, spread = best(kept, *path, "ours")
        memory, _ = best(rounds, *path, "ours")
        rows.append(within(f"{name}, state directory", ours, "in memory", memory, 2, spread=spread))
    return rows


def inside_rows():
    rounds = [measure(sys.executable, str(HERE / "inside.py")) for _ in range(ROUNDS)]
    rows = []
    echo, _ = best(rounds, "execution", "raw", "echo")
    ours, spread = best(rounds, "execution", "message")
    floor = 2 * echo + 100e-6
    rows.append(within("one message, small canister", ours, "2 raw calls + 100 us", floor, 1,
                       spread=spread))  # fmt: skip
    receive, _ = best(rounds, "execution", "raw", "receive")
    ours, spread = best(rounds, "execution", "one_way")
    floor = 6 * receive + 100e-6
    rows.append(within("one-way message", ours, "6 raw calls + 100 us", floor, 1, spread=spread))
    for name in rounds[0]["rollback"]:
        kind, mib = name.split(", ")
        for end, words in (("undone", "undo"), ("kept", "keep")):
            ours, spread = best(rounds, "rollback", name, end)
            small, _ = best(rounds, "rollback", f"{kind}, 1", end)
            whole, _ = best(rounds, "copying", mib)
            work = f"{kind}, {words}, {mib} MiB"
            # The cost may not grow as the size does: 512 times the memory, 8 times the time.
            beside = ("copying it all", whole, None) if mib == "1" else ("at 1 MiB", small, 8)
            rows.append(within(work, ours, *beside, spread=spread))
    empty, _ = best(rounds, "large_state", "empty")
    for key, name in (("canisters", "10,000 canisters"), ("requests", "100,000 requests")):
        ours, spread = best(rounds, "large_state", key)
        rows.append(within(f"certified update, {name}", ours, "empty subnet", empty, 1.2,
                           spread=spread))  # fmt: skip
    message, _ = best(rounds, "execution", "message")
    for what in ("snapshot", "restore"):
        ours, spread = best(rounds, "subnet", what)
        rows.append(within(f"{what} of a subnet, 12 Motoko canisters", ours, "12 messages",
                           12 * message, 3, spread=spread))  # fmt: skip
    first, _ = best(rounds, "installation", "first")
    again, spread = best(rounds, "installation", "again")
    rows.append(faster("module seen before", again, "the first time", first, 20, spread=spread))
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
                    start_new_session=True,
                )  # fmt: skip
                times.append(time.perf_counter() - start)
    return within(
        "start to first certified update",
        statistics.median(found["serve"]),
        "imports + compiling",
        statistics.median(found["floor"]),
        2,
    )


def main():
    publish("replica", [*outside_rows(), *inside_rows(), first_row()])


if __name__ == "__main__":
    main()
