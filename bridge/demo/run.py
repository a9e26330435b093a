"""The run itself: an own replica, two canisters, five flows, and what must be true of each."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from bridge import contracts
from bridge.agent import Agent, Identity
from bridge.demo.compute import compute, means_the_same, random_payload, right_response
from bridge.demo.recorder import Recorder
from bridge.errors import BridgeError
from bridge.monitor import MessageRecord
from bridge.network import AdminClient, Network
from bridge.principal import Principal
from bridge.reference import SHORT_POLICY, SHORT_WAITS, ReferenceCanister, install_argument
from bridge.service import Bridge
from bridge.store import MemoryStore

_END_WITHIN: Final = 25.0
_POLL: Final = 0.05


@dataclass(frozen=True, slots=True)
class FlowReport:
    """How one flow of the run went.

    Attributes:
        title: What was shown.
        messages: How many messages were seen, lost ones included.
        attempts: Transmissions of NEW, and of ACK.
        elapsed: Nanoseconds from the first message to the end state on both sides.
        sender_state: Where the sender's side ended.
        receiver_state: Where the receiver's side ended.
        right: Whether the response was the expected one.
        fault: What was wrong; ``None`` where all is as it must be.
    """

    title: str
    messages: int
    attempts: tuple[int, int]
    elapsed: int
    sender_state: str
    receiver_state: str
    right: bool
    fault: str | None


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The whole run.

    Attributes:
        flows: One report a flow, in their order.
        records: Every message seen.
    """

    flows: tuple[FlowReport, ...]
    records: tuple[MessageRecord, ...]

    @property
    def ok(self) -> bool:
        """Whether every flow ended as it must."""
        return all(flow.fault is None for flow in self.flows)


@dataclass(frozen=True, slots=True)
class _Stage:
    admin: AdminClient
    bridge: Bridge
    store: MemoryStore
    recorder: Recorder
    us: Principal
    sender: ReferenceCanister
    receiver: ReferenceCanister
    draw: random.Random


Narrator = Callable[[str], None]


async def run_demo(
    *,
    say: Narrator,
    see: Callable[[MessageRecord], None],
    seed: int | None = None,
) -> DemoReport:
    """Run the five flows.

    Args:
        say: Told what happens next, in a few words.
        see: Told of each message as it is seen.
        seed: Draws the payloads; another draw at each run where absent.

    Raises:
        BridgeError: If the replica does not start or a canister cannot be installed.
    """
    draw = random.Random(seed)  # noqa: S311 - payloads are no secret
    reports = []
    async with _stage(say, see, draw) as stage:
        for title, play in _SCENARIOS.items():
            say(title)
            stage.recorder.begin(title)
            reports.append(await _watch(stage, title, play))
    return DemoReport(tuple(reports), tuple(stage.recorder.records))


@contextlib.asynccontextmanager
async def _stage(
    say: Narrator, see: Callable[[MessageRecord], None], draw: random.Random
) -> AsyncIterator[_Stage]:
    say("Starting an embedded replica")
    identity = Identity.generate()
    async with contextlib.AsyncExitStack() as held:
        network = await held.enter_async_context(Network.embedded(admin=True))
        agent = await held.enter_async_context(network.agent(identity))
        say(f"Replica at {network.url}; deploying the Motoko sender and receiver")
        us = agent.principal
        sender = await _deploy(network, agent, "sender", us)
        receiver = await _deploy(network, agent, "receiver", us)
        assert network.admin is not None
        recorder = Recorder(
            network.admin,
            {us: "Python", sender.canister_id: "sender", receiver.canister_id: "receiver"},
            us,
            see,
        )
        store = await held.enter_async_context(MemoryStore())
        bridge = await held.enter_async_context(
            Bridge(
                agent,
                store,
                policy=SHORT_POLICY,
                handler=compute,
                poll_every=0.1,
                observer=recorder.fetched,
            )
        )
        bridge.watch(sender.canister_id)
        bridge.watch(receiver.canister_id)
        follower = asyncio.create_task(recorder.follow())
        try:
            yield _Stage(network.admin, bridge, store, recorder, us, sender, receiver, draw)
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)


async def _deploy(network: Network, agent: Agent, name: str, us: Principal) -> ReferenceCanister:
    wasm = contracts.motoko_canister(name)
    argument = install_argument(SHORT_WAITS, agents=[us])
    return ReferenceCanister(agent, await network.deploy(agent, wasm, argument))


# --- The scenarios ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Played:
    """A flow that was opened: how to ask either side, and what must come of it."""

    msg_id: int
    right: Callable[[], Awaitable[bool]]
    sender_state: Callable[[], Awaitable[str]]
    receiver_state: Callable[[], Awaitable[str]]
    must_lose: str | None = None


