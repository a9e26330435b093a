"""The run's own canisters: chaos in the middle, and relays that say what they are told to say."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from bridge import candid, contracts, dialects
from bridge.candid import Case
from bridge.conformance.wire import Sighting
from bridge.conformance.world import EMPTY, EMPTY_CANISTER, SECOND, World
from bridge.errors import BridgeError, CandidError
from bridge.flow import Ack, Message, New
from bridge.principal import Principal
from bridge.reference import contract_method
from bridge.reference.contract import install_types

_PAGE: Final = 2_000
_CHAOS: Final = "chaos"
_RELAY: Final = "relay"
_RELAYS: Final = 4
_ENDS: Final = 3
_TOLD: Final = 4
_METHODS: Final = (
    "asyncFlow",
    "com_asyncFlow_newMessage",
    "com_asyncFlow_ack",
    "com_asyncFlow_fin",
    "com_asyncFlow_ackack",
    "com_asyncFlow_finish",
    "asyncFlow_batch",
)
_PLAN: Final = install_types("chaos")
NO_CHANCES: Final = dict.fromkeys(["lose", "reject", "corrupt", "repeat", "delay", "reorder"], 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a plan.

    Attributes:
        side: Whose message: ``a`` (the sender's end) or ``b``.
        kind: ``NEW``, ``ACK`` or ``FIN``.
        nth: Which of these, counted from 1.
        what: ``lose``, ``reject``, ``corrupt``, ``repeat``, ``delay`` or ``reorder``.
        amount: Copies, or nanoseconds.
    """

    side: str
    kind: str
    nth: int
    what: str = "lose"
    amount: int | None = None


class Chaos:
    """The canister in the middle, each end of which takes it for the other.

    Args:
        world: Where it runs.
        canister_id: Its id; empty until `install`, unless it is of the stock.
        installed: Whether it has its module already.
    """

    def __init__(self, world: World, canister_id: Principal, *, installed: bool = False) -> None:
        self.canister_id = canister_id
        self._world = world
        self._installed = installed
        self._seen: list[Sighting] = []
        self._ends: tuple[Principal, Principal] | None = None

    @classmethod
    async def deploy(cls, world: World) -> "Chaos":
        """A new one, between no ends yet."""
        stocked = world.take(_CHAOS)
        if stocked is not None:
            return cls(world, stocked, installed=True)
        return cls(world, await world.create())

    def _plan(
        self, seed: int, faults: tuple[Fault, ...], chances: dict[str, int] | None
    ) -> dict[str, Any]:
        assert self._ends is not None
        return {
            "seed": seed,
            "a": self._ends[0],
            "b": self._ends[1],
            "chances": [
                {"from": None, "kind": None, "chances": NO_CHANCES | chances},
            ]
            if chances
            else [],
            "faults": [
                {
                    "from": Case(fault.side),
                    "kind": Case(fault.kind),
                    "nth": fault.nth,
                    "fault": Case(fault.what, fault.amount),
                }
                for fault in faults
            ],
            "longest_delay": 20 * SECOND,
            "longest_hold": 10 * SECOND,
            "monitors": [],
        }

    async def install(self, a: Principal, b: Principal, seed: int) -> None:
        """Put it between two ends, without faults."""
        self._ends = (a, b)
        if self._installed:
            await self.plan(seed=seed)
            return
        arg = candid.encode(_PLAN, [self._plan(seed, (), None)])
        await self._world.install(self.canister_id, contracts.rust_canister("chaos"), arg)

    async def plan(
        self, *faults: Fault, seed: int = 0, chances: dict[str, int] | None = None
    ) -> None:
        """Set what is done to messages from now on; numbers count anew.

        Args:
            faults: Exactly these.
            seed: Draws by the chances.
            chances: In thousandths, for everything that is said.
        """
        method = contract_method("chaos", "chaos_plan")
        arg = candid.encode(method.args, [self._plan(seed, faults, chances)])
        reply = await self._world.agent.update(self.canister_id, "chaos_plan", arg)
        (answer,) = candid.decode(method.results, reply)
        if answer.label == "err":
            raise BridgeError(f"the chaos canister refuses the plan: {answer.value}")

    async def log(self) -> list[Sighting]:
        """All that was seen so far."""
        method = contract_method("chaos", "chaos_log")
        while True:
            after = self._seen[-1].seq if self._seen else 0
            arg = candid.encode(method.args, [{"after": after, "limit": _PAGE}])
            reply = await self._world.agent.query(self.canister_id, "chaos_log", arg)
            (page,) = candid.decode(method.results, reply)
            self._seen += [Sighting.of(entry) for entry in page]
            if len(page) < _PAGE:
                return self._seen


