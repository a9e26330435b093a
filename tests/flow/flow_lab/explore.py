"""Breadth-first exploration of the small world, with the page's invariants in every state.

The first broken invariant is therefore found by a shortest run, which is printed as a timeline.
"""

import argparse
import itertools
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from bridge.flow import ReceiverState, SenderFlow, SenderState
from flow_lab.small_world import MESSAGE_LIFE, POLICY, Budget, State, World, key

_HAS_RESPONSE = (SenderState.ANSWERED, SenderState.DEAD_LETTER, SenderState.ACKNOWLEDGED)
_SENDER_ENDS = (SenderState.DEAD_LETTER, SenderState.ACKNOWLEDGED, SenderState.FAILED)
_RECEIVER_ENDS = (ReceiverState.FINISHED, ReceiverState.ABANDONED)
LONGEST_HEALED_RUN = 200


def broken(state: State, budget: Budget) -> str:
    """The invariant that a state breaks; empty if none."""
    if state.fault:
        return state.fault
    for index, ghost in enumerate(state.ghosts):
        if ghost.effects > 1:
            return "1: a synchronous handler's effect was committed twice"
        if ghost.starts > 1 + ghost.excused:
            return "1: the handler was started twice without the mark redelivered"
        if ghost.taken > 1:
            return "3: the application took two outcomes"
        if max(ghost.news, ghost.acks) > POLICY.attempts + budget.not_sent:
            return "5: a message was transmitted more often than attempts allow"
        if ghost.echoes > POLICY.attempts + 10:
            return "5: an ACK was echoed more often than the echo rule allows"
        if index < 2 and ghost.finished and not _kept(state.flows[index], ghost):
            return "2: the receiver dropped a response that the sender has not stored"
    return ""


def _kept(flow, ghost) -> bool:
    """Whether the sender has the response, or has given it to the application and let it go."""
    if flow is None:
        return ghost.outcome == "answered" or ghost.late
    return flow.state in _HAS_RESPONSE or flow.late


def not_ended(state: State, flows: int) -> str:
    """What is not as it should be where a healed run ended; empty if nothing."""
    for index, flow in enumerate(state.flows):
        if flow is None:
            continue
        ends = _SENDER_ENDS if isinstance(flow, SenderFlow) else _RECEIVER_ENDS
        if flow.state not in ends:
            return f"2: after healing, flow {index} stays {flow.state.value}"
    for index in range(2 - flows, 2):
        flow, ghost = state.flows[index], state.ghosts[index]
        buried = flow is not None and flow.state is SenderState.DEAD_LETTER
        if not buried and ghost.taken != 1:
            return f"3: after healing, an application took {ghost.taken} outcomes"
    return ""


@dataclass
class Found:
    """What an exploration found.

    Attributes:
        states: Distinct states.
        transitions: Ways from one to another.
        deepest: Longest of the shortest runs to a state.
        complete: Whether all states within the bounds were visited.
        fault: The broken invariant; empty if none.
        timeline: The shortest run to it.
    """

    states: int = 0
    transitions: int = 0
    deepest: int = 0
    complete: bool = False
    fault: str = ""
    timeline: list[str] = field(default_factory=list)


def explore(
    world: World, budget: Budget, *, most: int | None = None, report=None, heal: bool = True
) -> Found:
    """Visit every state within the bounds, or the first ``most`` of them.

    Args:
        world: The rules.
        budget: Faults that may happen.
        most: Stop after so many states.
        report: Called now and then with what was found so far.
        heal: Whether to let a healed run start in every state.
    """
    found = Found()
    start = world.start(budget)
    parents: dict[int, tuple[int, int]] = {}
    ends_well: set[int] = set()
    start_key = hash(key(start))
    parents[start_key] = (start_key, 0)
    queue = deque([(start, start_key, 0)])
    while queue:
        state, state_key, depth = queue.popleft()
        found.states += 1
        found.deepest = depth
        fault = broken(state, budget)
        tail: list[str] = []
        if not fault and heal:
            fault, tail = _healed_fault(world, budget, state, state_key, ends_well)
        if fault:
            found.fault = fault
            found.timeline = _timeline(world, start, parents, state_key) + tail
            return found
        if report is not None and found.states % 50_000 == 0:
            report(found, len(queue))
        if most is not None and found.states >= most:
            return found
        for way, (_, after) in enumerate(world.ways(state)):
            found.transitions += 1
            after_key = hash(key(after))
            if after_key not in parents:
                parents[after_key] = (state_key, way)
                queue.append((after, after_key, depth + 1))
    found.complete = True
    return found


