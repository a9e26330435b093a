"""One place to play in: a network, who deploys there, and its time.

On an embedded replica time stands still and is moved on only when nothing is left to do, so that
hours of retries take milliseconds and a run repeats itself. Elsewhere time is what it is, and
waiting is looking again.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from bridge import candid
from bridge.agent import Agent, Identity
from bridge.agent.transport import is_loopback
from bridge.conformance.place import Place
from bridge.errors import BridgeError, ReplicaError
from bridge.network import InstallMode, Network, create_canister, install_code
from bridge.principal import Principal
from bridge.wire import CallRequest

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
EMPTY: Final = b"DIDL\x00\x00"
EMPTY_CANISTER: Final = "empty"
"""The kind of canister in stock that has no module."""

_LOOK: Final = 0.1
_SHORT_LOOK: Final = 0.02
_CBOR: Final = {"Content-Type": "application/cbor"}
_ACCEPTED: Final = 202
_AT_ONCE: Final = 50
_PATIENCE: Final = 30.0
_CALLS: Final = ("request", "ingress")
_MANAGEMENT: Final = Principal.management()
_CANISTER: Final = candid.Record({"canister_id": candid.PrincipalType})
_STATUS: Final = candid.Record(
    {
        "cycles": candid.Nat,
        "status": candid.Variant(
            {"running": candid.Null, "stopping": candid.Null, "stopped": candid.Null}
        ),
    }
)
_SETTINGS: Final = candid.Record(
    {
        "canister_id": candid.PrincipalType,
        "settings": candid.Record(
            {
                "freezing_threshold": candid.Opt(candid.Nat),
                "minimum_incoming_canister_call_cycles": candid.Opt(candid.Nat),
            }
        ),
    }
)

Condition = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the embedded replica wrote down.

    Attributes:
        sender: Who called; ``None`` for the system.
        receiver: Whom.
        method: The method.
        outcome: ``executed``, ``trapped``, ``lost`` or ``rejected``.
        detail: The replica's text where the outcome has one.
    """

    sender: Principal | None
    receiver: Principal
    method: str
    outcome: str
    detail: str


