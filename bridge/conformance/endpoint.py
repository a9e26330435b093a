"""What a run can do with one end of a pair, whatever that is.

An end is known by its address and its dialect. All else is a *power* that it has or has not: what
it can be asked, what can be done to it. A scenario names the powers that it needs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from bridge import candid
from bridge.conformance.entry import Entry
from bridge.conformance.verdicts import LackingError
from bridge.principal import Principal
from bridge.reference import SHORT_WAITS

POWERS: Final[Mapping[str, str]] = {
    "open": "it can be made to open a flow",
    "ids": "it opens a flow under a given id",
    "outcome": "it can be asked how a flow ended",
    "handled": "it can be asked how often its handler ran",
    "flows": "it can be asked for the state of its flows",
    "counters": "it can be asked for its counters",
    "settings": "its settings can be changed",
    "player": "its application does what it is told to",
    "null": "its application can be made to answer with null",
    "upgrade": "it can be upgraded",
    "life": "it can be stopped and started",
    "kill": "it can be killed, whatever is under way, and begun anew",
    "batch": "it offers batches",
    "outbox": "it keeps an outbox for agents",
    "alone": "it can have one role alone",
    "mailbox": "its messages wait in a mailbox while it is away",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a flow ended, as its sender's application was told.

    Attributes:
        failure: ``None`` for an answer, else how it failed.
        response: The answer's bytes; ``None`` for a null or where the failure has none.
        late: Whether the answer came after a failure.
        times: How often an outcome was handed over; of an answer that came late after one failure,
            how often that answer was. Without that failure it is never 1.
    """

    failure: str | None = None
    response: bytes | None = None
    late: bool = False
    times: int = 1

    @classmethod
    def among(cls, told: Iterable[Mapping[str, Any]], msg_id: int) -> Self | None:
        """The last outcome of one flow among what an application was told, as by `Endpoint.told`.

        Returns:
            ``None`` if none has been told.
        """
        ends = [t for t in told if t["msg_id"] == msg_id]
        ends = [t for t in ends if t["what"].label in ("answered", "failed", "late")]
        if not ends:
            return None
        last = ends[-1]
        what = last["what"].label
        first, *more = [end["what"].label for end in ends]
        if first == "failed" and more and set(more) == {"late"}:
            times = len(more)
        else:
            times = 0 if (first, more) == ("late", []) else len(ends)
        return cls(
            last["failure"].label if what == "failed" else None,
            last["response"],
            late=what == "late",
            times=times,
        )

    def __str__(self) -> str:
        if self.failure is not None:
            return f"Failed({self.failure})"
        said = "null" if self.response is None else f"{len(self.response)} bytes"
        return f"{'a late' if self.late else 'an'} answer of {said}, told {self.times} times"


