"""Asks the store for the sums that the protocol's admission decides by.

Whoever writes into an outbox that we watch was chosen by us, so every canister whose messages we
fetch is a listed one.
"""

import asyncio

from bridge.errors import LocalProtocolError
from bridge.flow import Message, New, Policy, Role, kind_of
from bridge.flow import admission as rules
from bridge.flow.usage import Usages
from bridge.flow.world import FinRate
from bridge.principal import Principal
from bridge.store import Store


class Admission:
    """Who and what gets in, by what the store holds now.

    Args:
        store: Knows what flows take of the quotas.
        policy: The quotas.
        accept: Canisters whose requests are taken; ``None``: of every canister that is watched.
    """

    def __init__(self, store: Store, policy: Policy, accept: frozenset[Principal] | None) -> None:
        self._store = store
        self._policy = policy
        self._access = rules.Access(canisters=accept)
        self._fins = FinRate()

    async def _usages(self, role: Role, peer: Principal) -> Usages:
        with_peer, everyone = await asyncio.gather(
            self._store.usage(role, peer), self._store.usage(role)
        )
        return Usages(peer=with_peer, everyone=everyone)

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
        return rules.check_new(
            caller,
            message,
            now=now,
            lag=lag,
            access=rules.Access(canisters=frozenset({caller})),
            usages=await self._usages(Role.RECEIVER, caller),
            policy=self._policy,
        )

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
        rules.check_send(payload, await self._usages(Role.SENDER, peer), self._policy)

    async def answer_fits(self, peer: Principal, response: bytes | None) -> bool:
        """Whether the quotas have room to store an answer."""
        usages = await self._usages(Role.RECEIVER, peer)
        return rules.answer_fits(response, usages, self._policy)

    def may_fin_unknown(self, now: int) -> bool:
        """Whether an ACK that names no flow may be answered now; counts it if so."""
        self._fins, may = self._fins.take(now, self._policy)
        return may
