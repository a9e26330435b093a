"""For which canisters the root subnet may speak.

Other subnets' certificates carry a delegation that names their canisters; the root subnet's carry
none. Without a check of its own, its honest word that it does not know a canister or a request
would pass for proof about canisters of any subnet, once a node on the way asks it instead. So its
own ranges, certified, are fetched before it is believed.

Rule implemented: interface specification, section The system state tree (``canister_ranges`` of the
root subnet).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from bridge.agent.clock import Clock
from bridge.agent.settings import SECOND
from bridge.errors import CertificateError
from bridge.principal import Principal
from bridge.wire import Certificate
from bridge.wire.hashtree import Path

_LIFETIME: Final = 3600 * SECOND


class RootScope:
    """The root subnet's canister ranges, fetched when first needed and again after an hour.

    Args:
        root_key: The root of trust, in DER form.
        clock: The present.
        read: Fetches a certificate of paths for a canister, verified but for the scope.
    """

    def __init__(
        self,
        root_key: bytes,
        clock: Clock,
        read: Callable[[Principal, Path], Awaitable[Certificate]],
    ) -> None:
        self._root_key = root_key
        self._clock = clock
        self._read = read
        self._path = (
            b"subnet",
            Principal.self_authenticating(root_key).raw,
            b"canister_ranges",
        )
        self._shown: Certificate | None = None
        self._one_fetch = asyncio.Lock()

    async def check(self, certificate: Certificate, canister_id: Principal) -> None:
        """Check that a verified certificate may speak of a canister, where the root subnet made it.

        Raises:
            CertificateError: If the canister is not on the root subnet.
            TransportError: If the root subnet's ranges cannot be fetched.
        """
        # The management canister's id stands for any subnet.
        if certificate.delegation is not None or canister_id == Principal.management():
            return
        if self._covers(certificate, canister_id) or self._is_known(canister_id):
            return
        async with self._one_fetch:
            if self._is_known(canister_id):
                return
            shown = await self._read(canister_id, self._path)
            shown.check_fresh(self._clock.now())
            if shown.delegation is None and self._covers(shown, canister_id):
                self._shown = shown
                return
        raise CertificateError(
            f"the root subnet answered for canister {canister_id}, which is not on it",
            hint="another subnet was asked than the canister's; no answer was used",
        )

    def _covers(self, certificate: Certificate, canister_id: Principal) -> bool:
        return certificate.covers(self._root_key, canister_id)

    def _is_known(self, canister_id: Principal) -> bool:
        shown = self._shown
        if shown is None or abs(self._clock.now() - shown.time) > _LIFETIME:
            return False
        return self._covers(shown, canister_id)
