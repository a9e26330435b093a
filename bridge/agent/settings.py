"""How long an agent waits, how often it tries, how much it takes in: numbers only.

Durations are nanoseconds, sizes are bytes, as everywhere in this package.
"""

import random
from dataclasses import dataclass
from typing import Final

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Durations, in nanoseconds.

    Args:
        connect: To establish one connection.
        request: For one HTTP request from start to the last byte of its answer.
        exchange: For a query or a state read as a whole, repetitions included.
        call: For an update call as a whole, polls included. Longer than ``ingress_expiry``, so that
            a call which never ran can be proved not to have run.
        ingress_expiry: How far ahead requests expire. The IC takes at most 300 s; less leaves room
            for clocks that differ.
        first_poll: Before the first poll of a call's status.
        longest_poll: Between two polls, at most; the wait grows up to it.
        resubmit: How often a call is sent again while the IC does not know it.
    """

    connect: int = 10 * SECOND
    request: int = 30 * SECOND
    exchange: int = 90 * SECOND
    call: int = 360 * SECOND
    ingress_expiry: int = 240 * SECOND
    first_poll: int = 200 * MILLISECOND
    longest_poll: int = 2 * SECOND
    resubmit: int = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try again where trying again is safe, and how long to wait.

    Args:
        attempts: Tries in all, the first one included.
        connection_attempts: The same where not even a connection is made.
        first_delay: Before the second try, in nanoseconds; doubles from try to try.
        longest_delay: At most, in nanoseconds; caps what a replica asks for by ``Retry-After`` too.
        unproven_answers: After so many answers in a row that cannot be believed, polling gives up.
    """

    attempts: int = 6
    connection_attempts: int = 3
    first_delay: int = 250 * MILLISECOND
    longest_delay: int = 10 * SECOND
    unproven_answers: int = 3

    def delay(self, attempt: int, asked: int | None = None) -> float:
        """Seconds to wait after a failed attempt (counted from 1), with jitter.

        Args:
            attempt: Which attempt has failed.
            asked: What the replica asked for, in nanoseconds.
        """
        longest: int = min(self.first_delay << min(attempt - 1, 32), self.longest_delay)
        # Half fixed, half by chance: clients that failed together do not come back together.
        chosen = longest * (0.5 + 0.5 * random.random())  # noqa: S311 - jitter, not secrecy
        if asked is not None:
            chosen = max(chosen, min(asked, self.longest_delay))
        return chosen / SECOND


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and counts.

    Args:
        in_flight: Requests under way at once, each on a connection of its own; more wait their
            turn.
        response: Bytes accepted as one answer. The IC's largest are a few MiB.
    """

    in_flight: int = 128
    response: int = 16 * 1024 * 1024
