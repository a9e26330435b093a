"""Measures the Motoko library on the embedded replica: instructions, cycles, bytes, Wasm size.

What a flow costs with 0, 1,000 and OPEN_FLOWS flows open, beside the plain `await` that it replaces
and beside the published package's algorithm, which `foreign_maf_sender` and `foreign_maf_receiver`
follow.
Instructions are the canisters' own performance counters, and the same on every machine. Writes
build/bench/motoko.json and prints the table; with the defaults, also docs/motoko-cost.md.
"""

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.motoko import page
from benchmarks.motoko.canisters import ForeignReceiver, ForeignSender, Player
from benchmarks.report import Row, missing, publish, within
from bridge import contracts
from bridge.agent import Agent, Identity
from bridge.network import AdminClient
from bridge.principal import Principal
from bridge.replica import Replica
from bridge.replica.scheduler.machine import Limits

DEFAULT = 100_000
FLOWS = int(os.environ.get("OPEN_FLOWS", str(DEFAULT)))
TOMBSTONES = int(os.environ.get("TOMBSTONES", str(DEFAULT)))
BURST = 250
SERVED = 200
SAMPLES = 5
UPGRADES = 4
# Tombstones with which upgrades are measured, beside TOMBSTONES: what grows with them would show.
SIZES = (1_000, 10_000)
SECOND = 1_000_000_000
PAYLOAD = b"x" * 100
NOBODY = Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai")
# A subnet lets an upgrade take 300 billion instructions. All upgrades here run under this limit.
UPGRADE_LIMIT = 1_000_000_000
# A heap may grow to this unless the owner says otherwise, and so many tombstones are the quota.
HEAP, QUOTA = 3 * 2**30, 1_000_000
ENOUGH = 50_000
# The public fees of a subnet of 13 nodes, in cycles.
FEE_EXECUTION, FEE_INSTRUCTION, FEE_CALL, FEE_BYTE = 5_000_000, 1, 260_000, 1_000


@dataclass
class Flow:
    """What one flow took: instructions of each side, and messages and bytes of both."""

    sender: float
    receiver: float
    executions: float = 0
    calls: float = 0
    size: float = 0

    @property
    def cycles(self):
        instructions = (self.sender + self.receiver) * FEE_INSTRUCTION
        return (
            instructions
            + self.executions * FEE_EXECUTION
            + self.calls * FEE_CALL
            + self.size * FEE_BYTE
        )


class Log:
    """Counts the messages of some canisters among themselves, from here on."""

    def __init__(self, admin, *canisters):
        self.admin = admin
        self.ids = {canister.id for canister in canisters}
        self.last = 0

    async def new(self):
        lines = await self.admin.messages(self.last)
        self.last = lines[-1].seq if lines else self.last
        return lines

    async def add_to(self, flow, flows):
        """Add what was executed since the last look, each flow's part."""
        own = [line for line in await self.new() if line.receiver in self.ids]
        calls = [line for line in own if line.kind != "timer" and line.sender in self.ids]
        flow.executions = sum(line.kind != "ingress" for line in own) / flows
        flow.calls = sum(line.kind == "request" for line in calls) / flows
        flow.size = sum(len(line.arg) for line in calls) / flows


@asynccontextmanager
async def subnet(*, upgrade_limit):
    """An embedded replica: an agent, and the admin interface.

    Args:
        upgrade_limit: Instructions that an installation or upgrade may take.
    """
    limits = Limits(install=upgrade_limit)
    async with (
        Replica(seed="cost", admin=True, limits=limits) as replica,
        Agent(replica.url, identity=Identity.generate(), root_key=replica.root_key) as agent,
    ):
        yield agent, AdminClient(replica.url)


# --- The library ---------------------------------------------------------------------------------


async def ours(admin, sender, receiver):
    """One flow of the library, the telling included."""
    log = Log(admin, sender, receiver)
    await log.new()
    before = await sender.spent(), await receiver.spent()
    opening = 0
    for _ in range(SAMPLES):
        made = await sender.call("cost", {"to": receiver.id, "payload": PAYLOAD})
        opening += made["instructions"]
        await receiver.until("receiver", made["result"].value, "finished")
        await sender.until("sender", made["result"].value, "acknowledged")
    await admin.advance(0, quiet=True)
    after = await sender.spent(), await receiver.spent()
    flow = Flow(
        (opening + sum(after[0].values()) - sum(before[0].values())) / SAMPLES,
        (sum(after[1].values()) - sum(before[1].values())) / SAMPLES,
    )
    await log.add_to(flow, SAMPLES)
    return flow


