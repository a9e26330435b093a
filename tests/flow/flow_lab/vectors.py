"""The command behind ``make vectors``: writes ``tests/vectors/generated.json`` from the tables.

Walks are drawn from a fixed seed, and of all their steps those are kept that differ in state, event
and rows, some of each, so that each row of the tables is there several times.
"""

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from random import Random

from bridge.errors import LocalProtocolError
from bridge.flow import PeerPolicy, Policy, ReceiverFlow, step
from bridge.flow.codec import from_json, to_json
from bridge.principal import Principal
from flow_lab.walk import walk

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
SEED = 20_260
WALKS = 6_000
STEPS = 25
OF_A_KIND = 7


def _record_to_json(record):
    """A record without what is an implementation's own matter.

    That is its version, and how it keeps a question about a FIN over a restart: one whose handlers
    a restart does not interrupt has nothing to keep.
    """
    own = {"version": 0}
    if isinstance(record, ReceiverFlow):
        own |= {"asked": (), "asks": 0, "ask_due": None}
    return to_json(dataclasses.replace(record, **own))


def changed_fields(before, after):
    """The vector form of what a step makes of a record."""
    if after is None:
        return None
    new = _record_to_json(after)
    if before is None:
        return new
    old = _record_to_json(before)
    defaults = {entry.name: entry.default for entry in dataclasses.fields(after)}
    differing = {n: value for n, value in new.items() if n not in old or old[n] != value}
    return differing | {name: defaults[name] for name in old if name not in new}


def policy_of(policies, vector) -> Policy:
    """The policy of a vector."""
    settings = dict(vector.get("settings", {}))
    peers = {
        Principal.from_text(text): PeerPolicy(**peer)
        for text, peer in settings.pop("peers", {}).items()
    }
    return Policy(**(policies[vector["policy"]] | settings), peers=peers)


def outcome_of(policies, vector) -> dict:
    """What the tables make of a vector, in the vector's form."""
    before = vector["before"] and from_json(vector["before"])
    event = from_json(vector["event"])
    try:
        transition = step(before, event, vector["now"], policy_of(policies, vector))
    except LocalProtocolError:
        return {"error": True}
    return {
        "after": changed_fields(before, transition.flow),
        "effects": [to_json(effect) for effect in transition.effects],
    }


def expected_of(vector) -> dict:
    """What a vector says that they must make of it."""
    return {name: vector[name] for name in ("error", "after", "effects") if name in vector}


def _settings_to_json(settings):
    plain = dict(settings)
    if "peers" in plain:
        plain["peers"] = {
            str(who): {
                entry.name: getattr(peer, entry.name)
                for entry in dataclasses.fields(PeerPolicy)
                if getattr(peer, entry.name) != entry.default
            }
            for who, peer in plain["peers"].items()
        }
    return plain


def vector_of(number, visit):
    """One visit of a walk as a vector."""
    state = "none" if visit.before is None else visit.before.state.value
    kind = type(visit.event).__name__
    rows = "error" if visit.transition is None else "+".join(visit.transition.rows) or "no row"
    vector = {"name": f"{number}: {state}, {kind}: {rows}", "policy": "seconds"}
    if visit.settings:
        vector["settings"] = _settings_to_json(visit.settings)
    before = visit.before and _record_to_json(visit.before)
    vector |= {"before": before, "event": to_json(visit.event), "now": visit.now}
    if visit.transition is None:
        return vector | {"error": True}
    return vector | {
        "after": changed_fields(visit.before, visit.transition.flow),
        "effects": [to_json(effect) for effect in visit.transition.effects],
    }


def _asks_again(record) -> bool:
    """Whether a restart took a question about a FIN."""
    return isinstance(record, ReceiverFlow) and (record.ask_due is not None or record.asks > 1)


def generate(policy: Policy) -> list[dict]:
    """The generated vectors."""
    chance = Random(SEED)
    seen: Counter = Counter()
    vectors = []
    for _ in range(WALKS):
        for visit in walk(chance, policy, STEPS):
            if _asks_again(visit.before) or _asks_again(visit.transition and visit.transition.flow):
                continue
            state = visit.before and visit.before.state
            rows = visit.transition and visit.transition.rows
            message = getattr(visit.event, "message", None)
            signature = state, type(visit.event), type(message), rows
            if seen[signature] < OF_A_KIND:
                seen[signature] += 1
                vectors.append(vector_of(len(vectors), visit))
    return vectors


def text() -> str:
    """The whole file."""
    settings = json.loads((VECTORS / "handwritten.json").read_text())["policies"]
    vectors = generate(Policy(**settings["seconds"]))
    lines = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors)
    return f'{{"format": 1,\n"policies": {json.dumps(settings)},\n"vectors": [\n{lines}\n]}}\n'


def main() -> int:
    """Write the file."""
    content = text()
    (VECTORS / "generated.json").write_text(content)
    print(f"{content.count(chr(10)) - 4:,} vectors, {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
