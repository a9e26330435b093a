"""Python, Rust and Motoko say the same messages alike and read each other's."""

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bridge import candid, dialects
from bridge.candid import Case
from bridge.errors import CandidError
from bridge.flow import Ack, Fin, New, kind_of

ROOT = Path(__file__).resolve().parents[2]
SEED = 20_260
FLOWS = 40
SIZES = [0, 1, 100, 127, 128, 300]
DIALECTS = list(dialects.DIALECTS)


@pytest.fixture(scope="module")
def rust():
    """Asks the Rust crate line by line."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is missing")
    command = ["cargo", "run", "--quiet", "--locked", "--package", "async_flow"]
    command += ["--no-default-features", "--example", "codec"]

    def ask(lines):
        done = subprocess.run(
            command,
            cwd=ROOT / "rust_reference",
            env=os.environ | {"CARGO_TARGET_DIR": str(ROOT / "build" / "rust-target")},
            input="\n".join(json.dumps(line) for line in lines),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(lines)
        return answers

    return ask


def told(message):
    """A message as the Rust side writes it."""
    payload = getattr(message, "payload", None)
    return {
        "kind": kind_of(message),
        "msg_id": str(message.msg_id),
        "payload": None if payload is None else payload.hex(),
        "hash": getattr(message, "hash", None),
    }


def any_message(dice):
    msg_id = dice.choice([0, 1, 127, 128, 2**32, 2**64, 2**128 - 1, dice.getrandbits(128)])
    payload = dice.randbytes(dice.choice([0, 1, 7, 127, 128, 300]))
    given = dice.choice([None, 0, 1, 2**32 - 1, dice.getrandbits(32)])
    return dice.choice(
        [
            New(msg_id, payload),
            Ack(msg_id, payload, given),
            Ack(msg_id, None, given),
            Fin(msg_id, given),
        ]
    )


def vars_of(message):
    """The fields of a message beside its id."""
    return [
        (name, getattr(message, name)) for name in ("payload", "hash") if hasattr(message, name)
    ]


def test_rust_and_python_say_the_same_and_read_each_other(rust):
    dice = random.Random(SEED)
    cases = [(dialect, any_message(dice)) for dialect in DIALECTS for _ in range(1_000)]
    ours = [dialects.get(dialect).call_for(message) for dialect, message in cases]
    said = rust([{"dialect": dialect, "say": told(message)} for dialect, message in cases])
    read = rust(
        [
            {"dialect": dialect, "method": method, "read": arg.hex()}
            for (dialect, _), (method, arg) in zip(cases, ours, strict=True)
        ]
    )
    for (dialect, _), (method, arg), theirs, back in zip(cases, ours, said, read, strict=True):
        their_arg = bytes.fromhex(theirs["arg"])
        assert theirs["method"] == method
        assert their_arg == arg
        carried = dialects.get(dialect).message_from(method, their_arg)
        assert carried == dialects.get(dialect).message_from(method, arg)
        assert back == {"message": told(carried), "dialect": dialect}


OPTIONAL_HASHES = [candid.Opt(candid.Nat32), candid.Nat32, candid.Opt(candid.Text), candid.Null]


def strange_argument(dice):
    """A `unified` argument of another type than ours: subtypes, more fields, other order."""
    kind = dice.choice(["NEW", "ACK", "FIN"])
    fields = {"msg_id": candid.Nat}
    value = {"msg_id": dice.choice([0, 5, 2**70, 2**128 - 1, 2**128])}
    if kind != "FIN":
        plain = kind == "NEW" or dice.random() < 0.5
        fields["payload"] = candid.Blob if plain else candid.Opt(candid.Blob)
        value["payload"] = dice.randbytes(dice.randrange(5))
    if kind != "NEW" and dice.random() < 0.8:
        fields["hash"] = dice.choice(OPTIONAL_HASHES)
        value["hash"] = {candid.Null: None}.get(
            fields["hash"], "text" if fields["hash"] == candid.Opt(candid.Text) else 7
        )
    if dice.random() < 0.5:
        fields["more"] = dice.choice([candid.Text, candid.Vec(candid.Opt(candid.Int)), candid.Bool])
        value["more"] = {candid.Text: "x", candid.Bool: True}.get(fields["more"], [1, None])
    cases = {kind: candid.Record(fields)}
    if dice.random() < 0.3:
        cases["other"] = candid.Null
    return candid.encode([candid.Variant(cases)], [Case(kind, value)])


def read_here(method, arg, dialect):
    try:
        message = dialects.get(dialect).message_from(method, arg)
    except CandidError:
        return None
    # Rust has no number for a larger id: it does not decode, while Python leaves it to admission.
    return told(message) if message.msg_id < 2**128 else None


def test_subtyped_reordered_and_extended_messages_mean_the_same(rust):
    dice = random.Random(SEED)
    args = [strange_argument(dice) for _ in range(2_000)]
    lines = [{"dialect": "unified", "method": "asyncFlow", "read": arg.hex()} for arg in args]
    expected = [read_here("asyncFlow", arg, "unified") for arg in args]
    assert sum(message is not None for message in expected) > 1_000
    got = [answer["message"] for answer in rust(lines)]
    wrong = [(a.hex(), g, e) for a, g, e in zip(args, got, expected, strict=True) if g != e]
    assert not wrong, (len(wrong), wrong[:5])


def test_damaged_messages_are_read_alike_or_by_neither(rust):
    dice = random.Random(SEED)
    lines, expected = [], []
    for _ in range(3_000):
        dialect = dice.choice(DIALECTS)
        method, arg = dialects.get(dialect).call_for(any_message(dice))
        damaged = bytearray(arg)
        for _ in range(dice.randrange(1, 3)):
            damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        damaged = bytes(damaged[: len(damaged) - dice.choice([0, 0, 0, 1])])
        lines.append({"dialect": dialect, "method": method, "read": damaged.hex()})
        expected.append(read_here(method, damaged, dialect))
    got = [answer["message"] for answer in rust(lines)]
    wrong = [
        (line, ours, theirs)
        for line, theirs, ours in zip(lines, got, expected, strict=True)
        if theirs != ours and not is_matter_of_taste(ours, theirs)
    ]
    assert not wrong, (len(wrong), wrong[:5])


def is_matter_of_taste(ours, theirs):
    """Whether damage made the payload an empty vector of something else than bytes.

    By the Candid specification that reads as an empty blob, as null where it is optional. Rust's
    library wants bytes in the first case, and an empty blob will do for it in the second.
    """
    if ours is None:
        return False
    if theirs is None:
        return ours["payload"] == ""
    return ours | {"payload": ours["payload"] or ""} == theirs | {
        "payload": theirs["payload"] or ""
    }


# --- What canisters put on the wire ---------------------------------------------------------------


async def recorded(world, spoken, *senders):
    """The messages of a dialect that these canisters sent to each other."""
    names = {str(sender.id) for sender in senders}
    methods = set(dialects.get(spoken).methods.values())
    found, after = [], 0
    while page := (await world.admin("GET", f"messages?after={after}"))["messages"]:
        after = page[-1]["seq"]
        found += [
            (line["from"], line["method"], bytes.fromhex(line["arg"]))
            for line in page
            if line["kind"] == "request" and line["method"] in methods
            if {line["from"], line["to"]} <= names
        ]
    return found


@pytest.mark.parametrize("language", ["motoko", "rust"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_canisters_send_is_byte_for_byte_what_python_says(world, language, dialect):
    """Flows of a canister with a mailbox, both ways: NEW, ACK, FIN of any id, payload and hash."""
    dice = random.Random(f"{SEED} {dialect}")
    name = "both" if dialect == "unified" else f"both_{dialect}"
    async with world.another_agent() as owner:
        settings = {"first_retry": 600 * 10**9, "max_delay": 600 * 10**9, "lifetime": 900 * 10**9}
        settings |= {"horizon": 1_800 * 10**9, "linger": 900 * 10**9, "retention": 900 * 10**9}
        canister = await world.deploy(name, settings, language=language)
        kept = ["peers", "closed", "messages", "bytes", "messages_per_caller", "bytes_per_caller"]
        box = await world.deploy_with("mailbox", dict.fromkeys(kept) | {"owner": owner.principal})
        assert await canister.configure(peers=[{"peer": box.id, "dialect": Case(dialect)}]) is None

        async def say(message):
            fields = {
                key: value
                for key, value in (("msg_id", message.msg_id), *vars_of(message))
                if not (key == "hash" and kind_of(message) == "NEW")
            }
            request = {"to": canister.id, "dialect": Case(dialect), "cycles": 0}
            request["message"] = Case(kind_of(message), fields)
            answer = await box.call("mailbox_send", request, agent=owner)
            assert answer.label == "sent"

        opened = [
            await canister.send(box.id, dice.randbytes(dice.choice(SIZES))) for _ in range(FLOWS)
        ]
        responses = [dice.choice([None, dice.randbytes(dice.choice(SIZES))]) for _ in opened]
        for msg_id, response in zip(opened, responses, strict=True):
            await say(Ack(msg_id, response, None))
        for _ in range(FLOWS):
            await say(New(dice.getrandbits(dice.randrange(1, 129)), dice.randbytes(9)))
        await world.quiet()
        lines = await recorded(world, dialect, canister, box)
    kinds = Counter()
    for sender, method, arg in lines:
        message = dialects.get(dialect).message_from(method, arg)
        assert dialects.get(dialect).call_for(message) == (method, arg)
        if sender == str(canister.id):
            kinds[kind_of(message)] += 1
    assert kinds == {"NEW": FLOWS, "ACK": FLOWS, "FIN": FLOWS}
