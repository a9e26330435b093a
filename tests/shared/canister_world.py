"""Reference canisters of either language on an embedded replica, asked by their interface files.

The rooms of the languages, and the one that plays one's scenarios on the other, get their `world`
of it. It knows no scenario.
"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge import candid, contracts
from bridge.agent import Agent, Identity
from bridge.network import create_canister, install_code
from bridge.principal import Principal
from bridge.replica import Replica

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 10_000  # looks, at least 20 ms apart: a busy machine is no failure
SECOND = 1_000_000_000

# Short waits for a canister, yet long enough for a busy machine: a message that is not executed
# within call_timeout is lost, and time goes on while the replica works.
RETRY = 10 * SECOND
FAST = {
    "first_retry": RETRY,
    "max_delay": 4 * RETRY,
    "jitter_permille": 0,
    "call_timeout": 8 * SECOND,
    "call_margin": SECOND,
    "send_retry": 2 * SECOND,
    "echo_min": SECOND,
    "lifetime": 60 * RETRY,
    "slack": RETRY,
    "horizon": 120 * RETRY,
    "linger": 60 * RETRY,
    "retention": 60 * RETRY,
    "answer_within": 60 * RETRY,
    "skew": RETRY,
    "time_gap": 60 * RETRY,
    "spread": SECOND,
}

# Methods of the canister `both` that are not for everybody, with arguments that would do.
GUARDED = [
    ("asyncFlow_status", []),
    ("asyncFlow_flows", [{"role": None, "state": None, "cursor": None, "limit": 1}]),
    ("asyncFlow_events", [{"after": 0, "limit": 1}]),
    ("asyncFlow_outbox", [{"after": None, "limit": 1}]),
    ("asyncFlow_outbox_trim", [1]),
    ("asyncFlow_configure", [{"settings": None, "access": None, "peers": None}]),
    ("send", [{"to": Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai"), "payload": b""}]),
    ("outcome", [1]),
    ("handled", [{"sender": Principal.anonymous(), "msg_id": 1}]),
]


def interface_of(language, name):
    """The interface file that the build wrote for a canister."""
    (file,) = (ROOT / f"{language}_reference" / "canisters").rglob(f"{name}.did")
    return candid.parse_did(file.read_text(encoding="utf-8"))


def module_of(language, name):
    """The built canister."""
    return {"motoko": contracts.motoko_canister, "rust": contracts.rust_canister}[language](name)


def install_value(settings=None, access=None, peers=None):
    """The install argument's value; access names canisters, agents and monitors."""
    if access is not None:
        access = {"canisters": None, "agents": [], "monitors": []} | access
    return {"settings": settings, "access": access, "peers": peers}