async def plain(admin, sender, receiver):
    """The same request, its answer awaited."""
    log = Log(admin, sender, receiver)
    await log.new()
    made = await sender.call("plain", {"to": receiver.id, "payload": PAYLOAD})
    flow = Flow(made["caller"], made["callee"])
    await log.add_to(flow, 1)
    return flow


async def quiet(admin, canister):
    """Instructions in five seconds in which nothing falls due."""
    log = Log(admin, canister)
    await admin.advance(0, quiet=True)
    await log.new()
    before = sum((await canister.spent()).values())
    await admin.advance(5 * SECOND, quiet=True)
    if any(line.receiver == canister.id for line in await log.new()):
        raise RuntimeError("something fell due: what it took is not all counted")
    return sum((await canister.spent()).values()) - before


async def fill(sender, full, wanted):
    """Open flows that stay unanswered, until so many are open."""
    while (have := await sender.gauge("sender open flows")) < wanted:
        times = min(BURST, wanted - have)
        await sender.call("burst", {"to": full.id, "payload": b"later", "times": times})


async def bury(canister, agent, wanted):
    """Serve requests until so many tombstones are kept."""
    have = await canister.gauge("receiver tombstones")
    for first in range(have, wanted, SERVED):
        times = min(SERVED, wanted - first)
        many = {"peer": agent.principal, "first": first, "payload": b"x", "times": times}
        await canister.call("serve", many)


async def upgrades_with_tombstones(canister, agent):
    """What an upgrade takes at most with fewer tombstones, by their number."""
    most = {}
    for wanted in SIZES:
        await bury(canister, agent, wanted)
        most[wanted] = max([await canister.upgrade() for _ in range(UPGRADES)])
    return most


async def the_library():
    """Flows by the number of open ones, the plain await, bytes, and what upgrades take."""
    async with subnet(upgrade_limit=UPGRADE_LIMIT) as (agent, admin):
        sender, receiver, full = [await Player.deploy(agent) for _ in range(3)]
        awaited = await plain(admin, sender, receiver)
        upgrades = [await sender.upgrade()]
        smaller = await upgrades_with_tombstones(await Player.deploy(agent), agent)
        heaps = [await sender.live_heap()]
        flows = {}
        for wanted in (0, 1_000, FLOWS):
            await fill(sender, full, wanted)
            flows[wanted] = await ours(admin, sender, receiver)
        idle = await quiet(admin, sender)
        heaps.append(await sender.live_heap())
        # On a slow machine open flows would fall due meanwhile, and what they leave would count.
        await admin.pause()
        await bury(sender, agent, TOMBSTONES)
        heaps.append(await sender.live_heap())
        await admin.resume()
        upgrades += [await sender.upgrade() for _ in range(UPGRADES)]
        assert await sender.gauge("sender open flows") >= FLOWS
        assert await sender.gauge("receiver tombstones") == TOMBSTONES
        return flows, awaited, idle, heaps, upgrades, smaller


# --- The published package's algorithm -----------------------------------------------------------


async def theirs(admin, sender, receiver):
    """One flow of the foreign pair; scans apart."""
    log = Log(admin, sender, receiver)
    await log.new()
    before = await sender.call("worked"), await receiver.call("worked")
    for _ in range(SAMPLES):
        await sender.call("start", receiver.id, PAYLOAD)
        await admin.advance(0, quiet=True)
    after = await sender.call("worked"), await receiver.call("worked")
    flow = Flow(*[(after[i]["flows"] - before[i]["flows"]) / SAMPLES for i in (0, 1)])
    await log.add_to(flow, SAMPLES)
    return flow


async def one_scan(admin, sender):
    before = (await sender.call("worked"))["scans"]
    await admin.advance(5 * SECOND, quiet=True)
    return (await sender.call("worked"))["scans"] - before