class Endpoint(ABC):
    """One end.

    Attributes:
        entry: The implementation.
        dialect: What it speaks in this scenario.
        address: By which principal its peers know it.
        powers: What can be done with it.
    """

    entry: Entry
    dialect: str
    address: Principal
    powers: frozenset[str]

    @property
    def methods(self) -> Mapping[str, candid.Func]:
        """The methods that it publishes, with their types."""
        return {}

    @property
    def says_payload(self) -> bool:
        """Whether it sends the payload that it is given, and not one of its own."""
        send = self.entry.send
        return send is None or "{payload}" in send.arguments

    @property
    def application(self) -> str:
        """What it does with a request: see ``Entry.application``."""
        return self.entry.application.get(self.dialect, "unknown")

    def retry(self, *, virtual: bool) -> int:
        """How long it waits before it first sends again, in nanoseconds.

        Implementations that take our settings are given short waits where time is not virtual.
        """
        if virtual or not self.takes_settings:
            return self.entry.first_retry
        return int(SHORT_WAITS["first_retry"])

    @property
    def takes_settings(self) -> bool:
        """Whether it was installed with the settings that the scenario asks for."""
        return self.entry.install == "reference" and self.entry.canister is None

    def attempts(self, asked: int) -> int:
        """How often it sends a message at most.

        Args:
            asked: What the scenario's settings say, where it takes them.
        """
        return asked if self.takes_settings else self.entry.attempts

    def need(self, *powers: str) -> None:
        """Insist on powers.

        Raises:
            LackingError: If it has one of them not.
        """
        for power in powers:
            if power not in self.powers:
                raise self.lacking(power)

    def lacking(self, power: str) -> LackingError:
        """The error for a power that it has not."""
        return LackingError(
            f"the entry of {self.entry.name} does not say, for {self.dialect}, that {POWERS[power]}"
        )

    def lacking_variant(self, name: str) -> LackingError:
        """The error for a variant that its entry does not name."""
        if self.entry.silent and name in ("sender", "receiver"):
            return LackingError(
                f"nothing states that {self.entry.name} has the {name}'s role alone, as an entry "
                f'with role = "{name}" would'
            )
        return LackingError(f"the entry of {self.entry.name} names no {name} in {self.dialect}")

    # --- As a sender --------------------------------------------------------------------------

    @abstractmethod
    async def open(self, to: Principal, payload: bytes, msg_id: int | None = None) -> int | None:
        """Open a flow; its id, or ``None`` where it does not tell.

        Raises:
            BridgeError: If it refuses, with its reason.
        """

    async def open_many(self, to: Principal, payload: bytes, times: int) -> None:
        """Open many flows at once."""
        for _ in range(times):
            await self.open(to, payload)

    async def outcome(self, msg_id: int) -> Outcome | None:
        """How a flow ended; ``None`` while it is open."""
        raise self.lacking("outcome")

    async def outcomes(self, msg_ids: Iterable[int]) -> dict[int, Outcome | None]:
        """How many flows ended; those of a player's application are asked for at once."""
        if "player" in self.powers:
            told = await self.told()
            return {msg_id: Outcome.among(told, msg_id) for msg_id in msg_ids}
        return {msg_id: await self.outcome(msg_id) for msg_id in msg_ids}

    # --- As a receiver ------------------------------------------------------------------------

    async def handled(self, sender: Principal, msg_id: int) -> int:
        """How often its handler ran for a flow."""
        raise self.lacking("handled")

    # --- As either ----------------------------------------------------------------------------

    async def flows(self, role: str) -> list[dict[str, Any]]:
        """Its flows in a role, as views of ``candid/watch.did``."""
        raise self.lacking("flows")

    async def state(self, role: str, msg_id: int) -> str | None:
        """The state of one flow; ``None`` for a flow that it does not know."""
        for view in await self.flows(role):
            if view["msg_id"] == msg_id:
                return str(view["state"].label)
        return None

    async def counters(self) -> dict[str, int]:
        """Its counters by reason."""
        raise self.lacking("counters")

    async def configure(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        access: Mapping[str, Any] | None = None,
        peers: list[dict[str, Any]] | None = None,
    ) -> None:
        """Change its settings, its lists, and what it knows of peers.

        Raises:
            BridgeError: If it refuses, with its reason.
        """
        raise self.lacking("settings")

    # --- The application of a player ------------------------------------------------------------

    async def act(self, what: str, value: Any) -> str | None:
        """What its application or its operator does; the reason of a refusal."""
        raise self.lacking("player")

    async def direct(
        self, *, trap_until: int = 0, decision: Any = None, rerun: bool = False
    ) -> None:
        """How its application meets what it is told and asked."""
        raise self.lacking("player")

    async def told(self) -> list[dict[str, Any]]:
        """What its application was told, as records with ``what`` and ``msg_id``."""
        raise self.lacking("player")

    async def asked(self) -> list[dict[str, Any]]:
        """What its corruption handler was asked."""
        raise self.lacking("player")

    # --- Life ---------------------------------------------------------------------------------

    async def upgrade(self) -> None:
        """Stop it, replace it by itself, start it."""
        raise self.lacking("upgrade")

    async def hold(self, nth: int) -> bytes | None:
        """Have a handler of its player's application be under way until `crash`.

        Args:
            nth: Which call of a canister to itself is kept from arriving; one of the first few is
                its handler's own.

        Returns:
            The payload of a request with such a handler, which answers ``redelivered`` where it is
            run again; ``None`` if no handler can be held here.
        """
        del nth
        return None

    async def crash(self) -> None:
        """End it whatever is under way, and begin anew with what it stored."""
        raise self.lacking("kill")

    async def go_back(self) -> bool:
        """Begin anew as the previous version of it; whether its entry names one."""
        return False

    async def leave(self) -> None:
        """Be away: what comes waits in its mailbox."""
        raise self.lacking("mailbox")

    async def come_back(self) -> None:
        """Be there again, with what it stored."""
        raise self.lacking("mailbox")

    async def alone(self, role: str) -> "Endpoint":
        """The same implementation with one role alone, beside this end or instead of it.

        Raises:
            LackingError: If its entry names no such variant.
        """
        raise self.lacking_variant(role)

    async def stop(self) -> None:
        """Stop it."""
        raise self.lacking("life")

    async def start(self) -> None:
        """Start it again."""
        raise self.lacking("life")
