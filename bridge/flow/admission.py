"""Who gets in: what is decided before a message reaches a flow's table, and before a send.

Rule implemented: the protocol page, section Admission, in its order. Pure: sums, lists and cycles
come in as arguments, so that every engine decides alike, wherever it keeps them. A refusal is a
reason to be counted, never an answer to the peer.
"""

from dataclasses import dataclass, field
from typing import Final

from bridge.errors import LocalProtocolError
from bridge.flow.messages import MAX_MSG_ID, Message, New
from bridge.flow.policy import Policy
from bridge.flow.records import SenderFlow
from bridge.flow.usage import Usage, Usages
from bridge.principal import Principal

_ULID_RANDOM_BITS: Final = 80
_MILLISECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call.

    Args:
        canisters: The canisters that may send NEWs; None: every canister.
        agents: The agents that may call at all. Agents always have to be listed.
    """

    canisters: frozenset[Principal] | None = None
    agents: frozenset[Principal] = field(default_factory=frozenset)

    def is_listed(self, principal: Principal) -> bool:
        """Whether somebody put this very principal on a list."""
        return principal in self.agents or (
            self.canisters is not None and principal in self.canisters
        )

    def may_send(self, principal: Principal) -> bool:
        """Whether NEWs of this principal are admitted."""
        if principal.is_canister and self.canisters is None:
            return True
        return self.is_listed(principal)


def check_message(
    caller: Principal, message: Message, access: Access, policy: Policy, *, named: bool = False
) -> str | None:
    """What is asked of every message; the reason why it is refused, or None.

    Who is removed from a list keeps ending its flows; only its NEWs are refused.

    Args:
        caller: Who called.
        message: What came.
        access: The lists.
        policy: The settings.
        named: Whether it names a stored flow with this caller.
    """
    if not 0 <= message.msg_id <= MAX_MSG_ID:
        return "malformed_id"
    if isinstance(message, New):
        if len(message.payload) > policy.max_payload:
            return "too_large"
    elif len(getattr(message, "payload", None) or b"") > policy.max_response:
        return "too_large"
    may_end = named and not isinstance(message, New)
    if not (caller.is_canister or caller in access.agents or may_end):
        return "caller"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What admission says about a NEW without a flow. The fields go into the ``Received`` event.

    Args:
        refused: Why it is refused; None if it is admitted.
        accept_cycles: How many of the attached cycles to accept.
        paid: Whether its flow is paid for.
        floor: The trusted ULID time in nanoseconds, else 0.
    """

    refused: str | None = None
    accept_cycles: int = 0
    paid: bool = False
    floor: int = 0


def ulid_time(msg_id: int) -> int:
    """The time in a ULID, in nanoseconds since 1970."""
    return (msg_id >> _ULID_RANDOM_BITS) * _MILLISECOND


def check_new(
    caller: Principal,
    message: New,
    *,
    now: int,
    lag: int,
    access: Access,
    usages: Usages,
    policy: Policy,
    cycles: int = 0,
    marked_paid: bool = False,
) -> Verdict:
    """Decide about a NEW for which there is no flow; ``check_message`` comes before.

    A NEW of a known flow needs only ``access.may_send``; then it goes to its flow's row.

    Args:
        caller: Who called.
        message: The NEW.
        now: Nanoseconds since 1970.
        lag: How far observed time stands behind ``now``.
        access: The lists.
        usages: Sums over the receiver's flows.
        policy: The settings.
        cycles: Attached cycles.
        marked_paid: Whether a paid mark of this flow is kept.
    """
    if not access.may_send(caller):
        return Verdict(refused="access")
    trusted = policy.peer(caller).ids == "ulid"
    time = ulid_time(message.msg_id) if trusted else 0
    if trusted:
        # A clock that was set back must not open what the tombstones have already let go.
        latest = max(now, now - lag)
        if time <= latest - policy.horizon:
            return Verdict(refused="horizon")
        if time > now + policy.skew:
            return Verdict(refused="future")
    if now < policy.admit_from and not time > policy.admit_from:
        return Verdict(refused="admit_from")
    size = len(message.payload)
    full = _over_quota(usages, size, policy, listed=access.is_listed(caller))
    if full is not None:
        return Verdict(refused=full)
    if policy.min_cycles == 0 or marked_paid:
        return Verdict(paid=marked_paid, floor=time)
    if cycles < policy.min_cycles:
        return Verdict(refused="cycles")
    return Verdict(accept_cycles=policy.min_cycles, paid=True, floor=time)


