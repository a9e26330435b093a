"""Group G: processes over flows, played by a saga that is the scenario's own.

Of the sender the saga knows nothing but what its application is told. It pays; if the payment was
certainly not done, or was answered with an error, it compensates; if that is not known, it parks
and keeps its lock until the late answer comes.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bridge.conformance import hazards
from bridge.conformance.endpoint import Outcome
from bridge.conformance.instruments import Fault
from bridge.conformance.payloads import Request, is_error, right_answer
from bridge.conformance.play import Play
from bridge.conformance.scenarios.flows import application
from bridge.conformance.scenarios.registry import scenario

_GROUP: Final = "lifecycle"
_NOT_DONE: Final = ("unsent", "refused")
_ATTEMPTS: Final = 2
_ACKS: Final = 40  # more than a receiver sends before the sender has given up
_ENTITY: Final = "account"


class Stage(StrEnum):
    """Where a saga stands."""

    PAYING = "paying"
    PARKED = "parked"
    COMPLETED = "completed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"


@dataclass
class Saga:
    """One process.

    Attributes:
        payment: The id of the flow that pays.
        stage: Where it stands.
        compensation: The id of the flow that compensates; ``None`` while there is none.
    """

    payment: int
    stage: Stage = Stage.PAYING
    compensation: int | None = None


class Sagas:
    """Processes over one sender's flows, at most one at a time for an entity.

    Args:
        play: Whose sender opens the flows.
    """

    def __init__(self, play: Play) -> None:
        self._play = play
        self._locks: dict[str, Saga] = {}

    async def begin(self, entity: str, request: Request) -> Saga | None:
        """Pay; ``None`` while another process holds the entity."""
        if entity in self._locks:
            return None
        saga = Saga(await self._play.open(request.payload))
        self._locks[entity] = saga
        return saga

    async def hear(self, saga: Saga, outcome: Outcome) -> Stage:
        """Go on by what was told of the flow that the saga waits for; where it then stands."""
        if saga.stage is Stage.COMPENSATING:
            if outcome.failure is None:
                self._end(saga, Stage.COMPENSATED)
        elif outcome.failure in _NOT_DONE or (
            outcome.failure is None and is_error(application(self._play), outcome.response)
        ):
            saga.stage = Stage.COMPENSATING
            undoing = Request.small(application(self._play), 99)
            saga.compensation = await self._play.open(undoing.payload)
        elif outcome.failure is not None:
            saga.stage = Stage.PARKED
        else:
            self._end(saga, Stage.COMPLETED)
        return saga.stage

    def _end(self, saga: Saga, stage: Stage) -> None:
        saga.stage = stage
        self._locks = {entity: one for entity, one in self._locks.items() if one is not saga}


@scenario(
    "G1",
    _GROUP,
    "saga: timeout, then late success",
    "parked, then completed; never both paid and compensated",
    sender=("open", "outcome"),
    sender_settings={"attempts": _ATTEMPTS},
)
async def late_success(play: Play) -> None:
    sagas = Sagas(play)
    request = Request.small(application(play))
    await play.plan(*(Fault("b", "ACK", nth) for nth in range(1, _ACKS + 1)), certain=False)
    saga = await _begun(play, sagas, request)
    await _times_out(play, sagas, saga)
    another = await sagas.begin(_ENTITY, Request.small(application(play), 2))
    play.check(another is None, "the parked process to hold its entity", "another has begun")
    await _succeeds_late(play, sagas, saga, request)
    await play.ran_once(saga.payment, hazards.RUNS_TWICE)
    ids = (await play.wire()).ids()
    play.check(ids == [saga.payment], "no compensation of what was paid", f"{len(ids)} flows")
    await _goes_on(play, sagas)
    await _is_refused(play, sagas)


async def _begun(play: Play, sagas: Sagas, request: Request) -> Saga:
    saga = await sagas.begin(_ENTITY, request)
    play.check(saga, "the entity to be free", "a process that has ended holds it")
    assert saga is not None
    return saga


async def _heard(play: Play, sagas: Sagas, saga: Saga, msg_id: int, expected: Stage) -> Outcome:
    """Have the saga go on by the outcome of a flow, and insist on where it then stands."""
    outcome = await play.outcome(msg_id, 40)
    play.check(outcome, "an outcome to be told", "nothing was told", hazards.SILENT_FAILURE)
    assert outcome is not None
    stage = await sagas.hear(saga, outcome)
    play.check(stage is expected, f"the process to be {expected}", f"{stage}, by {outcome}")
    return outcome


async def _times_out(play: Play, sagas: Sagas, saga: Saga) -> None:
    """The payment is done, and its answers are lost until the sender has given up."""
    await play.expect(
        lambda wire: bool(wire.said("ACK", saga.payment)), "the payment to be done and answered"
    )
    outcome = await play.outcome(saga.payment, max(40, 10 * play.a.attempts(_ATTEMPTS)))
    play.check(outcome, "a failure to be told", "nothing was told", hazards.SILENT_FAILURE)
    assert outcome is not None
    play.check(
        outcome.failure is not None and outcome.failure not in _NOT_DONE,
        "an outcome that is unknown: no answer came, and the request may have been done",
        outcome,
        hazards.TOLD_NOT_DONE,
    )
    stage = await sagas.hear(saga, outcome)
    play.check(stage is Stage.PARKED, "the process to be parked", f"{stage}, by {outcome}")


async def _succeeds_late(play: Play, sagas: Sagas, saga: Saga, request: Request) -> None:
    """The next repeat of the answer is not lost any more."""
    await play.plan()

    async def is_told() -> bool:
        outcome = await play.a.outcome(saga.payment)
        return outcome is not None and outcome.failure is None

    told = await play.until_so(is_told, 40)
    play.check(told, "the late answer to be told", "it never is", hazards.NEVER_LATE)
    outcome = await _heard(play, sagas, saga, saga.payment, Stage.COMPLETED)
    play.check(outcome.late, "the answer, marked late", outcome)
    play.check(outcome.times == 1, "late once", f"{outcome.times} times", hazards.HANDED_TWICE)
    fault = right_answer(application(play), request, outcome.response, play.dialect)
    play.check(fault is None, "the right response", fault)


async def _goes_on(play: Play, sagas: Sagas) -> None:
    """The entity is free again: the next process takes the ordinary way."""
    saga = await _begun(play, sagas, Request.small(application(play), 3))
    await _heard(play, sagas, saga, saga.payment, Stage.COMPLETED)
    play.check(saga.compensation is None, "no compensation", "there is one")


async def _is_refused(play: Play, sagas: Sagas) -> None:
    """A payment that is answered with an error is compensated."""
    request = Request.refused(application(play))
    if request is None:
        play.leave_out(f"nothing is known that {play.b.entry.name} answers with an error")
        return
    saga = await _begun(play, sagas, request)
    await _heard(play, sagas, saga, saga.payment, Stage.COMPENSATING)
    assert saga.compensation is not None
    await _heard(play, sagas, saga, saga.compensation, Stage.COMPENSATED)
    await play.ran_once(saga.compensation, hazards.RUNS_TWICE)