async def stock(world: World) -> None:
    """Make what every scenario needs, once, and keep it: each begins from there."""
    relays = [(await Relay.deploy(world)).canister_id for _ in range(_RELAYS)]
    chaos = Chaos(world, await world.create())
    await chaos.install(relays[0], relays[1], 0)
    empty = [await world.create() for _ in range(_ENDS)]
    await world.keep({_CHAOS: [chaos.canister_id], _RELAY: relays, EMPTY_CANISTER: empty})


@cache
def _relay_wasm() -> bytes:
    return (resources.files("bridge.conformance") / "relay.wasm").read_bytes()


@dataclass(frozen=True, slots=True)
class Heard:
    """What a relay was told.

    Attributes:
        caller: By whom.
        method: By which method.
        arg: The argument's first 4 KiB.
        size: The whole argument's size in bytes.
    """

    caller: Principal
    method: str
    arg: bytes
    size: int

    def message(self, dialect: str) -> Message | None:
        """The message that it is in a dialect; ``None`` where it is none, or was cut."""
        try:
            return dialects.get(dialect).message_from(self.method, self.arg)
        except CandidError:
            return None


def named(message: Message) -> str:
    """A message as a reader of a cell is told of it, such as ``a FIN(null) for flow 7``."""
    match message:
        case New():
            said = f"a NEW of {len(message.payload)} bytes"
        case Ack(payload=None):
            said = "an ACK(null)"
        case Ack(payload=bytes(payload)):
            said = f"an ACK of {len(payload)} bytes"
        case _:
            said = "a FIN" if message.hash is not None else "a FIN(null)"
    return f"{said} for flow {message.msg_id}"


def told(heard: Sequence[Heard], dialect: str) -> str:
    """What a relay heard, as a reader of a cell is told of it; empty where that is nothing."""
    words = []
    for one in heard[:_TOLD]:
        message = one.message(dialect)
        words.append(
            f"a call of {one.method} that is no message of {dialect}"
            if message is None
            else named(message)
        )
    if len(heard) > _TOLD:
        words.append(f"{len(heard) - _TOLD} more")
    return ", ".join(words)


class Relay:
    """A canister that says what it is told to say, byte for byte, and notes what it hears.

    Args:
        world: Where it runs.
        canister_id: Its id.
    """

    def __init__(self, world: World, canister_id: Principal) -> None:
        self.canister_id = canister_id
        self._world = world

    @classmethod
    async def deploy(cls, world: World) -> "Relay":
        """A new one."""
        stocked = world.take(_RELAY)
        if stocked is not None:
            return cls(world, stocked)
        canister_id = await world.create()
        await world.install(canister_id, _relay_wasm(), EMPTY)
        return cls(world, canister_id)

    async def say_raw(self, to: Principal, method: str, arg: bytes, *, cycles: int = 0) -> bool:
        """Make one call; whether it left."""
        name = method.encode()
        head = bytes([len(to.raw)]) + to.raw + bytes([len(name)]) + name
        reply = await self._world.agent.update(
            self.canister_id, "call", head + struct.pack("<Q", cycles) + arg
        )
        return reply == bytes(4)

    async def say(self, to: Principal, dialect: str, message: Message, *, cycles: int = 0) -> bool:
        """Say one message in a dialect; whether it left."""
        method, arg = dialects.get(dialect).call_for(message)
        return await self.say_raw(to, method, arg, cycles=cycles)

    async def heard(self) -> list[Heard]:
        """What it heard since it was cleared, oldest first, as far as it fits 2 MB."""
        data = await self._world.agent.query(self.canister_id, "heard", b"")
        found, at = [], 0
        while at < len(data):
            method, length = struct.unpack_from("<II", data, at)
            caller = Principal(data[at + 8 : at + 8 + length])
            at += 8 + length
            size, kept = struct.unpack_from("<II", data, at)
            at += 8
            found.append(Heard(caller, _METHODS[method], data[at : at + kept], size))
            at += kept
        return found

    async def spin(self) -> None:
        """Never answer a call from now on."""
        await self._world.agent.update(self.canister_id, "spin", b"")

    async def clear(self) -> None:
        """Forget what was heard."""
        await self._world.agent.update(self.canister_id, "clear", b"")
