"""The application of a Python end: it does what it is told to, as the canister `player` does.

A request's payload is a word that says how its handler behaves; everything else is answered with
the payload itself.
"""

import asyncio
from collections import Counter
from typing import Any

from bridge.flow import Ask, Decision, Tell
from bridge.principal import Principal
from bridge.service import DEFERRED, FinalFailure, Outcome, Request, RetryLater


class AsToldError(Exception):
    """What the application fails with when it is told to fail."""


class Player:
    """The application, and what it was told, asked and given.

    Attributes:
        told: What it took, in order: ``what``, ``msg_id``, ``failure``, ``response`` (hex),
            ``redelivered``, ``tries``.
        asked: What its corruption handler was asked: ``msg_id``, ``kind``, ``decide``.
        ran: How often the handler began, by peer and id.
        trap_until: Tellings fail up to this try.
        changed: Whether it knows more than was written down.
        hangs: Set once a handler is under way that never ends by itself.
    """

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.ran: Counter[tuple[Principal, int]] = Counter()
        self.trap_until = 0
        self.hangs = asyncio.Event()
        self.changed = True
        self._tries: Counter[tuple[str, int]] = Counter()

    def remembered(self) -> dict[str, Any]:
        """All that it knows, as JSON has it."""
        return {
            "told": self.told,
            "asked": self.asked,
            "trap_until": self.trap_until,
            "ran": [[str(peer), msg_id, times] for (peer, msg_id), times in self.ran.items()],
            "tries": [[what, msg_id, times] for (what, msg_id), times in self._tries.items()],
        }

    def resume(self, remembered: dict[str, Any]) -> None:
        """Know again what an earlier process wrote down."""
        self.told, self.asked = remembered["told"], remembered["asked"]
        self.trap_until = remembered["trap_until"]
        for peer, msg_id, times in remembered["ran"]:
            self.ran[Principal.from_text(peer), msg_id] = times
        for what, msg_id, times in remembered["tries"]:
            self._tries[what, msg_id] = times

    async def handle(self, request: Request) -> Any:
        """The handler of requests."""
        word, _, rest = request.payload.partition(b" ")
        if word != b"trap":  # a trap of a synchronous handler leaves nothing behind
            self.ran[request.peer, request.msg_id] += 1
            self.changed = True
        match word:
            case b"null":
                return None
            case b"bytes" if rest.isdigit():
                return b"a" * int(rest)
            case b"later":
                return DEFERRED
            case b"retry" | b"trap":
                raise RetryLater
            case b"fail":
                raise FinalFailure(b"failed for good")
            case b"trap-once":
                if request.redelivered:
                    return b"redelivered"
                await asyncio.sleep(0)
                raise AsToldError
            case b"running-trap":
                await asyncio.sleep(0)
                raise AsToldError
            case b"running":
                await asyncio.sleep(0)
            case b"hang" if request.redelivered:
                return b"redelivered"
            case b"hang":
                self.hangs.set()
                await asyncio.Event().wait()
        return request.payload

    async def take_outcome(self, outcome: Outcome) -> None:
        """The handler of outcomes."""
        what = "failed" if outcome.failure else "late" if outcome.late else "answered"
        self._take(
            what,
            outcome.msg_id,
            failure=outcome.failure,
            response=outcome.response,
            redelivered=outcome.redelivered,
        )

    async def take_telling(self, telling: Tell) -> None:
        """The operator's ear."""
        self._take(
            telling.what.value,
            telling.msg_id,
            failure=None,
            response=None,
            redelivered=telling.redelivered,
        )

    def _take(
        self,
        what: str,
        msg_id: int,
        *,
        failure: str | None,
        response: bytes | None,
        redelivered: bool,
    ) -> None:
        self._tries[what, msg_id] += 1
        self.changed = True
        tries = self._tries[what, msg_id]
        if tries <= self.trap_until:
            raise AsToldError
        self.told.append(
            {
                "what": what,
                "msg_id": msg_id,
                "failure": None if failure is None else str(failure),
                "response": None if response is None else response.hex(),
                "redelivered": redelivered,
                "tries": tries,
            }
        )

    async def decide(self, question: Ask) -> Decision:
        """The corruption handler: once more, please."""
        self.changed = True
        self.asked.append(
            {"msg_id": question.msg_id, "kind": question.kind, "decide": question.decide}
        )
        return Decision.RESEND
