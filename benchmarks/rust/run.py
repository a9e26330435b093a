"""Measures the Rust library as the Motoko one is measured, and shows the two side by side.

What a flow costs with 0, 1,000 and OPEN_FLOWS flows open, beside the plain `await` it replaces.
The scenes are those of `benchmarks.motoko`, played by the Rust `player`; a canister's very first
flows are apart, for they find empty maps. Writes
build/bench/rust.json and prints the table; with 1,000 flows or more also docs/rust-cost.md, where
Motoko's figures are those of build/bench/motoko.json, which is measured first where it is missing.
"""

import asyncio
import json

from benchmarks.motoko import run as motoko
from benchmarks.motoko.canisters import Player
from benchmarks.report import BUILD, missing, publish, within
from benchmarks.rust import page
from bridge import candid, contracts
from bridge.network import install_code

INTERFACE = candid.parse_did(
    (motoko.page.ROOT / "rust_reference/canisters/player/player.did").read_text(encoding="utf-8")
)
ENOUGH = 20_000
# Flows after which the nodes of the stable maps are as full as they become.
WARM = 25
# Open flows and tombstones together, by the default settings.
QUOTA = 1_100_000
# A subnet lets an upgrade take 300 billion instructions; those here get a tenth.
SUBNET = 300_000_000_000
UPGRADE_LIMIT = SUBNET // 10
STATUS = candid.Record({"memory_size": candid.Nat})


class RustPlayer(Player):
    """The same canister in Rust."""

    def __init__(self, agent, canister_id):
        super().__init__(agent, canister_id)
        self.interface = INTERFACE

    async def install(self, value, mode):
        fields = {"settings": None, "access": None, "peers": None}
        fields |= value or {}
        arg = candid.encode(self.interface.init_args, [fields])
        module = contracts.rust_canister(self.name)
        await install_code(self.agent, self.id, module, arg, mode=mode)

    async def live_heap(self):
        """Bytes of all its memory, heap and stable; nothing is ever collected."""
        (status,) = candid.decode([STATUS], await self.manage("canister_status"))
        return status["memory_size"]


async def the_library():
    """Flows by the number of open ones, the plain await, bytes, and what upgrades take."""
    async with motoko.subnet(upgrade_limit=UPGRADE_LIMIT) as (agent, admin):
        sender, receiver, full = [await RustPlayer.deploy(agent) for _ in range(3)]
        awaited = await motoko.plain(admin, sender, receiver)
        very_first = await motoko.ours(admin, sender, receiver)
        for _ in range(motoko.SAMPLES, WARM, motoko.SAMPLES):
            await motoko.ours(admin, sender, receiver)
        upgrades = [await sender.upgrade()]
        bytes_ = [await sender.live_heap()]
        flows = {}
        for wanted in (0, 1_000, motoko.FLOWS):
            await motoko.fill(sender, full, wanted)
            flows[wanted] = await motoko.ours(admin, sender, receiver)
        bytes_.append(await sender.live_heap())
        await motoko.bury(sender, agent, motoko.TOMBSTONES)
        bytes_.append(await sender.live_heap())
        upgrades.append(await sender.upgrade())
        return very_first, flows, awaited, bytes_, upgrades


def measured(very_first, flows, awaited, bytes_, upgrades):
    """The rows, named as Motoko's."""
    first, last = flows[0], flows[motoko.FLOWS]
    rows = []
    for side in ("sender", "receiver"):
        work = f"{side}'s side of a canister's very first flows"
        mine, plain = getattr(very_first, side), getattr(awaited, side)
        rows.append(within(work, mine, "plain await", plain, None, unit="instructions"))
    for wanted, flow in flows.items():
        for side in ("sender", "receiver"):
            work = f"{side}'s side, with {wanted:,} flows open"
            mine, plain = getattr(flow, side), getattr(awaited, side)
            rows.append(within(work, mine, "plain await", plain, None, unit="instructions"))
    for side in ("sender", "receiver"):
        work = f"{side}'s side of a flow with {motoko.FLOWS:,} open"
        mine, few = getattr(last, side), getattr(first, side)
        rows.append(within(work, mine, "with none", few, 3, unit="instructions"))
    cycles = "cycles of a flow"
    rows.append(within(cycles, first.cycles, "plain await", awaited.cycles, None, unit="cycles"))
    rows.append(
        within("messages executed", first.executions, "plain await", awaited.executions, None,
               unit="")
    )  # fmt: skip
    flow = (bytes_[1] - bytes_[0]) / motoko.FLOWS
    tombstone = (bytes_[2] - bytes_[1]) / motoko.TOMBSTONES
    for work, size, number, baseline, beside, target in (
        ("an open flow of 5 bytes", flow, motoko.FLOWS, "its payload", 5, None),
        ("a tombstone", tombstone, motoko.TOMBSTONES, "a kilobyte", 1_000, 1),
    ):
        if number < ENOUGH:
            note = f"its memory grows in megabytes: measured with {ENOUGH:,} and more"
            rows.append(missing(work, baseline, note))
        else:
            rows.append(within(work, size, baseline, beside, target, unit="B"))
    quota = f"with {motoko.FLOWS:,} flows open and {motoko.TOMBSTONES:,} tombstones"
    rows.append(
        within(f"after an upgrade {quota}", upgrades[1], "a subnet's limit", SUBNET, 0.2,
               unit="instructions")
    )  # fmt: skip
    # As many open flows and tombstones as the quotas allow.
    each = (upgrades[1] - upgrades[0]) / (motoko.FLOWS + motoko.TOMBSTONES)
    rows.append(
        within(f"after an upgrade at the quota, {QUOTA:,} of both", each * QUOTA,
               "a subnet's limit", SUBNET, 0.5, unit="instructions")
    )  # fmt: skip
    for name in ("sender", "receiver", "both"):
        size = len(contracts.rust_canister(name))
        rows.append(within(f"{name}.wasm", size, "2 MiB", 2 * 2**20, 1, unit="B"))
    return rows


async def main():
    """Measure, publish, and write the page."""
    beside = BUILD / "motoko.json"
    if not beside.exists():
        await motoko.main()
    rows = measured(*await the_library())
    publish("rust", rows)
    if motoko.FLOWS >= 1_000:
        page.write(rows, json.loads(beside.read_text(encoding="utf-8")))


if __name__ == "__main__":
    asyncio.run(main())
