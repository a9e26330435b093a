"""Asks the store for the sums that the protocol's admission decides by.

Whoever writes into an outbox that we watch was chosen by us, so every canister whose messages we
fetch there is a listed one. Into a mailbox strangers may write too.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from bridge.errors import LocalProtocolError
from bridge.flow import Ack, Message, New, Policy, Role, SenderFlow, kind_of
from bridge.flow import admission as rules
from bridge.flow.usage import Usage, Usages
from bridge.flow.world import FinRate
from bridge.principal import Principal
from bridge.service.uncommitted import Uncommitted
from bridge.store import Store

_TRIES: Final = 10
_Verdict = TypeVar("_Verdict")


class Admission:
    """Who and what gets in, by what the store holds now.

    Args:
        store: Knows what flows take of the quotas.
        uncommitted: Knows what the store does not know yet.
        policy: The quotas.
        accept: Canisters whose requests are taken; ``None``: of every canister.
        strangers: Whether canisters that nobody chose can write to us.
    """

    def __init__(
        self,
        store: Store,
        uncommitted: Uncommitted,
        policy: Policy,
        accept: frozenset[Principal] | None,
        *,
        strangers: bool = False,
    ) -> None:
        self._store = store
        self._uncommitted = uncommitted
        self._policy = policy
        self._access = rules.Access(canisters=accept)
        self._strangers = strangers and accept is None
        self._listed: set[Principal] = set()
        self._fins = FinRate()

    def list_sender(self, peer: Principal) -> None:
        """Count a canister among those that do not share their room with strangers."""
        self._listed.add(peer)

    def _is_listed(self, peer: Principal) -> bool:
        return not self._strangers or peer in self._listed

    async def _unlisted(self, role: Role, everyone: Usage) -> Usage:
        if not self._strangers or role is Role.SENDER:
            return Usage()
        listed = await asyncio.gather(*(self._store.usage(role, peer) for peer in self._listed))
        return everyone - sum(listed, Usage())

    async def _weigh(
        self,
        role: Role,
        peer: Principal,
        rule: Callable[[Usages], _Verdict],
        is_full: Callable[[_Verdict], bool],
    ) -> _Verdict:
        """Decide by the sums.

        What is decided and not stored yet counts in full, so that many decisions at once exceed
        nothing. That may be too much, so before a quota is said to be reached, what is not stored
        yet is waited for. Nothing is awaited after the decision: what follows from it is among the
        uncommitted before the next one is made.
        """
        tries = 0
        while True:
            marks = self._uncommitted.mark(role, peer), self._uncommitted.mark(role)
            with_peer, everyone = await asyncio.gather(
                self._store.usage(role, peer), self._store.usage(role)
            )
            unlisted = await self._unlisted(role, everyone)
            of_peer, of_all = (mark.missing() for mark in marks)
            usages = Usages(with_peer + of_peer, everyone + of_all, unlisted + of_all)
            verdict = rule(usages)
            tries += 1
            if not is_full(verdict) or of_all == Usage() or tries == _TRIES:
                return verdict
            await self._uncommitted.one_ended()

    def check_message(self, caller: Principal, message: Message) -> str | None:
        """What is asked of every message; the reason why it is refused, or None."""
        refused = rules.check_message(caller, message, self._access, self._policy)
        if refused is None and isinstance(message, New) and not self._access.may_send(caller):
            return "access"
        return refused

    async def check_new(
        self, caller: Principal, message: New, *, now: int, lag: int
    ) -> rules.Verdict:
        """What is said about a NEW for which there is no flow."""
        listed = frozenset({caller}) if self._is_listed(caller) else None

        def rule(usages: Usages) -> rules.Verdict:
            return rules.check_new(
                caller,
                message,
                now=now,
                lag=lag,
                access=rules.Access(canisters=listed),
                usages=usages,
                policy=self._policy,
            )

        def is_full(verdict: rules.Verdict) -> bool:
            return verdict.refused is not None and verdict.refused.startswith("quota_")

        return await self._weigh(Role.RECEIVER, caller, rule, is_full)

    async def check_send(self, peer: Principal, payload: bytes) -> None:
        """Whether a new flow of ours may be opened.

        Raises:
            LocalProtocolError: If the peer is no canister, the payload is too large or a quota is
                reached.
        """
        if not peer.is_canister:
            raise LocalProtocolError(
                f"{peer} is no canister, and an agent can call nothing else",
                hint="give the id of a canister, such as rrkah-fqaaa-aaaaa-aaaaq-cai",
            )
        message = New(0, payload)
        if len(payload) > self._policy.max_payload:
            raise LocalProtocolError(
                f"a {kind_of(message)} of {len(payload)} bytes is too large; "
                f"max_payload is {self._policy.max_payload}",
                hint="send less, or in several flows",
            )

        def rule(usages: Usages) -> LocalProtocolError | None:
            try:
                rules.check_send(payload, usages, self._policy)
            except LocalProtocolError as error:
                return error
            return None

        refused = await self._weigh(Role.SENDER, peer, rule, lambda error: error is not None)
        if refused is not None:
            raise refused

    async def answer_fits(self, peer: Principal, response: bytes | None) -> bool:
        """Whether the quotas have room to store an answer."""

        def rule(usages: Usages) -> bool:
            listed = self._is_listed(peer)
            return rules.answer_fits(response, usages, self._policy, listed=listed)

        return await self._weigh(Role.RECEIVER, peer, rule, lambda fits: not fits)

    async def ack_fits(self, record: SenderFlow, ack: Ack) -> bool:
        """Whether the quotas have room to store the response that came for a flow of ours."""
        if rules.free_bytes_needed(record, ack.payload, self._policy) == 0:
            return True  # as most: its room was set aside, and no sums need be asked for

        def rule(usages: Usages) -> bool:
            return rules.ack_fits(record, ack.payload, usages, self._policy)

        return await self._weigh(Role.SENDER, record.peer, rule, lambda fits: not fits)

    def may_fin_unknown(self, now: int) -> bool:
        """Whether an ACK that names no flow may be answered now; counts it if so."""
        self._fins, may = self._fins.take(now, self._policy)
        return may