async def the_algorithm():
    """One flow, and one scan with so many messages waiting."""
    async with subnet(upgrade_limit=UPGRADE_LIMIT) as (agent, admin):
        await admin.pause()
        sender, receiver = await ForeignSender.deploy(agent), await ForeignReceiver.deploy(agent)
        flow, scans, have = await theirs(admin, sender, receiver), {}, 0
        for wanted in (1, 100, 1_000):
            while have < wanted:
                some = min(50, wanted - have)
                await asyncio.gather(*(sender.call("start", NOBODY, PAYLOAD) for _ in range(some)))
                have += some
            scans[wanted] = await one_scan(admin, sender)
        return flow, scans


# --- The rows ------------------------------------------------------------------------------------


def measured(library, algorithm):
    """The rows, by chapter."""
    flows, awaited, idle, heaps, upgrades, smaller = library
    foreign, scans = algorithm
    first, last = flows[0], flows[FLOWS]
    steps, growth = [], []
    for wanted, flow in flows.items():
        name = f"with {wanted:,} flows open"
        for side in ("sender", "receiver"):
            mine = getattr(flow, side)
            for beside, other in (("plain await", awaited), ("the algorithm", foreign)):
                steps.append(_informs(f"{side}'s side, {name}", mine, beside, getattr(other, side)))
    for side in ("sender", "receiver"):
        mine, few = getattr(last, side), getattr(first, side)
        work = f"{side}'s side of a flow with {FLOWS:,} open"
        growth.append(within(work, mine, "with none", few, 3, unit="instructions"))
    for wanted, scan in scans.items():
        work, beside = (
            f"5 s without a message, {FLOWS:,} open",
            f"the algorithm's scan of {wanted:,}",
        )
        growth.append(within(work, idle, beside, scan, 0.01, unit="instructions"))
    cycles = [
        _informs("cycles of a flow", first.cycles, beside, other.cycles, "cycles")
        for beside, other in (("plain await", awaited), ("the algorithm", foreign))
    ] + [
        _informs("messages executed", first.executions, beside, other.executions, "")
        for beside, other in (("plain await", awaited), ("the algorithm", foreign))
    ]
    if min(FLOWS, TOMBSTONES) < ENOUGH:
        few = f"needs {ENOUGH:,} to stand out from what the collector has not got to"
        room = [missing(what, "a heap", few) for what in ("an open flow", "a tombstone")]
    else:
        each = (heaps[1] - heaps[0]) / FLOWS, (heaps[2] - heaps[1]) / TOMBSTONES
        room = [
            _informs("an open flow of 5 bytes", each[0], "its payload", 5, "B"),
            within("a tombstone", each[1], "3 GiB of heap for a million", HEAP / QUOTA, 1,
                   unit="B"),
        ]  # fmt: skip
    quota = f"with {FLOWS:,} flows open and {TOMBSTONES:,} tombstones"
    none, *full = upgrades
    limit, subnet = UPGRADE_LIMIT, "a subnet's limit"
    upgrade = [
        within(f"the most after one with {kept:,} tombstones", most, "with none", none, 1.5,
               unit="instructions")
        for kept, most in smaller.items()
    ] + [
        within(f"the least after one {quota}", min(full), "with none", none, 1.5,
               unit="instructions"),
        within(f"the most after one {quota}", max(full), subnet, 300e9, 0.001,
               unit="instructions"),
        within("before and after together, at most", limit, subnet, 300e9, 0.01,
               unit="instructions"),
    ]  # fmt: skip
    modules = [
        within(
            f"{name}.wasm", len(contracts.motoko_canister(name)), "2 MiB", 2 * 2**20, 1, unit="B"
        )
        for name in ("sender", "receiver", "both")
    ]
    return {
        "Instructions of one flow": steps,
        "What grows with other flows": growth,
        "Cycles": cycles,
        "Memory": room,
        "Upgrades": upgrade,
        "Modules": modules,
    }


def _informs(work, mine, beside, other, unit="instructions") -> Row:
    return within(work, mine, beside, other, None, unit=unit)


async def main():
    chapters = measured(await the_library(), await the_algorithm())
    publish("motoko", [row for rows in chapters.values() for row in rows])
    if FLOWS == TOMBSTONES == DEFAULT:
        page.write(chapters)


if __name__ == "__main__":
    asyncio.run(main())
