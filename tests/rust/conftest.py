"""Rust canisters on an embedded replica, beside Motoko ones, asked over HTTP."""

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
PATIENCE = 2_500  # looks, 20 ms apart: a busy machine is no failure
MS = 1_000_000
SECOND = 1_000 * MS

# The same code with short waits: a retry comes after a second, everything else fits to that.
FAST = {
    "first_retry": SECOND,
    "max_delay": 4 * SECOND,
    "jitter_permille": 0,
    "call_timeout": 800 * MS,
    "call_margin": 100 * MS,
    "send_retry": 200 * MS,
    "echo_min": 100 * MS,
    "lifetime": 60 * SECOND,
    "slack": SECOND,
    "horizon": 120 * SECOND,
    "linger": 60 * SECOND,
    "retention": 60 * SECOND,
    "answer_within": 60 * SECOND,
    "skew": SECOND,
    "time_gap": 60 * SECOND,
    "spread": 100 * MS,
}


def interface_of(language, name):
    """The interface file that the build wrote for a canister."""
    folder = ROOT / f"{language}_reference" / "canisters"
    (file,) = folder.rglob(f"{name}.did")
    return candid.parse_did(file.read_text(encoding="utf-8"))


def module_of(language, name):
    """The built canister."""
    return (contracts.rust_canister if language == "rust" else contracts.motoko_canister)(name)


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

    async def speak(self, agent, kind, **fields):
        """A message of the dialect `unified`, said by an agent."""
        fields = {"hash": None} | fields if kind != "NEW" else fields
        await self.call("asyncFlow", candid.Case(kind, fields), agent=agent)

    async def outbox(self, agent, after=None, limit=100):
        """What waits for an agent."""
        return await self.call("asyncFlow_outbox", {"after": after, "limit": limit}, agent=agent)

    async def configure(self, settings=None, access=None, peers=None):
        """Change settings, lists and peers; None, or why not."""
        answer = await self.call("asyncFlow_configure", install(settings, access, peers))
        return None if answer.label == "ok" else answer.value

    async def flows(self, role=None, state=None):
        """All flows that the canister reports, over all pages."""
        found, cursor = [], None
        while True:
            query = {
                "role": role and candid.Case(role),
                "state": state and candid.Case(state),
                "cursor": cursor,
                "limit": 1_000,
            }
            page = await self.call("asyncFlow_flows", query)
            found += page["flows"]
            cursor = page["next"]
            if cursor is None:
                return found

    async def state(self, msg_id):
        """The state of a flow, or None."""
        flow = next((flow for flow in await self.flows() if flow["msg_id"] == msg_id), None)
        return flow and flow["state"].label

    async def counters(self):
        """The canister's counters, by reason."""
        return dict((await self.call("asyncFlow_status"))["counters"])

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


def install(settings=None, access=None, peers=None):
    """The install argument's value; access names canisters, agents and monitors."""
    lists = None
    if access is not None:
        lists = {"canisters": None, "agents": [], "monitors": []} | access
    rows = None
    if peers is not None:
        fields = dict.fromkeys(["dialect", "null_ack", "ids", "batch", "attach_cycles"])
        rows = [fields | {"peer": peer} | own for peer, own in peers]
    return {"settings": settings, "access": lists, "peers": rows}


@dataclass
class World:
    """An embedded replica with an agent that controls what it deploys."""

    replica: Replica
    agent: Agent
    session: aiohttp.ClientSession

    async def deploy(self, language, name, settings=None, access=None, peers=None):
        """A canister of one language's reference, with short waits unless told otherwise."""
        value = install(FAST | (settings or {}), access, peers)
        return await self.deploy_with(language, name, value)

    async def deploy_with(self, language, name, value):
        """The same with an install argument of its own."""
        interface = interface_of(language, name)
        canister = Canister(self.agent, await create_canister(self.agent), interface)
        await self._install(canister, language, name, value, "install")
        return canister

    async def _install(self, canister, language, name, value, mode):
        types = canister.interface.init_args or []
        arg = candid.encode(types, [value] if types else [])
        await install_code(self.agent, canister.id, module_of(language, name), arg, mode=mode)

    async def upgrade(self, canister, name, value=None, touch="asyncFlow_configure"):
        """Stop, upgrade to the very module that it runs, start: the way to upgrade on the IC."""
        await self.manage("stop_canister", canister)
        await self._install(canister, "rust", name, value, "upgrade")
        await self.manage("start_canister", canister)
        if touch:
            # A timer that came while the canister was stopped is armed anew by the next message.
            await canister.configure()

    async def manage(self, method, canister):
        """A call to the management canister about one canister."""
        arg = candid.encode(
            [candid.Record({"canister_id": candid.PrincipalType})], [{"canister_id": canister.id}]
        )
        await self.agent.update(
            Principal.management(), method, arg, effective_canister_id=canister.id
        )

    async def admin(self, method, path, body=None):
        """The replica's admin interface."""
        url = f"{self.replica.url}/_admin/{path}"
        async with self.session.request(method, url, json=body) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def advance(self, seconds):
        """Move the replica's time ahead."""
        await self.admin("POST", "time", {"advance": int(seconds * SECOND)})

    async def lose(self, sender, receiver, *, nth=1):
        """Lose the nth message from now between two canisters."""
        fault = {"action": "lose", "from": str(sender.id), "to": str(receiver.id), "nth": nth}
        await self.admin("POST", "faults", fault | {"method": "asyncFlow"})

    @asynccontextmanager
    async def another_agent(self):
        """An agent with an identity of its own."""
        async with Agent(
            self.replica.url, identity=Identity.generate(), root_key=self.replica.root_key
        ) as agent:
            yield agent


@pytest.fixture
async def world():
    async with (
        Replica(admin=True, seed="rust") as replica,
        Agent(replica.url, identity=Identity.generate(), root_key=replica.root_key) as agent,
        aiohttp.ClientSession() as session,
    ):
        yield World(replica, agent, session)
