"""A client of the Internet Computer over HTTP: every answer is proved, every outcome is told.

Asynchronous, on aiohttp. See :class:`Agent` and :class:`Identity`.
"""

from typing import TYPE_CHECKING, Any

from bridge.agent.agent import EMPTY_ARG, MAINNET_ROOT_KEY, Agent, Status
from bridge.agent.facts import CanisterFacts, SubnetFacts
from bridge.agent.foreign import IdentityLike, PrincipalLike, as_identity, as_principal
from bridge.agent.identity import Identity
from bridge.agent.outcome import REJECT_CODES
from bridge.agent.settings import Limits, Retries, Timeouts
from bridge.agent.signed_call import SignedCall

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
