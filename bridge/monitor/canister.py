"""`CanisterWatch`: a canister that keeps ``candid/watch.did``, asked by its three methods.

Its answers are read by the contract's own types; what does not keep the contract is no answer.
"""

import contextlib
from collections.abc import AsyncGenerator
from functools import cache
from typing import Any, Final

from bridge import candid
from bridge.agent import Agent
from bridge.agent.quote import quote
from bridge.errors import (
    CallRejectedError,
    CandidError,
    UsageError,
    WatchContractError,
    WatchRefusedError,
)
from bridge.flow import Role
from bridge.monitor import answers
from bridge.monitor.follow import on_and_on, to_the_end
from bridge.monitor.history import LOOK, History
from bridge.monitor.records import (
    FlowEvent,
    Seen,
    State,
    Status,
    Trust,
)
from bridge.monitor.watch import MOST_PAGES, PAGE, Page, Watch
from bridge.principal import Principal
from bridge.reference import contract_method

_WITHIN: Final = 30_000_000_000
_REFUSED: Final = 4  # the canister's own reject
_INSPECTED: Final = "canister_inspect_message"  # which refuses an update before it is a message


@cache
def _codecs(method: str) -> tuple[candid.Codec, candid.Codec]:
    function = contract_method("watch", method)
    return candid.Codec(function.args), candid.Codec(function.results)


class CanisterWatch(Watch):
    """Watches a canister that uses an Async Flow library.

    Args:
        agent: Who asks: a controller of the canister, or one of its monitors. Stays the caller's.
        canister_id: The canister.
        certified: Whether the canister's subnet has to agree on each answer (an update call, which
            takes seconds on mainnet), instead of one node signing it (a query).
        name: What it is called; its id by default.
        within: For one answer, in nanoseconds.

    Raises:
        PrincipalError: If the id is no principal.
        UsageError: If it is not a canister's.
    """

    kind = "canister"

    def __init__(
        self,
        agent: Agent,
        canister_id: Principal | str,
        *,
        certified: bool = False,
        name: str | None = None,
        within: int = _WITHIN,
    ) -> None:
        if isinstance(canister_id, str):
            canister_id = Principal.from_text(canister_id)
        if not canister_id.is_canister:
            raise UsageError(
                f"{canister_id} is no canister's id, so there is nothing to watch",
                hint="give the id of a canister, such as rrkah-fqaaa-aaaaa-aaaaq-cai",
            )
        super().__init__(name or str(canister_id))
        self.agent = agent
        self.canister_id = canister_id
        self._certified = certified
        self._within = within

    @property
    def trust(self) -> Trust:
        """``CERTIFIED``, or ``ONE_NODE`` for queries."""
        if self._certified:
            return Trust.CERTIFIED
        return Trust.ONE_NODE if self.agent.checks_queries else Trust.UNVERIFIED

    async def _ask(self, method: str, *values: Any, certified: bool = False) -> Any:
        args, results = _codecs(method)
        call = self.agent.update if certified or self._certified else self.agent.query
        try:
            reply = await call(self.canister_id, method, args.encode(*values), within=self._within)
            return results.decode(reply)[0]
        except CallRejectedError as rejected:
            if rejected.code != _REFUSED and _INSPECTED not in rejected.reject_message:
                raise
            raise WatchRefusedError(
                f"{self.canister_id} does not let {self.agent.principal} watch it: "
                + quote(rejected.reject_message),
                hint="ask as a controller or a listed monitor (--identity, asyncFlow_configure)",
            ) from rejected
        except CandidError as error:
            raise WatchContractError(
                f"what {self.canister_id} answers to {method} does not keep the contract: "
                f"{error.message}",
                hint="see that it uses an Async Flow library, of a version that this one knows",
            ) from error

    # --- Status ---

    async def status(self) -> Status:  # noqa: D102 - as in Watch
        answer = await self._ask("asyncFlow_status")
        return answers.status(answer, source=self.name, trust=self.trust)

    # --- Flows ---

    async def _page(self, role: Role | None, state: State | None, cursor: bytes | None) -> Page:
        asked = {
            "role": None if role is None else candid.Case(str(role)),
            "state": None if state is None else candid.Case(str(state)),
            "cursor": cursor,
            "limit": PAGE,
        }
        answer = await self._ask("asyncFlow_flows", asked)
        flows = tuple(answers.flow(one) for one in answer["flows"][:PAGE])
        strange = len(answer["flows"]) > PAGE or any(
            role not in (None, flow.role) or state not in (None, flow.state) for flow in flows
        )
        if strange or (cursor is not None and answer["next"] == cursor):
            raise WatchContractError(
                f"{self.canister_id} tells flows that were not asked for",
                hint="a page has what fits the question, at most as many as that says, and an end",
            )
        return Page(flows, answer["next"])

    # --- Events ---

    async def _events(self, after: int, limit: int, certified: bool) -> list[FlowEvent]:
        asked = {"after": after, "limit": limit}
        answer = await self._ask("asyncFlow_events", asked, certified=certified)
        return [answers.event(one) for one in answer[:limit]]

    async def latest_event(self) -> FlowEvent | None:  # noqa: D102 - as in Watch
        first = await self._events(0, 1, False)
        if not first:
            return None
        event, status = first[0], await self.status()
        ahead = event.seq + status.gauges.get("events kept", 0) - 2
        page = await self._events(max(ahead, event.seq), LOOK, False)
        page = page or await self._events(event.seq, LOOK, False)
        for _ in range(MOST_PAGES):
            if not page:
                break
            event = page[-1]
            page = await self._events(event.seq, LOOK, False)
        return event

    async def events(  # noqa: D102 - as in Watch
        self,
        *,
        after: int | FlowEvent = 0,
        follow: bool = False,
        poll_every: float = 2.0,
        patience: float | None = None,
    ) -> AsyncGenerator[Seen, None]:
        history = History(self._events, after)
        told = (
            on_and_on(history, self.status, poll_every=poll_every, patience=patience)
            if follow
            else to_the_end(history)
        )
        async with contextlib.aclosing(told):
            async for one in told:
                yield one
