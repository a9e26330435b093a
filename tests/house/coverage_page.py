"""Makes docs/replica-coverage.md from the tests' ``covers`` marks: ``make coverage-page``.

As a program it collects the tests and prints the page; as a pytest plugin in that collection it
writes the marks down. A mark names a feature of the list below and the client that shows it:
``@pytest.mark.covers("request: executed once", client="icp")``. A client's own defect is
``but="..."``. So a row exists only by a test, and the list of features cannot promise more.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

CLIENTS = {
    "icp": "`icp`",
    "javascript": "JavaScript",
    "icp-py-core": "icp-py-core",
    "ic-py": "ic-py",
    "bridge": "ic-bridge",
    "own": "own tests",
}

FEATURES = {
    "HTTP interface": (
        "status",
        "query",
        "call: answered at once with its certificate (v4)",
        "call: 202, then polling (v4)",
        "call: asynchronous, then polling (v2)",
        "request: executed once",
        "request: outcome kept five minutes, id until its expiry",
        "request: expired ones do not start",
        "rejects: code, text, error code",
        "read_state: module hash and controllers",
        "read_state: metadata, private ones for controllers",
        "read_state: keys, nodes and ranges of the subnet",
        "read_state: absence is proved",
        "inspect_message",
        "refusals: malformed, forged, misaddressed requests",
        "refusals: bodies that are too large",
        "floods, slow and half-closed connections",
        "any bytes: refused, and the replica goes on",
        "web pages of any origin",
        "HTTP gateway",
    ),
    "Answers that prove themselves": (
        "certificates, up to the root key",
        "query signatures, by a certified node key",
        "nothing is believed under another root key",
    ),
    "Who is asking": (
        "anonymous",
        "Ed25519",
        "secp256k1",
        "P-256",
        "WebAuthn",
        "canister signatures",
        "delegation",
        "chains of delegations",
        "limits of delegations: targets, expiry, queries only, length",
    ),
    "Management canister": (
        "create",
        "install, upgrade, reinstall",
        "install from chunks",
        "uninstall",
        "settings",
        "canister_status",
        "stop, start, delete",
        "logs",
        "snapshots",
        "history, metrics and info",
        "randomness",
        "lacking methods are named",
    ),
    "Execution": (
        "call contexts, callbacks, cleanup",
        "traps and queries leave no trace",
        "composite queries",
        "one-way calls",
        "bounded-wait calls",
        "order of a pair, 500 in flight",
        "timers and heartbeats",
        "cycles are conserved",
        "freezing",
        "instruction limits",
        "System API, where the specification allows it",
        "Motoko and Rust modules, 32 and 64 bits, gzip",
    ),
    "Cycles and ICP": (
        "canisters created by the cycles ledger",
        "cycles: balance and transfer",
        "cycles: withdrawal to a canister",
        "cycles: deposit by a canister",
        "ICP: balance and transfer",
        "ICP to cycles, to a canister, to a top-up",
        "allowances",
    ),
    "Projects": ("deploy, then upgrade",),
    "Powers of the admin interface": (
        "faults between canisters",
        "time",
        "message log",
        "queues and call contexts",
        "snapshot and restore of the subnet",
        "same seed, same story",
        "off by default, closed to web pages",
    ),
    "Doors": (
        "command",
        "state directory, whole after any crash",
        "process of a program's own",
        "pytest plugin",
    ),
}

INTRO = """\
# What the replica covers, and who shows it

Made from the tests by `make coverage-page`: a number is how many tests show the feature with that
client; a row without a test is impossible. Over real HTTP: the official command line `icp`, the
official JavaScript agent `@icp-sdk/core`, the Python agents icp-py-core and ic-py, none of which
this project wrote (`tests/clients`), and this project's own agent. The last column counts tests of
single parts, in process or by hand-made requests.
"""


class BadMarkError(Exception):
    """A test carries a mark that the page cannot show."""


def pytest_collection_modifyitems(items):
    """Write down what the collected tests cover."""
    target = os.environ.get("COVERAGE_MARKS")
    if target is None:
        return
    found = set()
    for item in items:
        name = item.nodeid.split("[")[0]
        found |= {
            (name, *mark.args, mark.kwargs.get("client", "own"), mark.kwargs.get("but", ""))
            for mark in item.iter_markers("covers")
        }
    Path(target).write_text(json.dumps(sorted(found)), encoding="utf-8")


def collected():
    """The marks of all tests: (test, feature, client, but)."""
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder) / "marks.json"
        environment = {
            **os.environ,
            "COVERAGE_MARKS": str(marks),
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }
        # Not what this process was told by the pytest that may have started it.
        for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST"):
            environment.pop(name, None)
        files = [
            str(path)
            for path in sorted((PROJECT / "tests").rglob("test_*.py"))
            if "mark.covers(" in path.read_text(encoding="utf-8")
        ]
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "coverage_page"]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", *files],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BadMarkError(done.stdout + done.stderr)
        return [tuple(one) for one in json.loads(marks.read_text(encoding="utf-8"))]


def page(marks):
    """The page.

    Raises:
        BadMarkError: If a mark names no feature or client, or a feature has no test.
    """
    known = {feature for features in FEATURES.values() for feature in features}
    for test, feature, client, _ in marks:
        if feature not in known or client not in CLIENTS:
            raise BadMarkError(f"{test} covers {feature!r} with {client!r}: one of them is unknown")
    shown = {feature for _, feature, _, but in marks if not but}
    if known - shown:
        raise BadMarkError(f"no test covers {sorted(known - shown)}")
    tests = defaultdict(set)
    notes = []
    for test, feature, client, but in marks:
        tests[feature, client].add((test, but))
    lines = [INTRO]
    for area, features in FEATURES.items():
        lines += [f"## {area}", "", "| | " + " | ".join(CLIENTS.values()) + " |"]
        lines.append("| --- |" + " --- |" * len(CLIENTS))
        for feature in features:
            cells = [_cell(tests[feature, client], notes) for client in CLIENTS]
            lines.append(f"| {feature} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## Where a client has a defect of its own", ""]
    lines += [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    lines += ["", "## The tests", ""]
    for features in FEATURES.values():
        for feature in features:
            lines.append(f"**{feature}**")
            lines.append("")
            for client, title in CLIENTS.items():
                names = sorted({test for test, _ in tests[feature, client]})
                if names:
                    lines.append(f"- {title}: " + ", ".join(f"`{_short(name)}`" for name in names))
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cell(found, notes):
    good = sum(1 for _, but in found if not but)
    parts = [str(good)] if good else []
    for but in sorted({but for _, but in found if but}):
        if but not in notes:
            notes.append(but)
        parts.append(f"no ({notes.index(but) + 1})")
    return ", ".join(parts)


def _short(nodeid):
    file, _, rest = nodeid.partition("::")
    return f"{file.removeprefix('tests/').removesuffix('.py')}: {rest.split('::')[-1]}"


if __name__ == "__main__":
    print(page(collected()), end="")
