"""This machine's clock against the IC's: measured by certificates, corrected where that is safe.

Two uses of time differ in what a wrong value can do. An *expiry* set by a wrong clock only gets a
request refused, so any certificate's time may correct it. *Freshness* is what keeps old
certificates out: there a correction needs proof. A subnet does not sign the future, so a
certificate ahead of our clock proves that the clock is behind. A clock that is ahead cannot be told
from a replayed old certificate, except by one that shows a request of ours: it was made later.
"""

import time
from collections.abc import Callable
from typing import Final

from bridge.agent.settings import SECOND
from bridge.errors import CertificateError
from bridge.wire import Certificate

TOLERATED: Final = 30 * SECOND
"""Differences up to this, in nanoseconds, are left alone: they disturb nothing."""

_AGREEMENT: Final = 60 * SECOND


class Clock:
    """The present as the IC sees it.

    Args:
        local: This machine's clock, in nanoseconds since 1970.
    """

    def __init__(self, local: Callable[[], int] = time.time_ns) -> None:
        self._local = local
        # How far the IC's clock was ahead of this machine's when last measured; and of that, what
        # is proved.
        self._measured = 0
        self._proved = 0

    def now(self) -> int:
        """The present for judging what is fresh."""
        return self._local() + self._proved

    def expiry(self, ahead: int) -> int:
        """An expiry for a request that is signed now."""
        return self._local() + self._measured + ahead

    def measure(self, certificate: Certificate) -> bool:
        """Take the time of a verified certificate that was fetched just now.

        Returns:
            Whether that changed the measured difference, so that a request which was refused for
            its expiry is worth another try.
        """
        difference = certificate.time - self._local()
        if abs(difference) <= TOLERATED:
            difference = 0
        changed = abs(difference - self._measured) > TOLERATED
        self._measured = difference
        self._proved = max(self._proved, difference)
        return changed

    def proves_passed(self, expiry: int) -> bool:
        """Whether it is proved that an expiry had passed before its request was even sent."""
        return self._local() + self._proved > expiry + _AGREEMENT

    def describe(self) -> str:
        """The measured difference as a sentence for messages."""
        side = "behind" if self._measured > 0 else "ahead of"
        return f"this machine's clock is {abs(self._measured) // SECOND} s {side} the IC's"

    def check_answer(self, certificate: Certificate, *, signed_now: bool) -> None:
        """Check the freshness of a certificate that shows the status of a request of ours.

        Args:
            certificate: Verified.
            signed_now: Whether the request was signed a moment ago, so that the certificate cannot
                be old; of an older request it could be, and would prove nothing of the clock.

        Raises:
            CertificateError: If it is not fresh, and no measurement explains that.
        """
        try:
            certificate.check_fresh(self.now())
        except CertificateError:
            if not signed_now:
                raise
            explained = self._local() + self._measured
            if not self._measured or abs(certificate.time - explained) > _AGREEMENT:
                raise
            self._proved = self._measured
