"""Drives the reference canisters through their contracts in ``candid/``.

The types come from the contracts themselves, so that a canister which differs from its contract is
found out by its first answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from bridge import candid
from bridge.agent import Agent
from bridge.errors import BridgeError
from bridge.principal import Principal
from bridge.reference.contract import contract_method, install_types


@cache
def _method(contract: str, name: str) -> tuple[candid.Codec, candid.Codec]:
    method = contract_method(contract, name)
    return candid.Codec(method.args), candid.Codec(method.results)


def install_argument(
    settings: Mapping[str, Any], *, agents: list[Principal], monitors: list[Principal] | None = None
) -> bytes:
    """The install argument of a reference canister (``candid/settings.did``).

    Args:
        settings: Settings by name, durations in nanoseconds; the canister's defaults for the rest.
        agents: Agents that may send to it and have an outbox.
        monitors: Who, beside controllers, may watch it.

    Raises:
        CandidError: If there is no setting of a name, or its value is not of its type.
    """
    access = {"canisters": None, "agents": agents, "monitors": monitors or []}
    return candid.Codec(install_types("settings")).encode(
        {"settings": dict(settings), "access": access}
    )


@dataclass(frozen=True, slots=True)
class ReferenceCanister:
    """One installed reference canister, whichever of the roles it has.

    Attributes:
        agent: Who asks it; has to be its controller or a monitor.
        canister_id: Its id.
    """

    agent: Agent
    canister_id: Principal

    async def _ask(self, contract: str, name: str, *values: Any, query: bool) -> Any:
        args, results = _method(contract, name)
        call = self.agent.query if query else self.agent.update
        return results.decode(await call(self.canister_id, name, args.encode(*values)))[0]

    async def send(self, to: Principal, payload: bytes) -> int:
        """Have a sender open a flow; returns its id.

        Raises:
            BridgeError: If the canister refuses, with its reason.
        """
        answer = await self._ask("reference", "send", {"to": to, "payload": payload}, query=False)
        if answer.label == "err":
            raise BridgeError(f"{self.canister_id} opened no flow: {answer.value}")
        msg_id: int = answer.value
        return msg_id

    async def outcome(self, msg_id: int) -> candid.Case | None:
        """How a sender's flow ended; ``None`` while it is open."""
        outcome: candid.Case | None = await self._ask("reference", "outcome", msg_id, query=True)
        return outcome

    async def handled(self, sender: Principal, msg_id: int) -> int:
        """How often a receiver's handler ran for a flow."""
        times: int = await self._ask(
            "reference", "handled", {"sender": sender, "msg_id": msg_id}, query=True
        )
        return times

    async def flow(self, role: str, msg_id: int) -> dict[str, Any] | None:
        """What the canister says of one flow, as a ``FlowView`` of ``candid/watch.did``."""
        cursor = None
        while True:
            page = await self._ask(
                "watch",
                "asyncFlow_flows",
                {"role": candid.Case(role), "state": None, "cursor": cursor, "limit": 100},
                query=True,
            )
            for view in page["flows"]:
                if view["msg_id"] == msg_id:
                    found: dict[str, Any] = view
                    return found
            cursor = page["next"]
            if cursor is None:
                return None