@dataclass
class Canister:
    """One installed canister, called by the names of its interface file."""

    agent: Agent
    id: Principal
    interface: candid.Interface

    async def call(self, name, *values, agent=None) -> Any:
        """A query or an update, as the interface says; what it returns, None for nothing."""
        method = self.interface.service.methods[name]
        agent = agent or self.agent
        ask = agent.query if "query" in method.modes else agent.update
        reply = await ask(self.id, name, candid.encode(method.args, list(values)))
        results = candid.decode(method.results, reply)
        return results[0] if results else None

    async def send(self, to, payload=b"hello"):
        """Open a flow; its id."""
        answer = await self.call("send", {"to": to, "payload": payload})
        assert answer.label == "ok", answer
        return answer.value

    async def act(self, what, value):
        """What a player's application or operator does; None, or why not."""
        answer = await self.call("act", candid.Case(what, value))
        return None if answer.label == "ok" else answer.value

    async def open(self, to, msg_id, payload=b"x", dialect="unified"):
        """Have a player open a flow of this id; None, or why not."""
        flow = {"msg_id": msg_id, "to": to, "payload": payload, "dialect": candid.Case(dialect)}
        return await self.act("send", flow)

    async def direct(self, *, trap_until=0, decision=None, rerun=False):
        """How a player meets tellings and questions."""
        how = {"trap_until": trap_until, "decision": decision, "rerun": rerun}
        await self.call("direct", how)

    async def heard(self):
        """What a player's application was told, as (what, tries)."""
        return [(t["what"].label, t["tries"]) for t in (await self.call("heard"))["told"]]

    async def asked(self):
        """What a player's application was asked."""
        return (await self.call("heard"))["asked"]

    async def speak(self, agent, kind, **fields):
        """A message of the dialect `unified`, said by an agent."""
        fields = {"hash": None} | fields if kind != "NEW" else fields
        await self.call("asyncFlow", candid.Case(kind, fields), agent=agent)

    async def outbox(self, agent, after=None, limit=100):
        """What waits for an agent."""
        return await self.call("asyncFlow_outbox", {"after": after, "limit": limit}, agent=agent)

    async def configure(self, settings=None, access=None, peers=None):
        """Change settings, lists and peers; None, or why not."""
        change = install_value(settings, access, peers)
        answer = await self.call("asyncFlow_configure", change)
        return None if answer.label == "ok" else answer.value

    async def flows(self, role=None, state=None):
        """All flows that the canister reports, over all pages."""
        found, cursor = [], None
        while True:
            page = await self.call(
                "asyncFlow_flows",
                {
                    "role": role and candid.Case(role),
                    "state": state and candid.Case(state),
                    "cursor": cursor,
                    "limit": 1_000,
                },
            )
            found += page["flows"]
            cursor = page["next"]
            if cursor is None:
                return found

    async def flow(self, msg_id):
        """One flow as it is reported, or None."""
        return next((flow for flow in await self.flows() if flow["msg_id"] == msg_id), None)

    async def state(self, msg_id):
        """The state of a flow, or None."""
        flow = await self.flow(msg_id)
        return flow and flow["state"].label

    async def counters(self):
        """The canister's counters, by reason; those of instructions apart."""
        counters = (await self.call("asyncFlow_status"))["counters"]
        return {name: n for name, n in counters if not name.startswith("instructions")}

    async def gauges(self):
        """The canister's gauges."""
        return dict((await self.call("asyncFlow_status"))["gauges"])

    async def history(self, msg_id):
        """The states that a flow went through."""
        events = await self.call("asyncFlow_events", {"after": 0, "limit": 1000})
        return [event["to"] and event["to"].label for event in events if event["msg_id"] == msg_id]

    async def until(self, msg_id, *states):
        """Wait until the flow is in one of the states."""
        for _ in range(PATIENCE):
            state = await self.state(msg_id)
            if state in states:
                return state
            await asyncio.sleep(0.02)
        raise AssertionError(f"{msg_id} is {state}, not one of {states}")


async def eventually(check):
    """Wait until a coroutine function's result is true; the result."""
    for _ in range(PATIENCE):
        result = await check()
        if result:
            return result
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about")


@pytest.fixture(name="eventually")
def eventually_fixture():
    return eventually


