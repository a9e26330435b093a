"""The Motoko tables do what the protocol's test vectors say."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from bridge.candid import Case
from bridge.flow import effects, events, messages, records
from bridge.flow.codec import from_json
from bridge.principal import Principal

FOLDER = Path(__file__).resolve().parents[1] / "vectors"
FILES = sorted(FOLDER.glob("*.json"))
BATCH = 200

VARIANTS = {"state", "failure", "dialect", "role", "what"}
OWN = {"version", "asked", "asks", "ask_due"}  # an implementation's own matter


def plain(value, name=""):
    """A record, event or effect of the vectors as a Candid value of the canister."""
    if value is None or isinstance(value, bool | int | bytes | Principal):
        return value
    if name in VARIANTS:
        return Case(str(value))
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, messages.Message):
        return Case(messages.kind_of(value), record(value))
    raise TypeError(value)


def record(value, *leave_out):
    return {
        entry.name: plain(getattr(value, entry.name), entry.name)
        for entry in fields(value)
        if entry.name not in OWN and entry.name not in leave_out
    }


def flow(value):
    if isinstance(value, records.ReceiverFlow):
        # One generated vector reports the same lost echo twice; no fewer than none are counted.
        return record(value) | {"listed": False, "ack_echoes": max(0, value.ack_echoes)}
    return value and record(value)


def told(of):
    match of:
        case effects.Tell():
            return Case("tell", {"what": Case(str(of.what)), "tries": of.tries})
        case effects.Ask():
            return Case("ask", {"their_hash": of.their_hash, "tries": of.tries})
        case effects.HandOver():
            return Case("hand_over", {"tries": of.tries})


def happening(event):
    """The event's own part."""
    match event:
        case events.Received():
            own = record(event, "u", "lag", "room") | {"listed": False}
            return Case("received", own)
        case events.Restarted():
            return Case("restarted", {"share": event.share})
        case events.NotSent() | events.Refused() | events.Rejected():
            tag = {"NotSent": "not_sent"}.get(type(event).__name__, type(event).__name__.lower())
            return Case(tag, record(event.transmit))
        case events.Send():
            return Case("send", record(event, "u", "lag", "room"))
        case events.Returned():
            return Case("returned", told(event.of).value)
        case events.HandlerFailed():
            return Case("handler_failed", told(event.of))
        case events.Decided():
            value = event.hash if event.decision == "accept" else None
            return Case("decided", Case(str(event.decision), value))
        case events.Answer():
            return Case("answer", record(event, "u", "lag", "room"))
        case events.FailedForGood():
            return Case("failed_for_good", record(event, "u", "lag", "room"))
        case _:
            names = {
                events.Due: "due",
                events.Cancel: "cancel",
                events.Finish: "finish",
                events.RetryDeadLetter: "retry_dead_letter",
                events.DropDeadLetter: "drop_dead_letter",
                events.Deferred: "deferred",
                events.FailedForNow: "failed_for_now",
                events.Rerun: "rerun",
            }
            return Case(names[type(event)])


def effect(value):
    match value:
        case effects.Transmit():
            return Case("transmit", record(value))
        case effects.HandOver():
            return Case("hand_over", record(value))
        case effects.Tell():
            return Case("tell", record(value))
        case effects.Ask():
            return Case("ask", record(value) | {"kind": Case(value.kind.lower())})
        case effects.Count():
            return Case("count", value.reason)
        case effects.RememberPaid():
            return Case("remember_paid", record(value))


def for_sender(vector):
    before, event = vector["before"], vector["event"]
    if before is not None:
        return before["flow"] == "sender"
    if event["event"] == "received":
        return event["message"]["kind"] == "ACK"
    return event["event"] in {"send", "cancel", "finish", "retry_dead_letter", "drop_dead_letter"}


def asked(policies, vector):
    """The vector as an argument of the canister's `sender` or `receiver`."""
    settings = policies[vector["policy"]] | vector.get("settings", {})
    peers = settings.pop("peers", {})
    rerun = settings.pop("rerun_stalled", False)
    settings.pop("oneway_new", None)
    settings["bytes"] = settings.pop("bytes_stored")
    settings["attach_cycles"] = {"new": 0, "ack": 0, "fin": 0} | settings.get("attach_cycles", {})
    event = from_json(vector["event"])
    before = vector["before"] and from_json(vector["before"])
    step = {
        "before": flow(before),
        "event": {
            "u": event.u,
            "lag": event.lag,
            "room": event.room,
            "what": happening(event),
        },
        "now": vector["now"],
        "policy": settings,
    }
    if for_sender(vector):
        peer = peers.get(str(before.peer), {}) if before else {}
        return step | {"null_ack": Case(peer.get("null_ack", "response"))}
    return step | {"rerun": rerun}


def expected(vector):
    """What the canister must answer; None for an error."""
    if vector.get("error"):
        return None
    after = vector["after"]
    if after is not None:
        # In a vector, fields with the default value are left out, and stand where they changed.
        after = flow(from_json((vector["before"] or {}) | after))
    return {"flow": after, "effects": [effect(from_json(item)) for item in vector["effects"]]}


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
async def test_every_vector_holds_in_the_compiled_motoko_tables(world, file):
    data = json.loads(file.read_text(encoding="utf-8"))
    tables = await world.deploy("tables")
    wrong = []
    for role in ("sender", "receiver"):
        vectors = [v for v in data["vectors"] if for_sender(v) == (role == "sender")]
        assert vectors
        for start in range(0, len(vectors), BATCH):
            batch = vectors[start : start + BATCH]
            answers = await tables.call(role, [asked(data["policies"], v) for v in batch])
            for vector, answer in zip(batch, answers, strict=True):
                got = answer.value if answer.label == "ok" else None
                if got != expected(vector):
                    wrong.append((vector["name"], got or answer, expected(vector)))
    assert not wrong, "\n".join(f"{name}\n  {got}\n  {want}" for name, got, want in wrong[:10])
