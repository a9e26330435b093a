"""Measures the agent; run as ``python -m benchmarks.agent.run`` from the root."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.report import BUILD, best, faster, measure, missing, process, publish, within

HERE = Path(__file__).resolve().parent
PEERS = BUILD / "agent"
ROUNDS = 3
WORK = {"queries": 400, "updates": 100}
THIRD_PARTY = (
    "import aiohttp, cbor2, pyblst, yarl;"
    "from cryptography.hazmat.primitives import serialization, hashes;"
    "from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa;"
    "from cryptography.hazmat.primitives.ciphers import Cipher"
)


def peer_command(name):
    """How to start an agent of somebody else's.

    Raises:
        RuntimeError: If it is not installed.
    """
    if name == "javascript":
        place = PEERS / "javascript"
        if shutil.which("node") is None or not (place / "node_modules").exists():
            raise RuntimeError("node or its packages are missing")
        shutil.copy(HERE / "javascript_peer.mjs", place)
        return ["node", str(place / "javascript_peer.mjs")]
    python = PEERS / name / "bin" / "python"
    if not python.exists():
        raise RuntimeError("its environment is missing")
    return [str(python), str(HERE / "python_peer.py"), name]


def import_times(*codes):
    """Processor time for each piece of code in an interpreter of its own, the best of several."""
    best = [float("inf")] * len(codes)
    for _ in range(9):
        for number, code in enumerate(codes):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            best[number] = min(best[number], spent)
    return best


def own_rows(rounds):
    rows = []
    bls, _ = best(rounds, "bls")
    for kind, name in (("query", "verified query"), ("call", "verified update")):
        ours, spread = best(rounds, kind, "ours", "median")
        raw, _ = best(rounds, kind, "raw", "median")
        bare, _ = best(rounds, kind, "bare", "median")
        beyond = ours - max(raw - bare, 0)
        work = f"{name}, time beyond the replica's"
        if kind == "query":
            rows.append(within(work, beyond, "bare POST", bare, 2, spread=spread))
            cpu, spread = best(rounds, kind, "ours", "cpu")
            bare_cpu, _ = best(rounds, kind, "bare", "cpu")
            rows.append(within(f"{name}, client CPU", cpu, "bare POST", bare_cpu, 2, spread=spread))
        else:
            allowed = 2 * bls + 3 * bare
            rows.append(
                within(
                    work,
                    beyond,
                    "2 BLS + 3 POSTs",
                    allowed,
                    1,
                    spread=spread,
                )
            )
    free = max(1, len(os.sched_getaffinity(0)) - 1)
    one = max(each["one"] for each in rounds)
    many = max(each["many"] for each in rounds)
    # As times of a call, of which the shorter is the better.
    rows.append(faster("64 updates in flight", 1 / many, "one at a time", 1 / one, 3 * free))
    return rows


def peer_rows(rounds, peers, reasons):
    rows = []
    targets = [
        ("query", "icp-py-core", 5),
        ("call", "javascript", 1),
        ("query", "ic-py", None),
        ("query", "javascript", None),
        ("call", "icp-py-core", None),
        ("call", "ic-py", None),
    ]
    for kind, peer, target in targets:
        name = f"{'queries' if kind == 'query' else 'updates'}, one at a time"
        if not peers[peer]:
            rows.append(missing(name, peer, reasons.get(peer, "not measured"), target))
            continue
        ours, spread = best(rounds, kind, "ours", "median")
        theirs = min(each[kind] for each in peers[peer])
        rows.append(faster(name, ours, peer, theirs, target, spread=spread))
    return rows


def main():
    command = str(Path(sys.executable).with_name("ic-bridge"))
    ours, peers, reasons = [], {"icp-py-core": [], "ic-py": [], "javascript": []}, {}
    with (
        process(command, "replica", "start") as ready,
        process(sys.executable, str(HERE / "bare_server.py")) as bare,
    ):
        url = json.loads(ready)["url"]
        canister_id = measure(sys.executable, str(HERE / "canister.py"), url)
        work = {**WORK, "url": url, "bare": bare, "canister_id": canister_id}
        for _ in range(ROUNDS):
            # In turns, so that a busy moment of the machine does not fall on one of them alone.
            ours.append(measure(sys.executable, str(HERE / "ours.py"), given=work))
            for name, measured in peers.items():
                try:
                    start = peer_command(name)
                    measured.append(measure(*start, given={**work, "queries": 60, "updates": 20}))
                except RuntimeError as error:
                    reasons[name] = str(error)
    rows = own_rows(ours) + peer_rows(ours, peers, reasons)
    nothing, own, theirs = import_times("pass", "import bridge.agent", THIRD_PARTY)
    rows.append(
        within("import of bridge.agent", own - nothing, "third party", theirs - nothing, 1.3)
    )
    publish("agent", rows)


if __name__ == "__main__":
    main()