@dataclass
class World:
    """An embedded replica, with an agent that controls what it deploys there.

    ``language`` is of canisters for which no other is named. They are asked by the interface files
    of ``interfaces``, if that language is given, else of their own.
    """

    replica: Replica
    agent: Agent
    session: aiohttp.ClientSession
    language: str
    interfaces: str | None = None

    async def deploy(self, name, settings=None, access=None, **more):
        """A reference canister, with short waits unless told otherwise."""
        return await self.deploy_with(name, install_value(FAST | (settings or {}), access), **more)

    async def deploy_with(self, name, value, *, language=None, module=None):
        """The same with an install argument of its own, or another module of that interface."""
        language = language or self.language
        interface = interface_of(self.interfaces or language, name)
        canister = Canister(self.agent, await create_canister(self.agent), interface)
        module = module or module_of(language, name)
        await self._install(canister, interface, module, value, "install")
        return canister

    async def _install(self, canister, interface, module, value, mode):
        types = interface.init_args or []
        arg = candid.encode(types, [value] if types else [])
        await install_code(self.agent, canister.id, module, arg, mode=mode)

    async def _exchange(self, canister, name, value, mode):
        interface = interface_of(self.interfaces or self.language, name)
        await self._install(canister, interface, module_of(self.language, name), value, mode)

    async def replace(self, canister, name, mode):
        """Reinstall, or upgrade without stopping first, with the argument of a new canister."""
        await self._exchange(canister, name, install_value(FAST), mode)

    async def upgrade_with(self, canister, name, value):
        """Stop, upgrade to the very module that it runs, start: the way to upgrade on the IC."""
        await self.manage("stop_canister", canister)
        await self._exchange(canister, name, value, "upgrade")
        await self.manage("start_canister", canister)

    async def upgrade(self, canister, name, settings=None):
        """The same, with new settings if there are any."""
        await self.upgrade_with(canister, name, install_value(settings) if settings else None)
        # A timer that came while the canister was stopped is armed anew by the next message.
        await canister.configure()

    async def manage(self, method, canister, **blobs):
        """A call to the management canister about one canister; the reply."""
        types = {"canister_id": candid.PrincipalType} | dict.fromkeys(blobs, candid.Blob)
        arg = candid.encode([candid.Record(types)], [{"canister_id": canister.id} | blobs])
        return await self.agent.update(
            Principal.management(), method, arg, effective_canister_id=canister.id
        )

    async def usage(self, canister):
        """What a canister has and takes: its ``cycles``, and the bytes of its ``memory_size``."""
        types = candid.Record({"cycles": candid.Nat, "memory_size": candid.Nat})
        (usage,) = candid.decode([types], await self.manage("canister_status", canister))
        return usage

    async def snapshot(self, canister):
        """Take a snapshot of a canister, even of one that runs; its name."""
        reply = await self.manage("take_canister_snapshot", canister)
        (taken,) = candid.decode([candid.Record({"id": candid.Blob})], reply)
        return taken["id"]

    async def restore(self, canister, snapshot):
        """Stop a canister, make it what it was at a snapshot, and start it."""
        await self.manage("stop_canister", canister)
        await self.manage("load_canister_snapshot", canister, snapshot_id=snapshot)
        await self.manage("start_canister", canister)

    async def admin(self, method, path, body=None):
        """The replica's admin interface."""
        url = f"{self.replica.url}/_admin/{path}"
        async with self.session.request(method, url, json=body) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def advance(self, retries, *, at_once=False):
        """Move the replica's time ahead by so many first retries of 10 s; see what comes of it.

        What is under way ends first, unless it never does: a jump would have it run out of time.
        """
        if not at_once:
            await self.quiet()
        step = {"advance": int(retries * RETRY), "quiet": not at_once}
        await self.admin("POST", "time", step)

    async def quiet(self):
        """Wait until the replica has nothing to do at its present time."""
        await self.admin("POST", "time", {"quiet": True})

    async def lose(self, sender, receiver, *, nth=1, contains=None):
        """Lose the nth message from now between two canisters."""
        fault = {"action": "lose", "from": str(sender.id), "to": str(receiver.id), "nth": nth}
        if contains is not None:
            fault["contains"] = contains.hex()
        await self.admin("POST", "faults", fault | {"method": "asyncFlow"})

    async def strike(self, canister, action="lose", **more):
        """Let something happen to a canister's next message to itself; from here on time stands.

        In time what was lost is given up: no machine may be so slow that this comes first.
        """
        await self.quiet()  # a new canister has a message to itself, too
        await self.admin("POST", "time", {"pause": True})
        name = str(canister.id)
        await self.admin("POST", "faults", {"action": action, "from": name, "to": name} | more)

    @asynccontextmanager
    async def another_agent(self):
        """An agent with an identity of its own."""
        async with Agent(
            self.replica.url, identity=Identity.generate(), root_key=self.replica.root_key
        ) as agent:
            yield agent


@pytest.fixture
async def agent(world):
    """An agent that controls none of the canisters."""
    async with world.another_agent() as agent:
        yield agent


@asynccontextmanager
async def opened(language, *, interfaces=None):
    """A new world, for as long as it is used."""
    async with (
        Replica(admin=True, seed=language) as replica,
        Agent(replica.url, identity=Identity.generate(), root_key=replica.root_key) as agent,
        aiohttp.ClientSession() as session,
    ):
        yield World(replica, agent, session, language, interfaces)