class World:
    """A network that scenarios are played on.

    Args:
        network: The network.
        agent: Who deploys, and controls what it deployed.
        virtual: Whether time stands still between steps and can be moved.
        session: For the admin interface.
        now: The one cell that the agent's clock reads.

    Attributes:
        settlers: How ends outside of the replica do what is to be done at this time: whether they
            did anything, and when there is something next.
        closers: What lets go of ends when the scenario is over.
    """

    def __init__(
        self,
        network: Network,
        agent: Agent,
        *,
        virtual: bool,
        session: aiohttp.ClientSession,
        now: list[int],
    ) -> None:
        self.network = network
        self.agent = agent
        self.virtual = virtual
        self._session = session
        self._now = now
        self._deployed: list[Principal] = []
        self._kept: str | None = None
        self._stock: dict[str, tuple[Principal, ...]] = {}
        self._left: dict[str, list[Principal]] = {}
        self._calls: list[Call] = []
        self._log_at = 0
        self.settlers: list[Callable[[], Awaitable[tuple[bool, int | None]]]] = []
        self.closers: list[Callable[[], Awaitable[None]]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def enter(cls, place: Place) -> AsyncIterator["World"]:
        """Open a place; an embedded replica of its own where the place has no URL.

        Raises:
            BridgeError: If the replica does not start or the network cannot be reached.
        """
        identity = place.identity or Identity.generate()
        async with contextlib.AsyncExitStack() as held:
            session = await held.enter_async_context(aiohttp.ClientSession())
            now = [time.time_ns()]
            if place.url is None:
                network = await held.enter_async_context(Network.embedded(admin=True))
                agent = await held.enter_async_context(
                    Agent(
                        network.url,
                        identity=identity,
                        root_key=network.root_key,
                        clock=lambda: now[0],
                    )
                )
                world = cls(network, agent, virtual=True, session=session, now=now)
                await world.step(0)
            else:
                agent = await held.enter_async_context(await _agent(place, identity))
                await agent.status()  # one that does not answer is found out once, not cell by cell
                network = Network(place.url, place.root_key)
                world = cls(network, agent, virtual=False, session=session, now=now)
            yield world

    # --- Time ---------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The network's time, in nanoseconds since 1970."""
        return self._now[0] if self.virtual else time.time_ns()

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.network.url}/_admin/{path}"
        try:
            async with self._session.request(method, url, **options) as response:
                if response.status != 200:
                    raise ReplicaError(f"the replica's admin interface: {await response.text()}")
                return await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ReplicaError(f"the embedded replica does not answer: {error}") from error

    async def step(self, ahead: int, *, quiet: bool = True) -> int | None:
        """Move virtual time ahead, and let all that is then due happen.

        Args:
            ahead: Nanoseconds.
            quiet: Whether to wait until nothing is left to do at that time.

        Returns:
            When something is due next; ``None`` if nothing is.
        """
        body = {"advance": ahead, "pause": True, "quiet": quiet}
        answer = await self._ask("POST", "time", json=body)
        self._now[0] = answer["time"]
        due: int | None = answer["next_due"]
        return due

    async def settle(self) -> int | None:
        """Let everything happen that can at this time, programs outside of the replica included.

        Returns:
            As `step`.
        """
        return await self._others(await self.step(0))

    async def _others(self, due: int | None) -> int | None:
        """After a step: the programs outside of the replica, and what follows from them."""
        while self.settlers:
            steps = [await settle() for settle in self.settlers]
            if not any(moved for moved, _ in steps):
                others = [when for _, when in steps if when is not None]
                return min([*others, *([] if due is None else [due])], default=None)
            due = await self.step(0)
        return due

    async def until(self, condition: Condition, within: int, *, stride: int = 0) -> bool:
        """Wait until something is so.

        Args:
            condition: Asked after each step.
            within: How long at most, in nanoseconds of the network's time.
            stride: The least that one step of virtual time covers, for peers that look around
                every few seconds.

        Returns:
            Whether it came about.
        """
        if not self.virtual:
            end = time.monotonic_ns() + within
            while not await condition():
                if time.monotonic_ns() >= end:
                    return False
                await asyncio.sleep(_LOOK)
            return True
        end = self.now + within
        due = await self.settle()
        while not await condition():
            if self.now >= end:
                return False
            wanted = end if due is None else max(due, self.now + stride)
            due = await self._others(await self.step(max(0, min(wanted, end) - self.now)))
        return True

    async def wait(self, duration: int, *, stride: int = 0) -> None:
        """Let time pass, in steps at which what is due happens."""

        async def never() -> bool:
            return False

        await self.until(never, duration, stride=stride)

    async def jump(self, duration: int) -> None:
        """Move virtual time ahead at once, then let what is due happen."""
        await self._others(await self.step(duration))

    # --- Canisters ------------------------------------------------------------------------------

    async def keep(self, stock: Mapping[str, Sequence[Principal]]) -> None:
        """Remember an embedded replica as it is now: `clear` makes it so again.

        Args:
            stock: Canisters that are there, by kind, for `take`.
        """
        self._stock = {kind: tuple(ids) for kind, ids in stock.items()}
        self._kept = (await self._ask("POST", "snapshot", json={}))["id"]
        self._left = {kind: list(ids) for kind, ids in self._stock.items()}

    @property
    def is_kept(self) -> bool:
        """Whether there is a state to go back to."""
        return self._kept is not None

    def take(self, kind: str) -> Principal | None:
        """A canister of the stock that nobody else has; ``None`` if none is left."""
        left = self._left.get(kind)
        return left.pop(0) if left else None

    async def create(self) -> Principal:
        """An empty canister that this world controls."""
        stocked = self.take(EMPTY_CANISTER)
        if stocked is not None:
            return stocked
        canister_id = await create_canister(self.agent)
        self._deployed.append(canister_id)
        return canister_id

    async def install(
        self, canister_id: Principal, wasm: bytes, arg: bytes, mode: InstallMode = "install"
    ) -> None:
        """Install or replace a module.

        Raises:
            CallRejectedError: If the network refuses it.
        """
        await install_code(self.agent, canister_id, wasm, arg, mode=mode)

    async def manage(self, method: str, canister_id: Principal) -> None:
        """A call to the management canister about one canister."""
        await self.agent.update(
            _MANAGEMENT,
            method,
            candid.encode([_CANISTER], [{"canister_id": canister_id}]),
            effective_canister_id=canister_id,
        )

    async def set(self, canister_id: Principal, **settings: int) -> None:
        """Change a canister's settings: ``freezing_threshold`` and the like."""
        arg = candid.encode([_SETTINGS], [{"canister_id": canister_id, "settings": settings}])
        await self.agent.update(
            _MANAGEMENT, "update_settings", arg, effective_canister_id=canister_id
        )

    async def _status(self, canister_id: Principal) -> Any:
        reply = await self.agent.update(
            _MANAGEMENT,
            "canister_status",
            candid.encode([_CANISTER], [{"canister_id": canister_id}]),
            effective_canister_id=canister_id,
        )
        (status,) = candid.decode([_STATUS], reply)
        return status

    async def balance(self, canister_id: Principal) -> int:
        """A canister's cycles."""
        return int((await self._status(canister_id))["cycles"])

    async def becomes(self, canister_id: Principal, *statuses: str) -> None:
        """Wait, without moving time, until a canister is ``stopping``, say.

        Raises:
            ReplicaError: If it does not come about.
        """

        async def there() -> bool:
            return (await self._status(canister_id))["status"].label in statuses

        if not await self.comes(there):
            raise ReplicaError(f"a canister does not become {' or '.join(statuses)}")

    async def comes(self, condition: Condition) -> bool:
        """Wait until something is so, by the clock on the wall: time on the network is not moved.

        For what is under way on a replica that never comes to rest.

        Returns:
            Whether it came about.
        """
        end = time.monotonic() + _PATIENCE
        while True:
            for settle in self.settlers:
                await settle()
            if await condition():
                return True
            if time.monotonic() >= end:
                return False
            await asyncio.sleep(_SHORT_LOOK)

    async def charge(self, *, fees: bool) -> None:
        """Let memory cost cycles on an embedded replica, so that canisters can be frozen."""
        await self._ask("POST", "fees", json={"charge": fees})

    async def delay(self, caller: Principal, callee: Principal, nth: int, duration: int) -> None:
        """Keep one call between two canisters from arriving, on an embedded replica.

        Args:
            caller: Who calls.
            callee: Whom; it may be the same.
            nth: Which of their calls from now on; later ones wait behind it.
            duration: How long, in nanoseconds.
        """
        fault = {"action": "delay", "kinds": ["request"], "nanoseconds": duration, "nth": nth}
        body = fault | {"from": str(caller), "to": str(callee)}
        await self._ask("POST", "faults", json=body)

    async def slots(self, caller: Principal, callee: Principal) -> int:
        """How many places of the queue between two canisters are taken, on an embedded replica."""
        queues = (await self._ask("GET", "queues", params={"most": "1"}))["queues"]
        taken = [one["in_flight"] for one in queues if one["canister"] == str(caller)]
        return int(taken[0].get(str(callee), 0)) if taken else 0

    async def crowd(self, callee: Principal, method: str, arg: bytes, many: int) -> int:
        """Have many agents call once each, who all are new.

        Args:
            callee: The canister.
            method: The method.
            arg: The argument.
            many: How many agents.

        Returns:
            How many calls were let in. What became of them is not waited for.
        """
        url = f"{self.network.url}/api/v2/canister/{callee}/call"
        left = iter(range(many))

        async def some() -> int:
            taken = 0
            for _ in left:
                identity = Identity.generate()
                request = CallRequest(
                    identity.principal,
                    self.now + 4 * MINUTE,
                    callee,
                    method,
                    arg,
                    os.urandom(16),
                )
                body = identity.sign_request(request.content()).to_cbor()
                async with self._session.post(url, data=body, headers=_CBOR) as response:
                    taken += response.status == _ACCEPTED
            return taken

        try:
            return sum(await asyncio.gather(*(some() for _ in range(_AT_ONCE))))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ReplicaError(f"the network does not answer: {error}") from error

    async def clear(self) -> None:
        """Take away what was deployed, so that nothing of it runs on."""
        self.settlers.clear()
        closers, self.closers = self.closers, []
        for close in closers:
            with contextlib.suppress(BridgeError):
                await close()
        self._calls.clear()
        if self._kept is not None:
            await self._ask("POST", "restore", json={"id": self._kept})
            await self.step(0)
            self._log_at = 0
            self._deployed.clear()
            self._left = {kind: list(ids) for kind, ids in self._stock.items()}
            return
        deployed, self._deployed = self._deployed, []
        for canister_id in deployed:
            with contextlib.suppress(BridgeError):
                await self.manage("uninstall_code", canister_id)

    # --- What was said --------------------------------------------------------------------------

    async def calls(self, ends: Collection[Principal]) -> list[Call]:
        """Calls to some canisters, by the embedded replica's message log; nothing elsewhere."""
        found: list[Call] = []
        while self.virtual:
            params = {"after": str(self._log_at), "max_arg": "32"}
            lines = (await self._ask("GET", "messages", params=params))["messages"]
            self._calls += [_call(line) for line in lines if line["kind"] in _CALLS]
            if not lines:
                break
            self._log_at = lines[-1]["seq"]
        found += [call for call in self._calls if call.receiver in ends]
        return found


class Worlds:
    """The places that one worker plays in, each opened when something is first played there."""

    def __init__(self) -> None:
        self._open: dict[str | None, World | BridgeError] = {}
        self._held = contextlib.AsyncExitStack()

    async def at(self, place: Place) -> World | BridgeError:
        """The world of a place; or why there is none."""
        if place.url not in self._open:
            try:
                world = await self._held.enter_async_context(World.enter(place))
            except BridgeError as error:
                self._open[place.url] = error
            else:
                self._open[place.url] = world
        return self._open[place.url]

    async def aclose(self) -> None:
        """Leave them all."""
        self._open.clear()
        await self._held.aclose()


def _call(line: dict[str, Any]) -> Call:
    return Call(
        sender=Principal.from_text(line["from"]) if line["from"] else None,
        receiver=Principal.from_text(line["to"]),
        method=line["method"] or "",
        outcome=line["outcome"],
        detail=line.get("text") or "",
    )


async def _agent(place: Place, identity: Identity) -> Agent:
    assert place.url is not None
    if place.root_key is not None:
        return Agent(place.url, identity=identity, root_key=place.root_key)
    if is_loopback(place.url):
        return await Agent.local(place.url, identity)
    return Agent(place.url, identity=identity)
