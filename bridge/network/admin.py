"""The client of an embedded replica's admin interface: message faults and the message log."""

from dataclasses import dataclass
from typing import Any

import aiohttp

from bridge.errors import ReplicaError
from bridge.principal import Principal


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
        kind: ``ingress``, ``request``, ``reply``, ``reject`` or ``timer``.
        outcome: ``executed``, ``trapped``, ``lost`` or ``rejected``.
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
        await self._ask(
            "POST",
            "/faults",
            json={
                "action": "lose",
                "from": str(sender) if sender else None,
                "to": str(receiver) if receiver else None,
                "method": method,
                "contains": contains.hex() if contains is not None else None,
                "nth": nth,
            },
        )

    async def clear_faults(self) -> None:
        """Take back every fault that has not happened yet."""
        await self._ask("DELETE", "/faults")

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
