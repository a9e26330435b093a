"""The canister that is wrong on purpose: each fault shows, and without it all is right.

A probe plays one small scene and says what it saw. It is played on a canister without faults, and
on one with the fault of its name.
"""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge import candid
from bridge.candid import Case
from bridge.errors import BridgeError
from bridge.flow import payload_hash
from bridge.reference import contract_method

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000
PRICE = 100_000_000_000
PROBES: dict[str, Any] = {}

MESSAGE = contract_method("unified", "asyncFlow").args


def probe(*, right, wrong, faults=(), **given):
    """Make a probe of a function; it is named as the fault that it is about."""

    def register(scene):
        PROBES[scene.__name__] = (scene, right, wrong, faults, given)
        return scene

    return register


@dataclass
class Stage:
    """A broken canister, and two mailboxes as its peers."""

    world: Any
    broken: Any
    boxes: list[Any]
    owner: Any

    async def step(self, seconds=0.0):
        """Move time ahead, and wait until nothing is left to do."""
        body = {"advance": int(seconds * SECOND), "pause": True, "quiet": True}
        await self.world.admin("POST", "time", body)

    async def say(self, kind, msg_id, *, box=0, dialect="unified", cycles=0, **fields):
        """A message of a mailbox to the broken canister."""
        request = {
            "to": self.broken.id,
            "dialect": Case(dialect),
            "cycles": cycles,
            "message": Case(kind, {"msg_id": msg_id} | fields),
        }
        answer = await self.boxes[box].call("mailbox_send", request, agent=self.owner)
        assert answer.label == "sent"
        await self.step()

    async def new(self, msg_id=7, payload=b"x", **more):
        await self.say("NEW", msg_id, payload=payload, **more)

    async def ack(self, msg_id=7, payload=b"y", hash=None, **more):  # noqa: A002 - the field's name
        await self.say("ACK", msg_id, payload=payload, hash=hash, **more)

    async def fin(self, msg_id=7, hash=None, **more):  # noqa: A002 - the field's name
        await self.say("FIN", msg_id, hash=hash, **more)

    async def open(self, payload=b"x", to=None):
        """Have the broken canister open a flow; its id."""
        msg_id = await self.broken.send((to or self.boxes[0]).id, payload)
        await self.step()
        return msg_id

    async def act(self, what, value):
        answer = await self.broken.call("act", Case(what, value))
        await self.step()
        return answer.label

    async def direct(self, *, trap_until=0, decision=None):
        how = {"trap_until": trap_until, "decision": decision, "rerun": False}
        await self.broken.call("direct", how)

    async def lines(self):
        """What the broken canister sent to its first peer: method and argument."""
        log = await self.world.admin("GET", "messages?after=0&max_arg=2000000")
        return [
            (line["method"], bytes.fromhex(line["arg"]))
            for line in log["messages"]
            if (line["from"], line["to"]) == (str(self.broken.id), str(self.boxes[0].id))
            and line["kind"] == "request"
        ]

    async def sent(self, kind):
        """Messages of a kind that the broken canister sent to its first peer."""
        messages = [
            candid.decode(MESSAGE, arg)[0]
            for method, arg in await self.lines()
            if method == "asyncFlow"
        ]
        return [message.value for message in messages if message.label == kind]

    async def handled(self, msg_id=7, box=0):
        query = {"sender": self.boxes[box].id, "msg_id": msg_id}
        return await self.broken.call("handled", query)

    async def told(self):
        return [line["what"].label for line in (await self.broken.call("heard"))["told"]]

    async def balance(self):
        return (await self.world.usage(self.broken))["cycles"]

    async def upgrade(self):
        await self.world.upgrade(self.broken, "broken")
        await self.step()

    async def listed(self):
        """Let the controller of the broken canister be a peer of it too."""
        assert await self.broken.configure(access={"agents": [self.world.agent.principal]}) is None


# --- On the receiver's side -----------------------------------------------------------------------


