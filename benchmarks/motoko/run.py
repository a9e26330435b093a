"""Measures the Motoko library on the embedded replica: instructions, bytes, cycles, Wasm size.

What a flow costs with 0, 1,000 and OPEN_FLOWS flows open, beside the plain `await` it replaces.
Writes build/bench/motoko.json and prints the table. Instructions are the canister's own performance
counter, and the same on every machine.
"""

import asyncio
import os

from benchmarks.report import ROOT, missing, publish, within
from bridge import candid, contracts
from bridge.agent import Agent, Identity
from bridge.network import create_canister, install_code
from bridge.principal import Principal
from bridge.replica import Replica

FLOWS = int(os.environ.get("OPEN_FLOWS", "100000"))
BURST = 250
SAMPLES = 5
HOUR = 3_600_000_000_000
# Flows stay open while they are counted: nothing is retried, and the quotas are out of the way.
ROOMY = {
    "first_retry": 8 * HOUR,
    "max_delay": 8 * HOUR,
    "send_retry": 8 * HOUR,
    "lifetime": 9 * HOUR,
    "answer_within": 40 * HOUR,
    "open_flows_per_peer": 10**6,
    "open_flows": 2 * 10**6,
    "bytes_per_peer": 2**40,
    "bytes": 2**42,
    "in_flight": 500,
    "events": 1_000,
}
INTERFACE = candid.parse_did(
    (ROOT / "motoko_reference" / "canisters" / "player.did").read_text(encoding="utf-8")
)


class Player:
    """One `player` canister."""

    def __init__(self, agent, canister_id):
        self.agent = agent
        self.id = canister_id

    @classmethod
    async def deploy(cls, agent):
        canister_id = await create_canister(agent, cycles=10**16)
        arg = candid.encode(INTERFACE.init_args, [{"settings": ROOMY}])
        await install_code(agent, canister_id, contracts.motoko_canister("player"), arg)
        return cls(agent, canister_id)

    async def call(self, name, *values):
        method = INTERFACE.service.methods[name]
        ask = self.agent.query if "query" in method.modes else self.agent.update
        reply = await ask(self.id, name, candid.encode(method.args, list(values)))
        results = candid.decode(method.results, reply)
        return results[0] if results else None

    async def counter(self, name):
        return dict((await self.call("asyncFlow_status"))["counters"]).get(name, 0)

    async def gauge(self, name):
        return dict((await self.call("asyncFlow_status"))["gauges"])[name]

    async def live_heap(self):
        """Bytes in use once the garbage is collected."""
        least = await self.gauge("heap bytes")
        for _ in range(40):  # the collector works in increments, one a message
            await self.agent.update(self.id, "__motoko_gc_trigger", b"DIDL\0\0")
            least = min(least, await self.gauge("heap bytes"))
        return least

    async def cycles(self):
        one = candid.Record({"canister_id": candid.PrincipalType})
        reply = await self.agent.update(
            Principal.management(),
            "canister_status",
            candid.encode([one], [{"canister_id": self.id}]),
            effective_canister_id=self.id,
        )
        (status,) = candid.decode([candid.Record({"cycles": candid.Nat})], reply)
        return status["cycles"]


async def settle(player, msg_id):
    query = {"role": None, "state": candid.Case("acknowledged"), "cursor": None, "limit": 1000}
    while True:
        page = await player.call("asyncFlow_flows", query)
        if any(flow["msg_id"] == msg_id for flow in page["flows"]):
            return
        query["cursor"] = page["next"]


async def one_flow(sender, receiver):
    """Instructions of the sender's opening, of what it receives, and of what the receiver does."""
    before = (
        await sender.counter("instructions.receive"),
        await receiver.counter("instructions.receive"),
    )
    opening = 0
    for _ in range(SAMPLES):
        made = await sender.call("cost", {"to": receiver.id, "payload": b"x" * 100})
        opening += made["instructions"]
        await wait_for_fin(receiver, made["result"].value)
    after = (
        await sender.counter("instructions.receive"),
        await receiver.counter("instructions.receive"),
    )
    return (
        opening / SAMPLES,
        (after[0] - before[0]) / SAMPLES,
        (after[1] - before[1]) / SAMPLES,
    )


async def wait_for_fin(receiver, msg_id):
    finished = candid.Case("finished")
    while True:
        cursor = None
        while True:
            page = await receiver.call(
                "asyncFlow_flows",
                {"role": None, "state": finished, "cursor": cursor, "limit": 1000},
            )
            if any(flow["msg_id"] == msg_id for flow in page["flows"]):
                return
            cursor = page["next"]
            if cursor is None:
                break
        await asyncio.sleep(0.05)


async def fill(sender, full, wanted):
    """Open flows that stay unanswered, until so many are open."""
    while (have := await sender.gauge("sender open flows")) < wanted:
        times = min(BURST, wanted - have)
        await sender.call("burst", {"to": full.id, "payload": b"later", "times": times})


async def measured():
    rows = []
    async with (
        Replica(seed="cost") as replica,
        Agent(replica.url, identity=Identity.generate(), root_key=replica.root_key) as agent,
    ):
        sender, receiver, full = [await Player.deploy(agent) for _ in range(3)]
        plain = await sender.call("plain", {"to": receiver.id, "payload": b"x" * 100})
        empty = await sender.live_heap()
        first = None
        for wanted in (0, 1_000, FLOWS):
            await fill(sender, full, wanted)
            spent = await one_flow(sender, receiver)
            sides = spent[0] + spent[1], spent[2]
            name = f"with {wanted:,} open flows"
            for side, ours, theirs in (
                ("sender", sides[0], plain["caller"]),
                ("receiver", sides[1], plain["callee"]),
            ):
                rows.append(
                    within(f"{side}'s side of a flow, {name}", ours, "plain await", theirs, None,
                           unit="instructions")
                )  # fmt: skip
            if first is None:
                first = sides
            else:
                rows.append(
                    within(f"a flow {name}", sum(sides), "with none", sum(first), 3,
                           unit="instructions")
                )  # fmt: skip
        if FLOWS:
            heap = (await sender.live_heap() - empty) / FLOWS
            rows.append(within("an open flow of 5 bytes", heap, "its payload", 5, None, unit="B"))
        before = await sender.cycles() + await receiver.cycles()
        made = await sender.call("cost", {"to": receiver.id, "payload": b"x" * 100})
        await wait_for_fin(receiver, made["result"].value)
        burnt = before - await sender.cycles() - await receiver.cycles()
        if burnt:
            rows.append(within("cycles of a flow", burnt, "1 M cycles", 1e6, None, unit="cycles"))
        else:
            rows.append(missing("cycles of a flow", "1 M cycles", "this replica charges no cycles"))
    for name in ("sender", "receiver", "both"):
        size = len(contracts.motoko_canister(name))
        rows.append(within(f"{name}.wasm", size, "2 MiB", 2 * 2**20, 1, unit="B"))
    return rows


if __name__ == "__main__":
    publish("motoko", asyncio.run(measured()))