async def _python_to_motoko(stage: _Stage) -> _Played:
    payload = random_payload(stage.draw)
    msg_id = await stage.bridge.post(stage.receiver.canister_id, payload)
    response = await stage.bridge.response(msg_id)

    async def right() -> bool:
        return means_the_same(response, right_response(payload))

    async def here() -> str:
        record = await stage.store.sender_flow(msg_id)
        return record.state if record else "forgotten"

    return _Played(msg_id, right, here, _state_at(stage.receiver, "receiver", msg_id))


async def _motoko_to_python(stage: _Stage) -> _Played:
    payload = random_payload(stage.draw)
    msg_id = await stage.sender.send(stage.us, payload)

    async def here() -> str:
        record = await stage.store.receiver_flow(stage.sender.canister_id, msg_id)
        return record.state if record else "not yet"

    return _Played(
        msg_id,
        _answered_right(stage, msg_id, payload),
        _state_at(stage.sender, "sender", msg_id),
        here,
    )


async def _motoko_to_motoko(stage: _Stage, *, must_lose: str | None = None) -> _Played:
    payload = random_payload(stage.draw)
    msg_id = await stage.sender.send(stage.receiver.canister_id, payload)
    return _Played(
        msg_id,
        _answered_right(stage, msg_id, payload),
        _state_at(stage.sender, "sender", msg_id),
        _state_at(stage.receiver, "receiver", msg_id),
        must_lose,
    )


async def _first_new_lost(stage: _Stage) -> _Played:
    await stage.admin.lose(
        sender=stage.sender.canister_id, receiver=stage.receiver.canister_id, method="asyncFlow"
    )
    return await _motoko_to_motoko(stage, must_lose="NEW")


async def _first_ack_lost(stage: _Stage) -> _Played:
    await stage.admin.lose(
        sender=stage.receiver.canister_id, receiver=stage.sender.canister_id, method="asyncFlow"
    )
    return await _motoko_to_motoko(stage, must_lose="ACK")


_SCENARIOS: Final[dict[str, Callable[[_Stage], Awaitable[_Played]]]] = {
    "Python to Motoko": _python_to_motoko,
    "Motoko to Python": _motoko_to_python,
    "Motoko to Motoko": _motoko_to_motoko,
    "Motoko to Motoko, first NEW lost": _first_new_lost,
    "Motoko to Motoko, first ACK lost": _first_ack_lost,
}


def _state_at(canister: ReferenceCanister, role: str, msg_id: int) -> Callable[[], Awaitable[str]]:
    async def ask() -> str:
        view = await canister.flow(role, msg_id)
        return str(view["state"].label) if view else "not yet"

    return ask


def _answered_right(stage: _Stage, msg_id: int, payload: bytes) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        outcome = await stage.sender.outcome(msg_id)
        if outcome is None or outcome.label != "answered":
            return False
        answer: dict[str, Any] = outcome.value
        return means_the_same(answer["response"], right_response(payload))

    return ask


# --- Judging ------------------------------------------------------------------------------------


async def _watch(
    stage: _Stage, title: str, play: Callable[[_Stage], Awaitable[_Played]]
) -> FlowReport:
    begun = time.monotonic_ns()
    ends = ("", "")
    right = False
    fault: str | None = None
    try:
        async with asyncio.timeout(_END_WITHIN):
            played = await play(stage)
            while ends != ("acknowledged", "finished"):
                await asyncio.sleep(_POLL)
                ends = (await played.sender_state(), await played.receiver_state())
            right = await played.right()
    except TimeoutError:
        fault = f"it did not end within {_END_WITHIN:.0f} s"
    except BridgeError as error:
        fault = str(error)
    elapsed = time.monotonic_ns() - begun
    await stage.recorder.catch_up()
    seen = [record for record in stage.recorder.records if record.flow == title]
    if fault is None:
        fault = _fault(seen, right=right, must_lose=played.must_lose)
    return FlowReport(
        title=title,
        messages=len(seen),
        attempts=(_times(seen, "NEW"), _times(seen, "ACK")),
        elapsed=elapsed,
        sender_state=ends[0],
        receiver_state=ends[1],
        right=right,
        fault=fault,
    )


def _fault(seen: list[MessageRecord], *, right: bool, must_lose: str | None) -> str | None:
    if not right:
        return "the response is not the expected one"
    arrived = {record.message for record in seen if record.outcome == "delivered"}
    if missing := {"NEW", "ACK", "FIN"} - arrived:
        return f"no {', '.join(sorted(missing))} was seen to arrive"
    lost = {record.message for record in seen if record.outcome == "lost"}
    if lost != ({must_lose} if must_lose else set()):
        return f"lost were {sorted(lost)}, expected {must_lose or 'nothing'}"
    return None


def _times(seen: list[MessageRecord], message: str) -> int:
    return sum(record.message == message for record in seen)