def _healed_fault(world, budget, state, state_key, ends_well) -> tuple[str, list[str]]:
    """Whether the healed run from a state ends well; states on the way are remembered."""
    passed = []
    told = []
    current, current_key = state, state_key
    while current_key not in ends_well:
        passed.append(current_key)
        following = world.healed(current)
        if following is None:
            fault = not_ended(current, world.flows)
            if fault:
                return fault, ["-- from here on nothing fails --", *told]
            break
        what, current = following
        told.append(what)
        fault = broken(current, budget)
        if not fault and len(told) > LONGEST_HEALED_RUN:
            fault = "2: the healed run does not end"
        if fault:
            return fault, ["-- from here on nothing fails --", *told]
        current_key = hash(key(current))
    ends_well.update(passed)
    return "", []


def _timeline(world, state, parents, state_key) -> list[str]:
    """The shortest run to a state, which is run again to be told."""
    ways = []
    while parents[state_key][0] != state_key:
        state_key, way = parents[state_key]
        ways.append(way)
    lines = ["the flows are opened"]
    for way in reversed(ways):
        what, state = next(itertools.islice(world.ways(state), way, None))
        lines.append(what)
    return lines


@dataclass(frozen=True)
class Part:
    """One exploration of the plan.

    Attributes:
        name: What it shows.
        world: The rules.
        budget: Faults that may happen.
        most: Stop after so many states; None to visit all.
    """

    name: str
    world: World
    budget: Budget
    most: int | None = None


def _plan(most: int) -> list[Part]:
    """What ``make explore`` visits: small worlds to their end, then the large one."""
    none = Budget(*[0] * len(Budget._fields))
    one = World(flows=1)
    return [
        Part("one flow: delay and loss", one, none),
        Part("one flow: a crash and a repeat", one, none._replace(crashes=1, duplicates=1)),
        Part("one flow: two crashes", one, none._replace(crashes=2)),
        Part("one flow: two failing applications", one, none._replace(failures=2)),
        Part(
            "one flow: hostility and a failed transmission",
            one,
            none._replace(hostile=1, not_sent=1),
        ),
        Part("one flow: damage and a crash", one, none._replace(damages=2, crashes=1)),
        Part(
            "two flows of one id, both kinds of handler, every kind of fault once",
            World(prompt=True),
            Budget(damages=1),
            most,
        ),
    ]


def _explore_and_report(part: Part) -> Found:
    faults = ", ".join(f"{name} {most}" for name, most in part.budget._asdict().items() if most)
    print(f"{part.name}\n  faults: {faults or 'none but delay and loss'}", flush=True)
    began = time.perf_counter()

    def report(found: Found, waiting: int) -> None:
        spent = time.perf_counter() - began
        so_far = f"{found.states:>9,} states, depth {found.deepest}, {waiting:,} waiting"
        print(f"  {so_far}, {spent:.0f} s", flush=True)

    found = explore(part.world, part.budget, most=part.most, report=report)
    spent = time.perf_counter() - began
    which = "all" if found.complete else "the first"
    print(
        f"  {which} {found.states:,} distinct states, {found.transitions:,} transitions,"
        f" runs of up to {found.deepest} steps, {spent:.0f} s"
    )
    if found.fault:
        print(f"  BROKEN: {found.fault}")
        print("\n".join(f"    {line}" for line in found.timeline))
    return found


def main() -> int:
    """Explore and report; the exit code is 1 if an invariant is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000, help="states of the large world")
    arguments = parser.parse_args()
    print(
        f"bounds: one receiver, {POLICY.attempts} attempts, a message lives {MESSAGE_LIFE} ticks,"
        f" lifetime {POLICY.lifetime}, horizon {POLICY.horizon}"
    )
    states = 0
    for part in _plan(arguments.most):
        found = _explore_and_report(part)
        states += found.states
        if found.fault:
            return 1
    print(f"{states:,} states: every invariant holds in each, and from each the healed run ends")
    return 0


__all__ = ["Found", "broken", "explore"]

if __name__ == "__main__":
    sys.exit(main())
