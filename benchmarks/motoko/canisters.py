"""The canisters that are measured: `player`, and the pair that stands for somebody else's code.

Drives them over HTTP by their own interface files. Knows nothing of rows and tables.
"""

import asyncio

from benchmarks.report import ROOT
from bridge import candid, contracts
from bridge.network import create_canister, install_code
from bridge.principal import Principal

HOUR = 3_600_000_000_000
GC = "__motoko_gc_trigger"
# The collector works in increments, one a message; after so many without a gain nothing is left.
ENOUGH = 200
# Flows stay open while they are counted: nothing is retried, and the quotas are out of the way.
ROOMY = {
    "first_retry": 8 * HOUR,
    "max_delay": 8 * HOUR,
    "send_retry": 8 * HOUR,
    "lifetime": 9 * HOUR,
    "answer_within": 40 * HOUR,
    "open_flows_per_peer": 10**6,
    "open_flows": 2 * 10**6,
    "tombstones_per_peer": 2 * 10**6,
    "tombstones": 4 * 10**6,
    "bytes_per_peer": 2**40,
    "bytes": 2**42,
    "in_flight": 500,
    "events": 1_000,
}


def interface(name):
    """The interface file that the build wrote."""
    path = ROOT / "motoko_reference" / "canisters" / f"{name}.did"
    return candid.parse_did(path.read_text(encoding="utf-8"))


class Canister:
    """One installed canister, called by the names of its interface file."""

    name = ""

    def __init__(self, agent, canister_id):
        self.agent = agent
        self.id = canister_id
        self.interface = interface(self.name)

    @classmethod
    async def deploy(cls, agent, value=None):
        canister = cls(agent, await create_canister(agent, cycles=10**16))
        await canister.install(value, "install")
        return canister

    async def install(self, value, mode):
        arg = candid.encode(self.interface.init_args, [value])
        module = contracts.motoko_canister(self.name)
        await install_code(self.agent, self.id, module, arg, mode=mode)

    async def call(self, name, *values):
        method = self.interface.service.methods[name]
        ask = self.agent.query if "query" in method.modes else self.agent.update
        reply = await ask(self.id, name, candid.encode(method.args, list(values)))
        results = candid.decode(method.results, reply)
        return results[0] if results else None

    async def manage(self, method):
        one = candid.Record({"canister_id": candid.PrincipalType})
        return await self.agent.update(
            Principal.management(),
            method,
            candid.encode([one], [{"canister_id": self.id}]),
            effective_canister_id=self.id,
        )


class Player(Canister):
    """One `player` canister; its peers may be agents of this list."""

    name = "player"

    @classmethod
    async def deploy(cls, agent, value=None):
        access = {"canisters": None, "agents": [agent.principal], "monitors": []}
        return await super().deploy(agent, value or {"settings": ROOMY, "access": access})

    async def status(self, part):
        return dict((await self.call("asyncFlow_status"))[part])

    async def gauge(self, name):
        return (await self.status("gauges"))[name]

    async def spent(self):
        """Instructions so far, by kind of message."""
        counters = await self.status("counters")
        kinds = ("receive", "apart", "tick")
        return {kind: counters.get(f"instructions.{kind}", 0) for kind in kinds}

    async def live_heap(self):
        """Bytes in use once the garbage is collected."""
        least, idle = await self.gauge("heap bytes"), 0
        while idle < ENOUGH:
            await self.agent.update(self.id, GC, b"DIDL\0\0")
            now = await self.gauge("heap bytes")
            idle = 0 if now < least else idle + 1
            least = min(least, now)
        return least

    async def upgrade(self):
        """Stop, upgrade, start; the instructions that it took until the canister was ready."""
        await self.manage("stop_canister")
        await self.install(None, "upgrade")
        await self.manage("start_canister")
        return await self.call("start_cost")

    async def until(self, role, msg_id, state):
        """Wait until a flow is in a state."""
        while True:
            query = {"role": candid.Case(role), "state": candid.Case(state), "limit": 1000}
            cursor = None
            while True:
                page = await self.call("asyncFlow_flows", query | {"cursor": cursor})
                if any(flow["msg_id"] == msg_id for flow in page["flows"]):
                    return
                cursor = page["next"]
                if cursor is None:
                    break
            await asyncio.sleep(0.05)


class ForeignSender(Canister):
    name = "foreign_maf_sender"


class ForeignReceiver(Canister):
    name = "foreign_maf_receiver"
