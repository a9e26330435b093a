"""The agent's mailbox: a canister that stands in for it among canisters without an outbox.

Rule implemented: the protocol page, Outbox, the mailbox; contract: ``candid/mailbox.did``. To its
peers the mailbox is the one who sends and receives. What it says of its own, as that it is not
ours, is never taken for the word of a peer.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from bridge import candid
from bridge.agent import Agent
from bridge.agent.error_codes import NO_MODULE, NO_SUCH_METHOD
from bridge.dialects.unified import from_case, to_case
from bridge.errors import BridgeError, CallRejectedError, UsageError
from bridge.flow import Policy, Transmit, kind_of
from bridge.principal import Principal
from bridge.reference import contract_method
from bridge.reference.contract import install_types
from bridge.service.outbox import PAGE, Entry

_log = logging.getLogger("bridge.service")

_PATIENCE: Final = 5.0
_NOT_FOUND: Final = 3
_ITS_OWN_REFUSAL: Final = 4


@dataclass(frozen=True, slots=True)
class _Method:
    name: str
    args: candid.Codec
    results: candid.Codec


@cache
def _method(name: str) -> _Method:
    method = contract_method("mailbox", name)
    return _Method(name, candid.Codec(method.args), candid.Codec(method.results))


def mailbox_argument(
    owner: Principal,
    *,
    peers: Iterable[Principal] = (),
    closed: bool = False,
    messages: int | None = None,
    size: int | None = None,
    messages_per_caller: int | None = None,
    size_per_caller: int | None = None,
) -> bytes:
    """The install argument of a mailbox canister; its defaults hold for what is left out.

    Args:
        owner: The agent that it belongs to.
        peers: Canisters that the owner deals with; all others share half of the room.
        closed: Whether these alone may leave messages.
        messages: That may wait in all.
        size: Bytes that may wait in all.
        messages_per_caller: That may wait of one caller.
        size_per_caller: Bytes that may wait of one caller.

    Raises:
        CandidError: If a number is out of range.
    """
    settings: dict[str, Any] = {
        "owner": owner,
        "peers": list(peers),
        "closed": closed,
        "messages": messages,
        "bytes": size,
        "messages_per_caller": messages_per_caller,
        "bytes_per_caller": size_per_caller,
    }
    return candid.Codec(install_types("mailbox")).encode(settings)


class Mailbox:
    """One mailbox canister, for the agent that owns it.

    Args:
        agent: The owner.
        canister: The mailbox.
        policy: Says how many cycles go along with a message.
    """

    until_outcome = False

    def __init__(self, agent: Agent, canister: Principal, policy: Policy) -> None:
        if not canister.is_canister:
            raise UsageError(
                f"{canister} is no canister, so it is no mailbox",
                hint="give the id of the mailbox canister",
            )
        self._agent = agent
        self._policy = policy
        self.canister = canister
        # Without a cursor a mailbox gives its oldest entries, and trimming takes those away; so one
        # that was reinstalled, and counts from the start again, hides nothing.
        self._first_page = _method("mailbox_outbox").args.encode({"after": None, "limit": PAGE})

    async def check(self) -> None:
        """See that the mailbox is one and ours, where it can be asked in a few seconds.

        Raises:
            UsageError: If it certainly is not.
        """
        method = _method("mailbox_status")
        try:
            async with asyncio.timeout(_PATIENCE):
                reply = await self._agent.query(self.canister, method.name, method.args.encode())
            (status,) = method.results.decode(reply)
        except CallRejectedError as error:
            if error.code == _ITS_OWN_REFUSAL:
                raise self._not_ours("is not this agent's") from error
            if error.code == _NOT_FOUND or error.error_code in NO_MODULE | NO_SUCH_METHOD:
                raise self._not_ours("is none") from error
            _log.warning("%s: %s", self.canister, error)
        except (BridgeError, TimeoutError) as error:
            _log.warning("the mailbox %s does not answer yet: %s", self.canister, error)
        else:
            owner = status["settings"]["owner"]
            if owner != self._agent.principal:
                raise self._not_ours(f"belongs to {owner}, not to this agent")

    def _not_ours(self, why: str) -> UsageError:
        return UsageError(
            f"the mailbox {self.canister} {why}",
            hint=f"give the id of a mailbox whose owner is {self._agent.principal}",
        )

    # --- What we send ---------------------------------------------------------------------------

    async def carry(self, effect: Transmit) -> bool:
        """See `Carrier.carry`; what the mailbox itself rejects has not left."""
        method = _method("mailbox_send")
        request = {
            "to": effect.peer,
            "dialect": candid.Case(effect.dialect),
            "cycles": self._cycles(effect),
            "message": to_case(effect.message),
        }
        try:
            reply = await self._agent.update(
                self.canister, method.name, method.args.encode(request)
            )
        except CallRejectedError as error:
            if not error.certified:
                raise
            _log.warning("the mailbox forwards nothing to %s: %s", effect.peer, error)
            return False
        (result,) = method.results.decode(reply)
        if result.label == "sent":
            return True
        _log.info("the mailbox could not forward to %s: %s", effect.peer, result.value)
        return False

    def _cycles(self, effect: Transmit) -> int:
        attached = self._policy.cycles_for(effect.peer)
        cycles: int = getattr(attached, kind_of(effect.message).lower())
        return cycles

    # --- What arrives ---------------------------------------------------------------------------

    async def fetch(self) -> list[Entry]:
        """The oldest entries, certified; empty where nothing waits."""
        name = _method("mailbox_outbox").name
        if not _entries(await self._agent.query(self.canister, name, self._first_page)):
            return []
        return _entries(await self._agent.update(self.canister, name, self._first_page))

    async def trim(self, seq: int) -> None:
        """Remove the entries up to and including ``seq``."""
        method = _method("mailbox_outbox_trim")
        await self._agent.update(self.canister, method.name, method.args.encode(seq))


def _entries(reply: bytes) -> list[Entry]:
    (rows,) = _method("mailbox_outbox").results.decode(reply)
    return [
        Entry(row["seq"], from_case(row["message"]), row["from"], row["dialect"].label)
        for row in rows
    ]
