"""Reading a canister's history to its end, or on and on: while contact is lost, and over restarts.

Knows no canister: it is given the history, and a way to ask how its canister stands.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Final

from bridge.agent.error_codes import NO_SUCH_METHOD
from bridge.errors import BridgeError, CallRejectedError, TransportError, WatchContractError
from bridge.monitor.history import History
from bridge.monitor.records import (
    ContactLost,
    ContactRegained,
    HistoryReset,
    Restarted,
    Seen,
    Status,
)
from bridge.monitor.watch import MOST_PAGES

_PASSES: Final = (2, 5)  # transient; stopped, as in an upgrade, or out of something
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_STATUS_EVERY: Final = 5  # looks at the history between two looks for a start


async def to_the_end(history: History) -> AsyncGenerator[Seen, None]:
    """What the history holds.

    Raises:
        WatchContractError: If it has no end, or is another one at each look.
        BridgeError: As `History.read`.
    """
    resets = 0
    for _ in range(MOST_PAGES):
        told, more = await history.read()
        for one in told:
            yield one
        if not more:
            return
        resets += _has_reset(told)
        if resets > 1:  # each costs an update call
            break
    raise WatchContractError(
        "the history has no end, or is another one at each look",
        hint="follow it instead, or give the number of an event to begin after",
    )


async def on_and_on(
    history: History,
    status: Callable[[], Awaitable[Status]],
    *,
    poll_every: float,
    patience: float | None,
) -> AsyncGenerator[Seen, None]:
    """What the history holds and what is yet to come, as `Watch.events` says.

    Args:
        history: The history.
        status: Asks its canister how it stands.
        poll_every: Seconds between two looks where nothing more waits.
        patience: Seconds without an answer that are borne.
    """
    contact, starts = _Contact(patience), _Starts(status)
    while True:
        told: list[Seen] = []
        failure: BridgeError | None = None
        pause = poll_every
        try:
            found, more = await history.read()
            regained = contact.stands()
            told += [*regained, *found]
            reset = _has_reset(found)
            if more and not reset:
                pause = 0
            # Whoever was away, or has another history, may have been started meanwhile.
            told += await starts.look(now=reset or bool(regained))
        except BridgeError as error:
            failure = error
        for one in told:
            yield one
        if failure is not None:
            lost, pause = contact.failed(failure)
            for one in lost:
                yield one
        await asyncio.sleep(pause)


def _has_reset(told: Iterable[object]) -> bool:
    return any(isinstance(one, HistoryReset) for one in told)


class _Contact:
    """Whether there are answers, and what is told of that.

    Args:
        patience: Seconds without an answer that are borne.
    """

    def __init__(self, patience: float | None) -> None:
        self._patience = patience
        self._stood = False
        self._failures = 0
        self._since = 0.0

    def stands(self) -> list[ContactRegained]:
        """Note that there was an answer; what to tell if there was none before it."""
        failures, self._failures, self._stood = self._failures, 0, True
        return [ContactRegained(failures)] if failures else []

    def failed(self, error: BridgeError) -> tuple[list[ContactLost], float]:
        """What to tell of a failure, and how many seconds to wait.

        Raises:
            BridgeError: The failure itself, if it does not pass by itself or lasts too long.
        """
        now = asyncio.get_running_loop().time()
        passes = isinstance(error, TransportError) or (
            isinstance(error, CallRejectedError)
            and error.code in _PASSES
            and error.error_code not in NO_SUCH_METHOD
        )
        if not self._stood or not passes:
            raise error
        self._failures += 1
        if self._failures == 1:
            self._since = now
        if self._patience is not None and now - self._since >= self._patience:
            raise error
        longest = min(_FIRST_PAUSE * 2 ** min(self._failures - 1, 16), _LONGEST_PAUSE)
        pause = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
        return ([ContactLost(error)] if self._failures == 1 else []), pause


class _Starts:
    """How often the canister was started, looked at now and then.

    Args:
        status: Asks it how it stands.
    """

    def __init__(self, status: Callable[[], Awaitable[Status]]) -> None:
        self._status = status
        self._known: int | None = None
        self._looks = 0

    async def look(self, *, now: bool) -> list[Restarted]:
        """What to tell, if it was started since the last look; raises as the way to ask does."""
        self._looks -= 1
        if self._looks > 0 and not now:
            return []
        self._looks = 0  # should there be no answer, it is asked again
        status = await self._status()
        self._looks = _STATUS_EVERY
        before, self._known = self._known, status.starts
        if before in (None, status.starts) or status.starts is None:
            return []
        return [Restarted(status.starts, status.version or "")]
