"""The ingress history: what became of each request, remembered as long as it can be asked for.

Rule implemented: interface specification, section Request status and Calling canisters: one request
id is executed at most once, its answer is kept for five minutes, and after that its status is
``done`` until its expiry has passed.
"""

import enum
import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.replica.state.messages import Payload, Reply

RETENTION: Final = 300 * 1_000_000_000
MAX_ANSWER_BYTES: Final = 1024**3
"""Of all answers that are kept; beyond it the oldest are forgotten early, as on a replica."""


class Phase(enum.Enum):
    """The values of ``/request_status/<id>/status``; an answer's own kind replaces ``ANSWERED``."""

    RECEIVED = "received"
    PROCESSING = "processing"
    ANSWERED = "answered"
    DONE = "done"


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request.

    Attributes:
        sender: Who may ask for its status.
        effective_canister_id: The canister under whose address it was sent.
        canister_id: The callee.
        waiters: Whom to tell, once it is answered and certified.
        forget_at: When its answer, or then the request itself, is forgotten; 0 before there is one.
    """

    request_id: bytes
    expiry: int
    sender: bytes
    effective_canister_id: bytes
    canister_id: bytes
    phase: Phase = Phase.RECEIVED
    payload: Payload | None = None
    forget_at: int = 0
    waiters: list[Any] = field(default_factory=list)


def _answer_size(record: RequestRecord) -> int:
    payload = record.payload
    if payload is None:
        return 0
    return len(payload.data if isinstance(payload, Reply) else payload.message)


class IngressHistory:
    """All requests that are remembered."""

    def __init__(self) -> None:
        self.records: dict[bytes, RequestRecord] = {}
        self._forget_at: list[tuple[int, bytes]] = []
        self._answered: deque[RequestRecord] = deque()
        self._answer_bytes = 0

    @classmethod
    def of(cls, records: Iterable[RequestRecord]) -> "IngressHistory":
        """A history of these requests."""
        made = cls()
        made.records = {record.request_id: record for record in records}
        made._forget_at = [
            (record.forget_at, record.request_id)
            for record in made.records.values()
            if record.forget_at
        ]
        heapq.heapify(made._forget_at)
        answered = [record for record in made.records.values() if record.payload is not None]
        made._answered = deque(sorted(answered, key=lambda record: record.forget_at))
        made._answer_bytes = sum(map(_answer_size, answered))
        return made

    def add(self, record: RequestRecord) -> None:
        """Remember a request."""
        self.records[record.request_id] = record

    def answered(self, record: RequestRecord, payload: Payload, now: int) -> None:
        """Keep the answer for five minutes, and the id at least until the request's expiry."""
        record.phase, record.payload = Phase.ANSWERED, payload
        self._answered.append(record)
        self._answer_bytes += _answer_size(record)
        self._forget(record, now + RETENTION)

    def _forget(self, record: RequestRecord, time: int) -> None:
        record.forget_at = time
        heapq.heappush(self._forget_at, (time, record.request_id))

    def expire(self, now: int) -> Iterator[tuple[RequestRecord, bool]]:
        """Drop what is too old: each record that changed, and whether it is gone altogether."""
        while self._answer_bytes > MAX_ANSWER_BYTES:
            yield self._forget_oldest_answer(), False
        while self._forget_at and self._forget_at[0][0] <= now:
            _, request_id = heapq.heappop(self._forget_at)
            record = self.records[request_id]
            while self._answered and self._answered[0].forget_at <= now:
                self._forget_oldest_answer()
            if record.expiry < now:
                del self.records[request_id]
                yield record, True
            else:
                self._forget(record, record.expiry + 1)
                yield record, False

    def _forget_oldest_answer(self) -> RequestRecord:
        record = self._answered.popleft()
        self._answer_bytes -= _answer_size(record)
        record.phase, record.payload = Phase.DONE, None
        return record

    def next_expiry(self) -> int | None:
        """When ``expire`` has something to do."""
        return self._forget_at[0][0] if self._forget_at else None
