"""Measures bridge.flow: transitions beside bare asyncio queue hops, the timer, and memory.

Run as ``python -m benchmarks.flow.run`` from the root.
"""

import asyncio
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.report import publish, within
from bridge import flow
from bridge.flow.engine import Engine
from bridge.principal import Principal

ALICE, BOB = (Principal(bytes([0] * 7 + [n, 1, 1])) for n in (1, 2))
POLICY = flow.Policy()
ROUNDS = 60
FLOWS = 200
PAYLOAD, RESPONSE = b"x" * 100, b"y" * 100
MANY = 1_000_000
ROOMY = flow.Policy(
    open_flows_per_peer=MANY, open_flows=MANY, bytes_per_peer=2**40, bytes_stored=2**40
)


def timed(steps):
    """Seconds for each of the steps, made in one go; and what they gave."""
    step = flow.step
    began = time.perf_counter()
    made = [step(record, event, now, POLICY) for record, event, now in steps]
    return (time.perf_counter() - began) / len(steps), made


def common_path():
    """Seconds a transition, by row of the common path of both sides."""
    ids = range(FLOWS)
    times = {}
    opens = [flow.Send(peer=BOB, msg_id=n, payload=PAYLOAD) for n in ids]
    times["open"], sent = timed([(None, event, 0) for event in opens])
    times["due, NEW leaves"], due = timed([(t.flow, flow.Due(), 0) for t in sent])
    news = [flow.Received(message=t.effects[0].message, caller=ALICE) for t in due]
    times["NEW admitted"], admitted = timed([(None, event, 1) for event in news])
    answer = flow.Answer(response=RESPONSE)
    times["answer, ACK leaves"], acks = timed([(t.flow, answer, 2) for t in admitted])
    heard = [flow.Received(message=t.effects[0].message, caller=BOB) for t in acks]
    pairs = zip(due, heard, strict=True)
    times["ACK, FIN leaves"], answered = timed([(t.flow, event, 3) for t, event in pairs])
    taken = [(t.flow, flow.Returned(of=t.effects[1]), 4) for t in answered]
    times["response taken"], _ = timed(taken)
    fins = [flow.Received(message=t.effects[0].message, caller=ALICE) for t in answered]
    pairs = zip(acks, fins, strict=True)
    times["FIN"], _ = timed([(t.flow, event, 5) for t, event in pairs])
    return times


async def hops():
    """Seconds for one bare queue hop: put in one task, get in another."""
    there, back = asyncio.Queue(), asyncio.Queue()

    async def echo():
        while True:
            await back.put(await there.get())

    task = asyncio.create_task(echo())
    began = time.perf_counter()
    for n in range(FLOWS):
        await there.put(n)
        await back.get()
    spent = time.perf_counter() - began
    task.cancel()
    return spent / FLOWS / 2


def transitions():
    rounds = []
    for _ in range(ROUNDS):  # in turns, so that a busy moment does not fall on one of them alone
        times = common_path()
        rounds.append((times, asyncio.run(hops())))
    hop = min(hop for _, hop in rounds)
    best = {name: min(times[name] for times, _ in rounds) for name in rounds[0][0]}
    means = [statistics.mean(times.values()) for times, _ in rounds]
    spread = statistics.pstdev(means) / statistics.mean(means)
    mean = statistics.mean(best.values())
    rows = [within("a transition of the common path", mean, "2 hops", 2 * hop, 1, spread=spread)]
    rows += [within(f"  {name}", one, "2 hops", 2 * hop, None) for name, one in best.items()]
    return rows


def engine_with(flows):
    engine = Engine(ROOMY, now=0)
    for n in range(flows):
        engine.send(BOB, n, PAYLOAD, now=n)
    return engine


def timer(flows):
    """Seconds to ask for the earliest due time and to move it."""
    engine = engine_with(flows)
    key = [flow.trace.FlowKey(flow.Role.SENDER, BOB, n) for n in range(500)]
    began = time.perf_counter()
    for n in range(500):
        assert engine.next_due() == n
        engine.apply(key[n], flow.Due(), n)
    return (time.perf_counter() - began) / 500


def memory():
    """Bytes that a million open flows take, in a process of their own."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    engine = Engine(ROOMY, now=0)
    for n in range(MANY):
        # A ULID's size, and a payload of its own.
        engine.send(BOB, (1 << 120) + n, b"%0100d" % n, now=10**18 + n)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert engine.next_due() == 10**18
    unit = 1 if sys.platform == "darwin" else 1024
    print((after - before) * unit)


def memory_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.flow.run", "memory"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def quiet():
    """Seconds to ask an engine without flows whether something is due."""
    engine = Engine(POLICY, now=0)
    began = time.perf_counter()
    for _ in range(1_000):
        assert engine.next_due() is None
    return (time.perf_counter() - began) / 1_000


def main():
    rows = transitions()
    small, large = (min(timer(flows) for _ in range(3)) for flows in (1_000, 200_000))
    rows.append(within("next due and step, 200,000 flows", large, "1,000 flows", small, 3))
    rows.append(within("asking a quiet engine", quiet(), "a hop", asyncio.run(hops()), 1))
    taken = memory_of_its_own() / 2**20
    rows.append(within("a million open flows of 100 bytes", taken, "1 GiB", 2**10, 1, unit="MiB"))
    publish("flow", rows)


if __name__ == "__main__":
    memory() if sys.argv[1:] == ["memory"] else main()