# No retry of the ACK comes meanwhile, and its echo may.
ECHOES = {"first_retry": 30 * SECOND, "max_delay": 30 * SECOND, "echo_min": SECOND // 10}


@probe(right=2, wrong=1, settings=ECHOES)
async def ignores_repeats(stage):
    await stage.new()
    await stage.step(0.5)
    await stage.new()
    return len(await stage.sent("ACK"))


@probe(right={b"x"}, wrong={b"x", b"wrong"})
async def wrong_after_fifty(stage):
    for msg_id in range(1, 53):
        await stage.new(msg_id=msg_id)
    return {message["payload"] for message in await stage.sent("ACK")}


@probe(right=1, wrong=2)
async def processes_repeats(stage):
    await stage.new()
    await stage.new()
    return await stage.handled()


@probe(right=1, wrong=2)
async def forgets_at_fin(stage):
    await stage.new()
    await stage.fin(hash=payload_hash(b"x"))
    await stage.new()
    return await stage.handled()


@probe(right=1, wrong=2)
async def replaces_payload(stage):
    await stage.new(payload=b"x")
    await stage.new(payload=b"y")
    return await stage.handled()


@probe(right=None, wrong="processing")
async def half_done(stage):
    await stage.new(payload=b"trap")
    return await stage.broken.state(7)


@probe(right=4, wrong=1)
async def acks_once(stage):
    await stage.new()
    for _ in range(7):
        await stage.step(1)
    await stage.new()
    return len(await stage.sent("ACK"))


@probe(right="abandoned", wrong="acknowledging", settings={"attempts": 3})
async def acks_for_ever(stage):
    await stage.new()
    for _ in range(10):
        await stage.step(4)
    return await stage.broken.state(7)


@probe(right=None, wrong="acknowledging")
async def ignores_ulid_time(stage):
    peers = [{"peer": stage.boxes[0].id, "ids": Case("ulid")}]
    assert await stage.broken.configure(peers=peers) is None
    await stage.new()
    return await stage.broken.state(7)


@probe(right="stalled", wrong=None)
async def forgets_interrupted(stage):
    await stage.new(payload=b"running-trap")
    return await stage.broken.state(7)


@probe(right="err", wrong="ok")
async def answers_twice(stage):
    await stage.new()
    answer = {"sender": stage.boxes[0].id, "msg_id": 7, "response": b"another"}
    return await stage.act("answer", answer)


@probe(right="acknowledging", wrong="finished")
async def believes_any_fin_hash(stage):
    await stage.new()
    await stage.fin(hash=1)
    return await stage.broken.state(7)


@probe(right="acknowledging", wrong="finished")
async def believes_any_fin(stage):
    await stage.new()
    await stage.fin(box=1)
    return await stage.broken.state(7)


@probe(right=(1, 1), wrong=(2, 0))
async def one_flow_per_id(stage):
    await stage.new()
    await stage.new(box=1)
    repeated = (await stage.broken.counters()).get("echo_suppressed", 0)
    return await stage.handled() + repeated, await stage.handled(box=1)


@probe(right=1, wrong=2, settings={"open_flows_per_peer": 1})
async def no_quotas(stage):
    await stage.new(7, b"later")
    await stage.new(8, b"later")
    return len(await stage.broken.flows())


@probe(right=0, wrong=1)
async def ignores_access(stage):
    await stage.broken.configure(access={"canisters": [stage.boxes[1].id]})
    await stage.new()
    return len(await stage.broken.flows())


@probe(right=0, wrong=1)
async def keeps_all_cycles(stage):
    await stage.broken.configure(access={"canisters": [stage.boxes[1].id]})
    before = await stage.balance()
    await stage.new(cycles=PRICE)
    return round((await stage.balance() - before) / PRICE)


@probe(right=1, wrong=2, settings={"min_cycles": PRICE})
async def charges_again(stage):
    before = await stage.balance()
    await stage.new(cycles=PRICE)
    await stage.new(cycles=PRICE)
    return round((await stage.balance() - before) / PRICE)


@probe(right=1, wrong=4)
async def no_echo_limit(stage):
    await stage.step()
    for _ in range(4):
        await stage.new()
    return len(await stage.sent("ACK"))


@probe(right="finished", wrong=None)
async def tombstones_age_by_clock(stage):
    await stage.new()
    await stage.fin(hash=payload_hash(b"x"))
    await stage.step(3_600)
    return await stage.broken.state(7)


@probe(right=1, wrong=2)
async def forgets_at_standstill(stage):
    await stage.new()
    await stage.step(3_600)
    await stage.new()
    return await stage.handled()


@probe(right={1, 3}, wrong=set())
async def batch_all_or_nothing(stage):
    await stage.listed()
    payloads = {1: b"x", 2: b"trap", 3: b"y"}
    batch = [Case("NEW", {"msg_id": n, "payload": word}) for n, word in payloads.items()]
    with contextlib.suppress(BridgeError):
        await stage.broken.call("asyncFlow_batch", batch)
    await stage.step()
    return {flow["msg_id"] for flow in await stage.broken.flows()}


@probe(right=None, wrong=b"")
async def null_as_empty(stage):
    await stage.new(payload=b"null")
    return (await stage.sent("ACK"))[0]["payload"]


@probe(right=1, wrong=0)
async def small_only(stage):
    await stage.new(payload=bytes(1_100_000))
    return len(await stage.broken.flows())


@probe(right=0, wrong=1)
async def wide_ids(stage):
    await stage.listed()
    await stage.broken.call("asyncFlow", Case("NEW", {"msg_id": 2**128 + 7, "payload": b"x"}))
    return len(await stage.broken.flows())


@probe(right=0, wrong=1)
async def takes_malformed(stage):
    await stage.listed()
    with contextlib.suppress(BridgeError):
        await stage.world.agent.update(stage.broken.id, "asyncFlow", b"DIDL\x00\x01\x7d\x07")
    return len(await stage.broken.flows())


@probe(right=["maf"], wrong=[])
async def opt_to_blob(stage):
    await stage.new(dialect="maf")
    page = {"after": None, "limit": 10}
    entries = await stage.boxes[0].call("mailbox_outbox", page, agent=stage.owner)
    return [entry["dialect"].label for entry in entries]


# --- On the sender's side -------------------------------------------------------------------------


@probe(right=1, wrong=0)
async def sends_no_fin(stage):
    await stage.ack(await stage.open())
    return len(await stage.sent("FIN"))


@probe(right=51, wrong=50)
async def stops_at_fifty(stage):
    many = {"to": stage.boxes[0].id, "payload": b"x", "times": 51}
    await stage.broken.call("burst", many)
    await stage.step()
    return len({new["msg_id"] for new in await stage.sent("NEW")})


@probe(right=2, wrong=1)
async def never_retries(stage):
    await stage.open()
    await stage.step(1.5)
    return len(await stage.sent("NEW"))


@probe(right="queued", wrong="failed")
async def fails_when_not_sent(stage):
    attach = {"new": 10**30, "ack": 0, "fin": 0}
    assert await stage.broken.configure({"attach_cycles": attach}) is None
    return await stage.broken.state(await stage.open())


@probe(right=1, wrong=2, settings={"in_flight": 1})
async def ignores_in_flight(stage):
    await stage.open()
    await stage.open()
    return len(await stage.sent("NEW"))


@probe(right="failed", wrong="sending", settings={"attempts": 2})
async def retries_for_ever(stage):
    msg_id = await stage.open()
    for _ in range(6):
        await stage.step(2)
    return await stage.broken.state(msg_id)


@probe(right=["failed"], wrong=[], settings={"attempts": 1})
async def tells_no_failure(stage):
    await stage.open()
    await stage.step(2)
    return await stage.told()


@probe(right="dead_letter", wrong=None, settings={"handler_attempts": 1})
async def forgets_dead_letters(stage):
    await stage.direct(trap_until=100)
    msg_id = await stage.open()
    await stage.ack(msg_id)
    return await stage.broken.state(msg_id)


@probe(right=2, wrong=1)
async def echoes_no_fin(stage):
    msg_id = await stage.open()
    await stage.ack(msg_id)
    await stage.step(1)
    await stage.ack(msg_id)
    return len(await stage.sent("FIN"))


@probe(right=[{"msg_id": 99, "hash": None}], wrong=[])
async def silent_to_unknown(stage):
    await stage.ack(99)
    return await stage.sent("FIN")


@probe(right=["answered", "answered"], wrong=["answered"])
async def loses_tellings(stage):
    await stage.direct(trap_until=1)
    await stage.ack(await stage.open())
    told = await stage.told()
    await stage.upgrade()
    for _ in range(3):
        await stage.step(1)
    # What was told by a message that trapped was undone with it.
    return ["answered", *told, *await stage.told()]


@probe(right=["failed", "late"], wrong=["failed"], settings={"attempts": 1})
async def drops_late(stage):
    msg_id = await stage.open()
    await stage.step(2)
    await stage.ack(msg_id)
    return await stage.told()


@probe(right=["unknown"], wrong=["unsent"], settings={"attempts": 1})
async def fails_as_unsent(stage):
    await stage.open()
    await stage.step(2)
    return [line["failure"].label for line in (await stage.broken.call("heard"))["told"]]


@probe(right=["cancelled"], wrong=["unsent"])
async def cancels_as_unsent(stage):
    await stage.act("cancel", await stage.open())
    return [line["failure"].label for line in (await stage.broken.call("heard"))["told"]]


@probe(right="sending", wrong="acknowledged")
async def believes_any_ack(stage):
    msg_id = await stage.open()
    await stage.ack(msg_id, box=1)
    return await stage.broken.state(msg_id)


@probe(right=2, wrong=5, settings={"unknown_fins_per_second": 2})
async def answers_all_unknown(stage):
    await stage.step()
    for n in range(5):
        await stage.ack(n)
    return len(await stage.sent("FIN"))


@probe(right="corrupt", wrong="acknowledged")
async def believes_any_ack_hash(stage):
    msg_id = await stage.open()
    await stage.ack(msg_id, hash=1)
    return await stage.broken.state(msg_id)


@probe(right=3, wrong=5)
async def asks_again_and_again(stage):
    msg_id = await stage.open()
    for wrong in range(5):
        await stage.ack(msg_id, hash=wrong)
    return len((await stage.broken.call("heard"))["asked"])


@probe(right="failed", wrong="sending", settings={"lifetime": 5 * SECOND})
async def sends_after_lifetime(stage):
    msg_id = await stage.open()
    await stage.step(30)
    return await stage.broken.state(msg_id)


@probe(right=False, wrong=True)
async def waits_for_replies(stage):
    late = {"action": "delay", "from": str(stage.broken.id), "nanoseconds": 10_000 * SECOND}
    await stage.world.admin("POST", "faults", late | {"kinds": ["request"]})
    await stage.open()
    await stage.step(400)
    contexts = (await stage.world.admin("GET", "call_contexts"))["call_contexts"]
    return max((context["method"] == "send" for context in contexts), default=False)


@probe(right="acknowledged", wrong="sending")
async def attaches_no_cycles(stage):
    priced = await stage.world.deploy("priced", {"min_cycles": PRICE})
    attach = {"new": PRICE, "ack": 0, "fin": 0}
    assert await stage.broken.configure({"attach_cycles": attach}) is None
    return await stage.broken.state(await stage.open(to=priced))


@probe(right="com_asyncFlow_ackack", wrong="com_asyncFlow_fin")
async def fin_by_one_name(stage):
    peers = [{"peer": stage.boxes[0].id, "dialect": Case("bounty")}]
    assert await stage.broken.configure(peers=peers) is None
    await stage.ack(await stage.open(), dialect="bounty")
    return (await stage.lines())[-1][0]


@probe(right=0, wrong=1)
async def keeps_dead_news(stage):
    await stage.listed()
    agent = stage.world.agent
    answer = await stage.broken.call("send", {"to": agent.principal, "payload": b"x"})
    await stage.step()
    assert len(await stage.broken.outbox(agent)) == 1
    await stage.act("cancel", answer.value)
    return len(await stage.broken.outbox(agent))


# --- On both --------------------------------------------------------------------------------------


@probe(right=1, wrong=0)
async def loses_state(stage):
    await stage.open()
    await stage.upgrade()
    return len(await stage.broken.flows())


@probe(right=2, wrong=1)
async def loses_timers(stage):
    await stage.open()
    await stage.step(0.1)
    await stage.upgrade()
    await stage.step(1.5)
    return len(await stage.sent("NEW"))


@probe(right=1, wrong=2)
async def oversized_pages(stage):
    await stage.listed()
    agent = stage.world.agent
    for _ in range(2):
        await stage.broken.call("send", {"to": agent.principal, "payload": bytes(1_500_000)})
    await stage.step()
    return len(await stage.broken.outbox(agent))


@probe(right=0, wrong=1, faults=["only_receiver"])
async def answers_other_role(stage):
    answer = await stage.broken.call("send", {"to": stage.boxes[0].id, "payload": b"x"})
    assert answer.label == "err"
    await stage.ack(99)
    return len(await stage.sent("FIN"))


@probe(right=1, wrong=0)
async def only_sender(stage):
    await stage.new()
    return len(await stage.broken.flows())


@probe(right="ok", wrong="err")
async def only_receiver(stage):
    answer = await stage.broken.call("send", {"to": stage.boxes[0].id, "payload": b"x"})
    return answer.label


async def staged(world, owner, *, settings=None, faults=()):
    value = {
        "settings": WAITS | (settings or {}),
        "access": None,
        "peers": None,
        "faults": [Case(fault) for fault in faults],
    }
    broken = await world.deploy_with("broken", value)
    box = dict.fromkeys(
        ["peers", "closed", "messages", "bytes", "messages_per_caller", "bytes_per_caller"]
    )
    boxes = [await world.deploy_with("mailbox", box | {"owner": owner.principal}) for _ in range(2)]
    return Stage(world, broken, boxes, owner)


# A retry after a second, everything else fits to that.
WAITS = {
    "first_retry": SECOND,
    "max_delay": 4 * SECOND,
    "jitter_permille": 0,
    "call_timeout": 800_000_000,
    "call_margin": 100_000_000,
    "send_retry": 200_000_000,
    "echo_min": 900_000_000,
    "lifetime": 60 * SECOND,
    "slack": SECOND,
    "horizon": 120 * SECOND,
    "linger": 60 * SECOND,
    "retention": 60 * SECOND,
    "answer_within": 60 * SECOND,
    "skew": SECOND,
    "time_gap": 60 * SECOND,
    "spread": 100_000_000,
}


@pytest.mark.parametrize("fault", PROBES)
async def test_a_fault_shows_and_without_it_all_is_right(world, fault):
    scene, right, wrong, faults, given = PROBES[fault]
    async with world.another_agent() as owner:
        whole = await staged(world, owner, faults=faults, **given)
        assert await scene(whole) == right
        faulty = await staged(world, owner, faults=[*faults, fault], **given)
        assert await scene(faulty) == wrong


async def test_what_is_wrong_changes_at_any_time_and_is_kept_across_upgrades(world):
    async with world.another_agent() as owner, world.another_agent() as stranger:
        stage = await staged(world, owner)
        with pytest.raises(BridgeError, match="rejected"):
            await stage.broken.call("break", [Case("sends_no_fin")], agent=stranger)
        await stage.broken.call("break", [Case("sends_no_fin"), Case("only_sender")])
        await stage.upgrade()
        await stage.ack(await stage.open())
        await stage.new()
        assert await stage.sent("FIN") == []
        assert await stage.broken.flows("receiver") == []
        await stage.broken.call("break", [])
        await stage.new()
        assert len(await stage.broken.flows("receiver")) == 1


async def test_every_fault_is_probed_listed_and_told_apart(world):
    async with world.another_agent() as owner:
        stage = await staged(world, owner)
        known = await stage.broken.call("faults")
    assert {row["fault"].label for row in known} == set(PROBES)
    own = (ROOT / "rust_reference/canisters/broken/broken_own.did").read_text(encoding="utf-8")
    page = (ROOT / "docs/rust-broken.md").read_text(encoding="utf-8")
    for row in known:
        name, side, breaks = row["fault"].label, row["side"], " ".join(row["breaks"])
        assert f"  {name};  // {side}{': ' + breaks if breaks else ''}\n" in own
        assert f"| `{name}` | {side} | {breaks or '-'} | {row['what']} |" in page
    protocol = contracts_scenarios()
    broken = {scenario for row in known for scenario in row["breaks"]}
    assert broken == protocol


def contracts_scenarios():
    """The ids of the scenario matrix."""
    page = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    matrix = page.split("## Scenario matrix")[1]
    found = set()
    for cell in re.findall(r"^\| ([A-Z]\d[^|]*) \|", matrix, re.MULTILINE):
        first, *rest = re.split(r"[-,] ?", cell)
        numbers = range(int(first[1:]), int(rest[-1][1:] if rest else first[1:]) + 1)
        found |= {f"{first[0]}{n}" for n in numbers}
    return found
