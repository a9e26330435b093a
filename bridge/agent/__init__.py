"""A client of the Internet Computer over HTTP: every answer is proved, every outcome is told.

Asynchronous, on aiohttp. See :class:`Agent` and :class:`Identity`.
"""

from bridge.agent.agent import EMPTY_ARG, MAINNET_ROOT_KEY, Agent, Status
from bridge.agent.facts import CanisterFacts, SubnetFacts
from bridge.agent.foreign import IdentityLike, PrincipalLike, as_identity, as_principal
from bridge.agent.identity import Identity
from bridge.agent.keystore import dfx_identity, icp_identity
from bridge.agent.outcome import REJECT_CODES
from bridge.agent.settings import Limits, Retries, Timeouts
from bridge.agent.signed_call import SignedCall

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
