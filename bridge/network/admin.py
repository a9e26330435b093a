"""The client of an embedded replica's admin interface: faults, messages, queues and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import aiohttp

from bridge.errors import ReplicaError
from bridge.principal import Principal

Action = Literal["lose", "reject", "delay", "reorder"]
Kind = Literal["ingress", "request", "response"]


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """One line of the replica's message log.

    Attributes:
        seq: Its place in the log, counted from 1.
        time: When it was processed, in nanoseconds since 1970.
        sender: The canister or user that sent it; ``None`` for what the system itself starts.
        receiver: The canister that it is for.
        method: The method called; empty where there is none.
        arg: The argument's bytes, as far as the log keeps them.
        kind: ``ingress``, ``request``, ``reply``, ``reject``, ``timer``, or ``held`` for one that
            a fault holds back.
        outcome: ``executed``, ``trapped``, ``lost`` or ``rejected``; of a held one ``delayed`` or
            ``reordered``.
        detail: The replica's text where the outcome has one.
    """

    seq: int
    time: int
    sender: Principal | None
    receiver: Principal
    method: str
    arg: bytes
    kind: str
    outcome: str
    detail: str


def _principal(text: str | None) -> Principal | None:
    return Principal.from_text(text) if text else None


def _filter(
    kinds: Sequence[Kind] | None,
    sender: Principal | None,
    receiver: Principal | None,
    method: str | None,
    contains: bytes | None,
) -> dict[str, Any]:
    return {
        "kinds": None if kinds is None else list(kinds),
        "from": None if sender is None else str(sender),
        "to": None if receiver is None else str(receiver),
        "method": method,
        "contains": None if contains is None else contains.hex(),
    }


class AdminClient:
    """Asks an embedded replica, started with its admin interface on, for what no canister can do.

    Args:
        url: The replica's base URL.
    """

    def __init__(self, url: str) -> None:
        self._base = f"{url}/_admin"

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        timeout = aiohttp.ClientTimeout(total=30)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(method, self._base + path, **options) as response,
            ):
                if response.status != 200:
                    raise ReplicaError(
                        f"the replica's admin interface answered {response.status}: "
                        f"{(await response.text())[:200]}",
                        hint="start the replica with --admin" if response.status == 404 else None,
                    )
                return await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ReplicaError(
                f"the replica's admin interface at {self._base} cannot be reached: {error}",
                hint="see whether the replica still runs",
            ) from error

    async def lose(
        self,
        *,
        sender: Principal | None = None,
        receiver: Principal | None = None,
        method: str | None = None,
        contains: bytes | None = None,
        nth: int = 1,
    ) -> None:
        """Lose one message between canisters: the ``nth`` from now that matches.

        Args:
            sender: Only messages from this principal.
            receiver: Only messages to this canister.
            method: Only calls of this method.
            contains: Only messages whose argument contains these bytes.
            nth: Which of them, counted from 1.

        Raises:
            ReplicaError: If the admin interface is off or refuses the fault, saying why.
        """
        await self.fault(
            "lose", sender=sender, receiver=receiver, method=method, contains=contains, nth=nth
        )

    async def fault(
        self,
        action: Action,
        *,
        kinds: Sequence[Kind] | None = None,
        sender: Principal | None = None,
        receiver: Principal | None = None,
        method: str | None = None,
        contains: bytes | None = None,
        nth: int = 1,
        code: int | None = None,
        text: str | None = None,
        nanoseconds: int | None = None,
    ) -> int:
        """Do something to one message: the ``nth`` from now that matches and that it may happen to.

        Args:
            action: ``lose`` it; ``reject`` it; ``delay`` it; or ``reorder``: let all overtake it
                that can be done now and may overtake it.
            kinds: Which messages: calls by users (``ingress``), calls by canisters (``request``),
                answers to canisters (``response``). By default all calls.
            sender: Only messages from this principal. The sender of an answer is the callee.
            receiver: Only messages to this canister.
            method: Only calls of this method, and answers to them.
            contains: Only messages whose argument, reply or reject text contains these bytes.
            nth: Which of them, counted from 1.
            code: The reject code; 2 (SYS_TRANSIENT) by default.
            text: The reject's text.
            nanoseconds: How long a delay lasts.

        Returns:
            The fault's number.

        Raises:
            ReplicaError: If the admin interface is off or refuses the fault, saying why.
        """
        body = {
            "action": action,
            **_filter(kinds, sender, receiver, method, contains),
            "nth": nth,
            "code": code,
            "text": text,
            "nanoseconds": nanoseconds,
        }
        given = {name: value for name, value in body.items() if value is not None}
        answer = await self._ask("POST", "/faults", json=given)
        return int(answer["id"])

    async def chances(
        self,
        seed: int,
        *,
        lose: int = 0,
        reject: int = 0,
        delay: int = 0,
        reorder: int = 0,
        longest_delay: int | None = None,
        code: int | None = None,
        text: str | None = None,
        kinds: Sequence[Kind] | None = None,
        sender: Principal | None = None,
        receiver: Principal | None = None,
        method: str | None = None,
        contains: bytes | None = None,
    ) -> None:
        """Let messages between canisters fail by chance from now on, in place of earlier chances.

        What happens to a message follows from the seed, its kind, its sender and receiver, and how
        many of that kind the two have exchanged since: it is the same in every run. What the IC
        could not do to a message does not happen to it.

        Args:
            seed: From which the chances are drawn.
            lose: Chance of a loss per thousand messages.
            reject: Chance of a reject per thousand.
            delay: Chance of a delay per thousand.
            reorder: Chance of being overtaken per thousand.
            longest_delay: In nanoseconds; ten seconds by default.
            code: Of the rejects; 2 (SYS_TRANSIENT) by default.
            text: Of the rejects.
            kinds: As for ``fault``; by default ``request`` and ``response``.
            sender: Only messages from this principal.
            receiver: Only messages to this canister. Calls by a canister to itself and to the
                management canister are struck only if this names them.
            method: Only calls of this method, and answers to them.
            contains: Only messages whose argument, reply or reject text contains these bytes.

        Raises:
            ReplicaError: If the admin interface is off or refuses the chances, saying why.
        """
        body = {
            "seed": seed,
            "lose": lose,
            "reject": reject,
            "delay": delay,
            "reorder": reorder,
            "longest_delay": longest_delay,
            "code": code,
            "text": text,
            **_filter(kinds, sender, receiver, method, contains),
        }
        await self._ask("POST", "/chances", json=body)

    async def clear_faults(self) -> None:
        """Take back every fault that has not happened yet, and all chances.

        What is held back already goes on when its time comes.
        """
        await self._ask("DELETE", "/faults")

    async def advance(self, nanoseconds: int, *, quiet: bool = False) -> int | None:
        """Move the replica's time ahead; what is then due happens.

        Args:
            nanoseconds: How far; 0 moves nothing.
            quiet: Wait until nothing is left to do at that time.

        Returns:
            When there is something to do next, in nanoseconds since 1970; ``None`` if nothing is
            planned.

        Raises:
            ReplicaError: If the admin interface is off.
        """
        answer = await self._ask("POST", "/time", json={"advance": nanoseconds, "quiet": quiet})
        due: int | None = answer["next_due"]
        return due

    async def pause(self) -> int:
        """Let the replica's time stand still; the time, in nanoseconds since 1970."""
        return int((await self._ask("POST", "/time", json={"pause": True}))["time"])

    async def resume(self) -> int:
        """Let the replica's time run on from where it stands; the time."""
        return int((await self._ask("POST", "/time", json={"pause": False}))["time"])

    async def status(self) -> dict[str, Any]:
        """Time, rounds and counts, as the documentation of the admin interface names them."""
        status: dict[str, Any] = await self._ask("GET", "/status")
        return status

    async def queues(self) -> dict[str, Any]:
        """What waits for each canister (``queues``), and what faults hold back (``held``)."""
        found: dict[str, Any] = await self._ask("GET", "/queues")
        return found

    async def call_contexts(self) -> list[dict[str, Any]]:
        """The calls in progress, oldest first, each with the calls that it waits for."""
        found: list[dict[str, Any]] = (await self._ask("GET", "/call_contexts"))["call_contexts"]
        return found

    async def snapshot(self) -> str:
        """Remember the whole subnet: canisters, messages, requests, time, faults and log.

        Executions under way are waited for. A snapshot takes memory until it is forgotten, and is
        gone when the replica ends.

        Returns:
            Its id, for ``restore`` and ``forget``.

        Raises:
            ReplicaError: If the admin interface is off.
        """
        answer: dict[str, str] = await self._ask("POST", "/snapshot")
        return answer["id"]

    async def restore(self, snapshot_id: str) -> None:
        """Make the subnet exactly what it was at a snapshot, as often as you like.

        A call that was sent after the snapshot is undone: who still waits for its answer gets a
        reject (SYS_TRANSIENT), who asks for its status is refused.

        Raises:
            ReplicaError: If there is no such snapshot.
        """
        await self._ask("POST", "/restore", json={"id": snapshot_id})

    async def forget(self, snapshot_id: str) -> None:
        """Drop a snapshot.

        Raises:
            ReplicaError: If there is no such snapshot.
        """
        await self._ask("DELETE", f"/snapshot/{quote(snapshot_id, safe='')}")

    async def messages(self, after: int = 0) -> list[LoggedMessage]:
        """The message log from behind line ``after``, oldest first.

        Raises:
            ReplicaError: If the admin interface is off.
        """
        answer = await self._ask("GET", "/messages", params={"after": str(after)})
        return [
            LoggedMessage(
                seq=line["seq"],
                time=line["time"],
                sender=_principal(line["from"]),
                receiver=Principal.from_text(line["to"]),
                method=line["method"] or "",
                arg=bytes.fromhex(line["arg"] or ""),
                kind=line["kind"],
                outcome=line["outcome"],
                detail=line.get("text") or "",
            )
            for line in answer["messages"]
        ]
