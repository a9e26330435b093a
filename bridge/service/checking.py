"""What can be known of a peer before a flow with it is opened.

A flow to a canister that is not there, or that keeps no outbox for this agent, lives as long as
any other and ends without an answer: nothing in the protocol tells the two from a canister that is
away. The IC tells, if it is asked. Only what certainly stands in the way is refused here. Nothing
here opens or sends anything.
"""

from dataclasses import dataclass

from bridge import dialects
from bridge.agent import Agent
from bridge.agent.error_codes import NO_MODULE, NO_SUCH_CANISTER, NO_SUCH_METHOD, OWN_REFUSAL
from bridge.errors import (
    CallRejectedError,
    CandidError,
    LocalProtocolError,
    PeerUnusableError,
)
from bridge.principal import Principal
from bridge.service.outbox import Outbox
from bridge.service.peers import DEFAULT_DIALECT, PeerDialects


@dataclass(frozen=True, slots=True)
class CheckedPeer:
    """A peer with whom nothing that can be known beforehand stands in a flow's way.

    Attributes:
        peer: The canister.
        dialect: How a flow that is opened to it now is spoken.
        told: Whether its own interface names that dialect; otherwise it was configured, or is the
            default for canisters that publish no interface.
    """

    peer: Principal
    dialect: str
    told: bool


async def check_peer(
    agent: Agent, peer: Principal, chooser: PeerDialects, asked: str | None, *, outbox: bool
) -> CheckedPeer:
    """See that a flow with this canister can come to its end; see `Bridge.check`.

    Args:
        agent: Who asks, and whose messages the canister keeps.
        peer: The canister.
        chooser: What is configured.
        asked: The dialect that the application asks for.
        outbox: Whether the canister must keep an outbox for the agent.
    """
    if not peer.is_canister:
        raise LocalProtocolError(
            f"{peer} is no canister, and an agent can call nothing else",
            hint="give the id of a canister, such as rrkah-fqaaa-aaaaa-aaaaq-cai",
        )
    await _check_module(agent, peer)
    found = await _dialect(agent, peer, chooser.configured(peer, asked))
    if outbox:
        await _check_outbox(agent, peer)
    return found


async def _check_module(agent: Agent, peer: Principal) -> None:
    place = (b"canister", peer.raw)
    paths = ((*place, b"controllers"), (*place, b"module_hash"))
    certificate = await agent.read_state(peer, paths)
    there, module = (certificate.value(path) for path in paths)
    if there is None and module is None:
        raise _nobody(peer)
    if module is None:
        raise _empty(peer)


async def _dialect(agent: Agent, peer: Principal, configured: str | None) -> CheckedPeer:
    if configured is not None:
        return CheckedPeer(peer, configured, told=False)
    section = await agent.metadata(peer, "candid:service")
    try:
        text = None if section is None else section.decode()
        found = None if text is None else dialects.detect(text)
    except (UnicodeDecodeError, CandidError):
        text = found = None
    if text is not None and found is None:
        raise PeerUnusableError(
            f"{peer} takes Async Flow's messages in no dialect that is known here: its interface "
            f"(candid:service) has the methods of none of {', '.join(dialects.DIALECTS)}",
            reason="no_dialect",
            hint="check the canister's id; where its interface does not show all that it takes, "
            "name the dialect: dialect=...",
        )
    return CheckedPeer(peer, found or DEFAULT_DIALECT, told=found is not None)


async def _check_outbox(agent: Agent, peer: Principal) -> None:
    source = Outbox(agent, peer)
    try:
        await source.fetch()
    except CandidError as error:
        raise _no_outbox(peer) from error
    except CallRejectedError as error:
        if error.error_code in NO_SUCH_CANISTER:
            raise _nobody(peer) from error
        if error.error_code in NO_MODULE:
            raise _empty(peer) from error
        if error.error_code in NO_SUCH_METHOD:
            raise _no_outbox(peer) from error
        if error.error_code not in OWN_REFUSAL:
            raise
        if await _lets_us(source):  # one node was wrong, or behind
            return
        raise PeerUnusableError(
            f"{peer} keeps no outbox for {agent.principal}, so no answer could come back; it says: "
            f"{error.reject_message}",
            reason="not_listed",
            hint=f"list {agent.principal} in access.agents of {peer}: in its install argument, or "
            "by asyncFlow_configure as one of its controllers",
        ) from error


async def _lets_us(source: Outbox) -> bool:
    """Whether the canister, asked by a replicated call, lets us read what one node denied."""
    try:
        await source.fetch_certified()
    except CallRejectedError:
        return False
    return True


def _nobody(peer: Principal) -> PeerUnusableError:
    return PeerUnusableError(
        f"there is no canister {peer} on this network",
        reason="no_canister",
        hint="check the id, and that the agent's URL is the network that the canister is on",
    )


def _empty(peer: Principal) -> PeerUnusableError:
    return PeerUnusableError(
        f"the canister {peer} is empty: no module is installed in it",
        reason="no_module",
        hint="install one that uses Async Flow",
    )


def _no_outbox(peer: Principal) -> PeerUnusableError:
    return PeerUnusableError(
        f"{peer} keeps no outbox: it has no method asyncFlow_outbox, from which an agent fetches "
        "its answers",
        reason="no_outbox",
        hint="speak with it through a mailbox: Bridge(agent, store, mailbox=...)",
    )
