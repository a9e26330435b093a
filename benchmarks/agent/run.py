"""Measures the agent, prints the table of targets and keeps it as JSON."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "bench"
PEERS = BUILD / "agent"
ROUNDS = 3
WORK = {"queries": 400, "updates": 100}
THIRD_PARTY = (
    "import aiohttp, cbor2, pyblst, yarl;"
    "from cryptography.hazmat.primitives import serialization, hashes;"
    "from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa;"
    "from cryptography.hazmat.primitives.ciphers import Cipher"
)


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


def run(command, work):
    """What a program measured, or why it could not."""
    done = subprocess.run(
        command, input=json.dumps(work), capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["it failed"])[-1][:90]
    return json.loads(done.stdout.strip().splitlines()[-1]), None


def peer_command(name):
    if name == "javascript":
        place = PEERS / "javascript"
        if shutil.which("node") is None or not (place / "node_modules").exists():
            return None, "node or its packages are missing"
        shutil.copy(HERE / "javascript_peer.mjs", place)
        return ["node", str(place / "javascript_peer.mjs")], None
    python = PEERS / name / "bin" / "python"
    if not python.exists():
        return None, "its environment is missing"
    return [str(python), str(HERE / "python_peer.py"), name], None


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


def best(rounds, *path):
    """The smallest of a figure over the rounds, and its spread."""
    values = []
    for each in rounds:
        value = each
        for key in path:
            value = value[key]
        values.append(value)
    return min(values), (max(values) - min(values)) / min(values)


def row(work, ours, baseline_name, baseline, target, *, unit, at_least=False, spread=0.0):
    ratio = ours / baseline
    return {
        "work": work,
        "ours": ours,
        "unit": unit,
        "baseline": baseline_name,
        "baseline_value": baseline,
        "ratio": ratio,
        "target": target,
        "at_least": at_least,
        "met": ratio >= target if at_least else ratio <= target,
        "spread": spread,
    }


def own_rows(rounds):
    rows = []
    bls, _ = best(rounds, "bls")
    for kind, name in (("query", "verified query"), ("call", "verified update")):
        ours, spread = best(rounds, kind, "ours", "median")
        raw, _ = best(rounds, kind, "raw", "median")
        bare, _ = best(rounds, kind, "bare", "median")
        beyond = ours - max(raw - bare, 0)
        if kind == "query":
            rows.append(
                row(f"{name}, time beyond the replica's", beyond, "bare POST", bare, 2,
                    unit="s", spread=spread)
            )  # fmt: skip
            cpu, spread = best(rounds, kind, "ours", "cpu")
            bare_cpu, _ = best(rounds, kind, "bare", "cpu")
            rows.append(
                row(f"{name}, client CPU", cpu, "bare POST", bare_cpu, 2, unit="s", spread=spread)
            )
        else:
            allowed = 2 * bls + 3 * bare
            rows.append(
                row(f"{name}, time beyond the replica's", beyond, "2 BLS + 3 POSTs", allowed, 1,
                    unit="s", spread=spread)
            )  # fmt: skip
    free = max(1, len(os.sched_getaffinity(0)) - 1)
    one = max(each["one"] for each in rounds)
    many = max(each["many"] for each in rounds)
    rows.append(
        row("64 updates in flight", many, "one at a time", one, 3 * free,
            unit="calls/s", at_least=True)
    )  # fmt: skip
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
            note = reasons.get(peer, "not measured")
            rows.append({"work": name, "baseline": peer, "note": note, "met": None,
                         "target": target})  # fmt: skip
            continue
        ours, spread = best(rounds, kind, "ours", "median")
        theirs = min(each[kind] for each in peers[peer])
        made = row(name, 1 / ours, peer, 1 / theirs, target or 0, unit="calls/s",
                   at_least=True, spread=spread)  # fmt: skip
        if target is None:
            made |= {"target": None, "met": None}
        rows.append(made)
    return rows


def show(rows):
    print(f"{'work':44} {'ours':>10} {'beside':>16} {'theirs':>10} {'ratio':>7} {'target':>7}")
    for one in rows:
        if "ratio" not in one:
            print(f"{one['work']:44} {'':>10} {one['baseline']:>16} {one['note']}")
            continue
        scale, unit = (1000, "ms") if one["unit"] == "s" else (1, "/s")
        target = (
            "" if one["target"] is None else f"{'>=' if one['at_least'] else '<='}{one['target']}"
        )
        verdict = {True: "met", False: "missed", None: ""}[one["met"]]
        print(
            f"{one['work']:44} {one['ours'] * scale:8.2f}{unit} {one['baseline']:>16} "
            f"{one['baseline_value'] * scale:8.2f}{unit} {one['ratio']:7.2f} {target:>7} {verdict}"
        )
    judged = [one for one in rows if one["target"] is not None]
    print(f"{sum(bool(one['met']) for one in judged)} of {len(judged)} targets met")


def main():
    command = str(Path(sys.executable).with_name("ic-bridge"))
    ours, peers, reasons = [], {"icp-py-core": [], "ic-py": [], "javascript": []}, {}
    with (
        process(command, "replica", "start") as ready,
        process(sys.executable, str(HERE / "bare_server.py")) as bare,
    ):
        url = json.loads(ready)["url"]
        done = subprocess.run(
            [sys.executable, str(HERE / "canister.py"), url],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        work = {**WORK, "url": url, "bare": bare, "canister_id": json.loads(done.stdout)}
        for _ in range(ROUNDS):
            # In turns, so that a busy moment of the machine does not fall on one of them alone.
            found, reason = run([sys.executable, str(HERE / "ours.py")], work)
            if found is None:
                sys.exit(f"bridge.agent could not be measured: {reason}")
            ours.append(found)
            for name, measured in peers.items():
                start, reason = peer_command(name)
                if start is not None:
                    found, reason = run(start, {**work, "queries": 60, "updates": 20})
                    if found is not None:
                        measured.append(found)
                if reason:
                    reasons[name] = reason
    rows = own_rows(ours) + peer_rows(ours, peers, reasons)
    nothing, own, theirs = import_times("pass", "import bridge.agent", THIRD_PARTY)
    rows.append(
        row("import of bridge.agent", own - nothing, "third party", theirs - nothing, 1.3, unit="s")
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    kept = {"rows": rows, "ours": ours, "peers": peers, "reasons": reasons}
    (BUILD / "agent.json").write_text(json.dumps(kept, indent=1))
    show(rows)


if __name__ == "__main__":
    main()
