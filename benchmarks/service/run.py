"""Measures bridge.service: durable flows beside the store's own commits.

Run as ``python -m benchmarks.service.run`` from the root. The peer is a stand-in that answers at
once in this process, so that what is measured is the bridge and its store, in processor time of all
threads; the last rows, in real time, have a real canister on the embedded replica, and PostgreSQL's
commits beside SQLite's on the same disk.
"""

import asyncio
import dataclasses
import itertools
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import ROOT, missing, publish, within
from bridge import candid, contracts, dialects
from bridge.agent import Identity
from bridge.dialects.unified import MESSAGE_TYPE, to_case
from bridge.flow import (
    Ack,
    Due,
    New,
    Policy,
    Received,
    Returned,
    Send,
    Tell,
    payload_hash,
    step,
)
from bridge.network import Network
from bridge.principal import Principal
from bridge.reference import SHORT_WAITS, install_argument
from bridge.service import Bridge, mailbox_argument
from bridge.store import Change, MemoryStore, PostgresStore, SQLiteStore

PEER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
PAYLOAD = b"x" * 100
FLOWS = 500
ROUNDS = 5
POLICY = Policy(open_flows_per_peer=10_000, in_flight=500)
_PAGE = candid.Codec([candid.Vec(candid.Record({"seq": candid.Nat64, "message": MESSAGE_TYPE}))])
_SEQ = candid.Codec([candid.Nat64])
_EMPTY = _PAGE.encode([])


class Echo:
    """An agent whose only canister answers each NEW at once, through its outbox."""

    principal = Principal.self_authenticating(b"the agent's key")

    def __init__(self):
        self.waiting = []
        self.last = 0

    async def query(self, _canister_id, _method, _arg):
        if not self.waiting:
            return _EMPTY
        return _PAGE.encode([{"seq": n, "message": to_case(m)} for n, m in self.waiting[:100]])

    async def update(self, canister_id, method, arg):
        if method == "asyncFlow_outbox":
            return await self.query(canister_id, method, arg)
        if method == "asyncFlow_outbox_trim":
            (last,) = _SEQ.decode(arg)
            self.waiting = [entry for entry in self.waiting if entry[0] > last]
        else:
            message = dialects.get("unified").message_from(method, arg)
            if isinstance(message, New):
                self.last += 1
                ack = Ack(message.msg_id, message.payload, payload_hash(message.payload))
                self.waiting.append((self.last, ack))
        return b"DIDL\x00\x00"


def steps_of(msg_id):
    """The records that a sender's flow goes through, as they are committed."""
    record, records = None, [None]
    now = time.time_ns()
    ack = Ack(msg_id, PAYLOAD, payload_hash(PAYLOAD))
    for event in (
        Send(peer=PEER, msg_id=msg_id, payload=PAYLOAD),
        Due(),
        Received(message=ack, caller=PEER),
    ):
        transition = step(record, event, now, POLICY)
        record = transition.flow
        records.append(record)
    (tell,) = [effect for effect in transition.effects if isinstance(effect, Tell)]
    records.append(step(record, Returned(of=tell), now, POLICY).flow)
    return records


async def commits(store, flows):
    """Seconds (processor, real) for the commits of so many flows alone, side by side."""
    planned = [steps_of(number) for number in range(flows)]

    async def one(records):
        for before, after in itertools.pairwise(records):
            await store.commit(Change(before, after))

    began = clocks()
    await asyncio.gather(*(one(records) for records in planned))
    return since(began)


def clocks():
    return time.process_time(), time.perf_counter()


def since(began):
    return tuple(now - then for now, then in zip(clocks(), began, strict=True))


async def acknowledged(store, flows):
    """Wait until so many flows are at their end."""
    while (await store.usage("sender")).tombstones < flows:  # noqa: ASYNC110 - it asks a store
        await asyncio.sleep(0.001)


async def sends(bridge, store, flows, peer=PEER):
    """Seconds (processor, real) for so many flows side by side, to the last word in the store."""
    began = clocks()
    await asyncio.gather(*(bridge.send(peer, PAYLOAD, dialect="unified") for _ in range(flows)))
    await acknowledged(store, flows)
    return since(began)


