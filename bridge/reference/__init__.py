"""The reference canisters as a Python program drives them: install, send, ask how flows stand.

Everything goes through their contracts in ``candid/``, so that it serves every implementation that
keeps those, in whatever language.
"""

from bridge.reference.canisters import ReferenceCanister, install_argument
from bridge.reference.contract import contract_method, contract_methods
from bridge.reference.settings import SHORT_POLICY, SHORT_WAITS

__all__ = [
    "SHORT_POLICY",
    "SHORT_WAITS",
    "ReferenceCanister",
    "contract_method",
    "contract_methods",
    "install_argument",
]
