"""A connection to PostgreSQL that sends a large question whole before it waits for the answer.

Knows neither stores nor sessions.
"""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow
from psycopg.waiting import Ready, Wait

_T = TypeVar("_T")


class Connection(psycopg.Connection[TupleRow]):
    """A connection, as psycopg has it."""

    def wait(self, gen: PQGen[_T], *args: Any, **kwargs: Any) -> _T:
        """See `psycopg.Connection.wait`.

        In a pipeline psycopg takes what it gave to libpq for sent. Where that is more than the
        socket takes at once, it would wait for an answer to what is with us still, for ever.
        """
        return super().wait(_sent(self.pgconn, gen), *args, **kwargs)


def _sent(pgconn: PGconn, gen: PQGen[_T]) -> PQGen[_T]:
    """What a generator waits for; before it waits only to read, all is sent."""
    try:
        wanted = next(gen)
        while True:
            ready = 0
            while wanted == Wait.R and not ready & Ready.R and pgconn.flush():
                ready = yield Wait.RW
            wanted = gen.send(Ready.R if ready & Ready.R else (yield wanted))
    except StopIteration as end:
        result: _T = end.value
        return result