def check_send(payload: bytes, usages: Usages, policy: Policy) -> None:
    """Whether the quotas have room for a new flow of ours.

    Args:
        payload: Of the NEW.
        usages: Sums over the sender's flows; ``unlisted`` is not looked at.
        policy: The settings.

    Raises:
        LocalProtocolError: If a quota is reached.
    """
    full = _over_quota(usages, len(payload), policy, listed=True)
    if full is not None:
        raise LocalProtocolError(
            f"no new flow can be opened: the quota {full.removeprefix('quota_')} is reached",
            hint="wait until flows end, take their outcomes, or raise the quota",
        )


def answer_fits(
    response: bytes | None, usages: Usages, policy: Policy, *, listed: bool = True
) -> bool:
    """Whether an answer can be stored: up to ``response_room`` always, beyond it if bytes are free.

    Args:
        response: The answer.
        usages: Sums over the receiver's flows, with the flow to be answered still unanswered.
        policy: The settings.
        listed: Whether the sender is on a list.
    """
    beyond = len(response or b"") - policy.response_room
    return beyond <= 0 or _bytes_over(usages, beyond, policy, listed=listed) is None


def free_bytes_needed(record: SenderFlow, response: bytes | None, policy: Policy) -> int:
    """How many bytes of a response that came with an ACK have no room that was set aside for them.

    Nothing is stored of a response that comes after another; a flow that is open no more has no
    room, and so needs free bytes for all of its late response.

    Args:
        record: The flow that the ACK names, with its sender.
        response: What the ACK carries.
        policy: The settings.
    """
    if record.response_hash is not None:
        return 0
    reserved = Usage.of(record).unanswered * policy.response_room
    return max(0, len(response or b"") - reserved)


def ack_fits(record: SenderFlow, response: bytes | None, usages: Usages, policy: Policy) -> bool:
    """Whether a response can be stored; an ACK for which there are no bytes is as lost.

    It is counted as ``refused.quota_bytes``; the receiver sends it again, and by then there may be.

    Args:
        record: The flow that the ACK names, with its sender.
        response: What the ACK carries.
        usages: Sums over the sender's flows; ``unlisted`` is not looked at.
        policy: The settings.
    """
    needed = free_bytes_needed(record, response, policy)
    return needed == 0 or _bytes_over(usages, needed, policy, listed=True) is None


def _over_quota(usages: Usages, size: int, policy: Policy, *, listed: bool) -> str | None:
    """The first quota that one more flow would break."""
    peer, everyone, unlisted = usages.peer, usages.everyone, usages.unlisted
    for name, used, most in (
        ("quota_open_flows_per_peer", peer.open, policy.open_flows_per_peer),
        ("quota_open_flows", everyone.open, policy.open_flows),
        ("quota_tombstones_per_peer", peer.tombstones, policy.tombstones_per_peer),
        ("quota_tombstones", everyone.tombstones, policy.tombstones),
    ):
        if used >= most:
            return name
    if not listed:
        if unlisted.open >= policy.open_flows // 2:
            return "quota_unlisted_open_flows"
        if unlisted.tombstones >= policy.tombstones // 2:
            return "quota_unlisted_tombstones"
    return _bytes_over(usages, size + policy.response_room, policy, listed=listed)


def _bytes_over(usages: Usages, more: int, policy: Policy, *, listed: bool) -> str | None:
    def would_use(usage: Usage) -> int:
        return usage.counted_bytes(policy.response_room) + more

    if would_use(usages.peer) > policy.bytes_per_peer:
        return "quota_bytes_per_peer"
    if would_use(usages.everyone) > policy.bytes_stored:
        return "quota_bytes"
    if not listed and would_use(usages.unlisted) > policy.bytes_stored // 2:
        return "quota_unlisted_bytes"
    return None
