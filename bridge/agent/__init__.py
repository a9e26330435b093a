"""A client of the Internet Computer over HTTP: every answer is proved, every outcome is told.

Asynchronous, on aiohttp. See :class:`Agent` and :class:`Identity`. Where what is refused:

=============================================  ====================================================
forged, foreign or old certificates            ``bridge.wire.certificate``, asked by ``exchange``
the root subnet's word about other subnets     ``root_scope``
answers to queries that no node has signed     ``nodes``, with ``bridge.wire.query_signature``
a call's end that is not proved                ``update``, with ``outcome``
what only a wrong clock would make fresh       ``clock``
CBOR and hash trees made to do harm            ``bridge.wire._cbor`` and ``bridge.wire.hashtree``
answers too large, too slow or cut off         ``transport``
=============================================  ====================================================
"""

from typing import TYPE_CHECKING, Any

from bridge.agent.agent import EMPTY_ARG, MAINNET_ROOT_KEY, Agent
from bridge.agent.facts import CanisterFacts, SubnetFacts
from bridge.agent.foreign import IdentityLike, PrincipalLike, as_identity, as_principal
from bridge.agent.identity import Identity
from bridge.agent.outcome import REJECT_CODES
from bridge.agent.settings import Limits, Retries, Timeouts
from bridge.agent.signed_call import SignedCall
from bridge.agent.status import Status

if TYPE_CHECKING:
    from bridge.agent.keystore import dfx_identity, icp_identity

__all__ = [
    "EMPTY_ARG",
    "MAINNET_ROOT_KEY",
    "REJECT_CODES",
    "Agent",
    "CanisterFacts",
    "Identity",
    "IdentityLike",
    "Limits",
    "PrincipalLike",
    "Retries",
    "SignedCall",
    "Status",
    "SubnetFacts",
    "Timeouts",
    "as_identity",
    "as_principal",
    "dfx_identity",
    "icp_identity",
]


def __getattr__(name: str) -> Any:
    """Load the readers of other tools' key stores when one is first named."""
    if name in ("dfx_identity", "icp_identity"):
        from bridge.agent import keystore  # noqa: PLC0415

        return getattr(keystore, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