async def in_process(make_store, folder):
    """One round: the flows' own time, and their commits' alone."""
    measured = {}
    for flows in (FLOWS, 1):
        async with make_store(folder / f"commits-{flows}") as store:
            measured["commits", flows] = await commits(store, flows)
        async with (
            make_store(folder / f"flows-{flows}") as store,
            Bridge(Echo(), store, policy=POLICY, poll_every=0.001) as bridge,
        ):
            measured["flows", flows] = await sends(bridge, store, flows)
    return measured


async def on_replica():
    """Seconds for 100 flows with a real canister: by its outbox, and through a mailbox."""
    policy = dataclasses.replace(POLICY, **SHORT_WAITS).validate()
    async with Network.embedded() as network, network.agent(Identity.generate()) as agent:
        argument = install_argument(SHORT_WAITS, agents=[agent.principal])
        echo = await network.deploy(agent, contracts.motoko_canister("echo"), argument)
        mailbox = await network.deploy(
            agent, contracts.rust_canister("mailbox"), mailbox_argument(agent.principal)
        )
        times = {}
        for name, way in (("outbox", None), ("mailbox", mailbox)):
            async with (
                MemoryStore() as store,
                Bridge(agent, store, mailbox=way, policy=policy, poll_every=0.02) as bridge,
            ):
                _, times[name] = await sends(bridge, store, 100, echo)
        began = time.perf_counter()
        method, arg = dialects.get("unified").call_for(New(1, PAYLOAD))
        await asyncio.gather(*(agent.update(echo, method, arg) for _ in range(200)))
        times["updates"] = time.perf_counter() - began
        return times


async def rows_of(name, make_store, targets):
    rounds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(await in_process(make_store, Path(folder)))
    rows = []
    for flows, target in zip((FLOWS, 1), targets, strict=True):
        ours = [measured["flows", flows][0] for measured in rounds]
        theirs = min(measured["commits", flows][0] for measured in rounds)
        real = min(measured["flows", flows][1] for measured in rounds)
        bare = min(measured["commits", flows][1] for measured in rounds)
        work = f"{flows} flows at once, {name}" if flows > 1 else f"one flow, {name}"
        spread = (max(ours) - min(ours)) / min(ours)
        best = min(ours)
        rows.append(within(work, best, "their commits alone", theirs, target, spread=spread))
        print(f"{work}: {flows / real:,.0f} flows/s; {4 * flows / bare:,.0f} commits/s")
    return rows


async def on_postgres():
    """PostgreSQL's commits beside SQLite's, where a server can be started."""
    sys.path.append(str(ROOT / "tests" / "shared"))
    from postgres_server import PostgresServer, programs

    if (found := programs()) is None:
        return [missing("commits, PostgreSQL", "the same, SQLite", "PostgreSQL is not there")]
    server = PostgresServer(found)
    rows = []
    try:
        for flows in (FLOWS, 1):
            ours, theirs = [], []
            for number in range(ROUNDS):
                schema = f"flows_{flows}_{number}"
                async with PostgresStore(server.conninfo(), schema=schema) as store:
                    ours.append((await commits(store, flows))[1])
                with tempfile.TemporaryDirectory() as folder:
                    async with SQLiteStore(Path(folder) / "flows") as store:
                        theirs.append((await commits(store, flows))[1])
            work = f"{4 * flows} commits, {flows} at once, PostgreSQL"
            spread = (max(ours) - min(ours)) / min(ours)
            row = within(work, min(ours), "the same, SQLite", min(theirs), None, spread=spread)
            rows.append(row)
            print(f"{work}: {4 * flows / min(ours):,.0f} commits/s")
    finally:
        server.end()
    return rows


async def main():
    rows = await rows_of("SQLite", SQLiteStore, (5, 5))
    rows += await rows_of("memory", lambda _path: MemoryStore(), (None, None))
    times = await on_replica()
    for name in ("outbox", "mailbox"):
        work = f"100 flows at once, replica, {name}"
        rows.append(within(work, times[name], "200 updates", times["updates"], None))
        print(f"{work}: {100 / times[name]:,.0f} flows/s")
    rows += await on_postgres()
    publish("service", rows)


asyncio.run(main())
