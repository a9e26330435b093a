"""A virtual network of engines under faults, from a seed.

Parties open flows to each other while messages are lost, repeated, delayed and reordered, networks
part, queues are full, processes crash between any two effects and are upgraded, clocks jump,
handlers and applications fail, and a hostile party speaks out of turn. Then all faults end, and
everything has to come to its end within a bounded virtual time. What is right is judged by
``flow_lab.judge``, which knows the page and not the code.
"""

import hashlib
import heapq
import random
from collections import deque
from dataclasses import dataclass, field, replace

from bridge.errors import LocalProtocolError
from bridge.flow import (
    Ack,
    Ask,
    Cancel,
    Decided,
    Decision,
    Deferred,
    DropDeadLetter,
    FailedForNow,
    Fin,
    Finish,
    HandlerFailed,
    HandOver,
    New,
    NotSent,
    Policy,
    Refused,
    Rejected,
    Rerun,
    RetryDeadLetter,
    Returned,
    Role,
    Tell,
    Telling,
    Transmit,
)
from bridge.flow.admission import Access
from bridge.flow.codec import from_json, to_json
from bridge.flow.engine import Engine
from bridge.flow.trace import FlowKey
from bridge.principal import Principal
from flow_lab.judge import Judge

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
START = 1_700_000_000 * SECOND

FAULTS = (
    "loss",
    "duplicates",
    "delay",
    "partition",
    "queue_full",
    "crash",
    "upgrade",
    "clock",
    "handlers",
    "damage",
    "hostile",
    "nowhere",
    "room",
    "quota",
)
# A message is never longer on its way than this; the horizon's slack is an hour.
LONGEST_WAY = 50 * MINUTE
FAULT_PHASE = 6 * HOUR
# Lifetimes of both sides one after the other, then retention and horizon, and the clocks' jumps.
LONGEST_HEALING = 20 * 24 * HOUR


@dataclass(frozen=True)
class Plan:
    """One run; the same plan gives the same run.

    Args:
        seed: Where all chance comes from.
        flows: How many flows are opened.
        faults: Which kinds of fault may happen.
    """

    seed: int
    flows: int = 200
    faults: tuple[str, ...] = FAULTS


class BrokenError(AssertionError):
    """A run broke a promise.

    Attributes:
        plan: The run.
        timeline: The last steps of the flow in question.
    """

    def __init__(self, plan: Plan, what: str, timeline: list[str]) -> None:
        super().__init__(f"{what} ({plan})")
        self.plan = plan
        self.timeline = timeline


@dataclass
class Party:
    """A canister with an application.

    Attributes:
        todo: Effects committed but not carried out; lost by a crash.
        epoch: Counts restarts; what belongs to an earlier one is lost.
        offset: How far its clock is from true time.
    """

    principal: Principal
    engine: Engine
    todo: deque = field(default_factory=deque)
    epoch: int = 0
    offset: int = 0
    up: bool = True
    wakes_at: int | None = None


def principal(n: int) -> Principal:
    """A canister's principal."""
    return Principal(bytes([0] * 6 + [n >> 8, n & 255, 1, 1]))


NOWHERE = principal(999)
EVE = principal(666)


class Simulation:
    """One run of a plan."""

    def __init__(self, plan: Plan, *, trace: bool = False) -> None:
        self.plan = plan
        self._streams: dict[str, random.Random] = {}
        self.random = self._chance("what happens anyway")
        self.now = START
        self.healed = False
        self._queue: list = []
        self._counter = 0
        self.digest = hashlib.sha256()
        self.policy = Policy().validate()
        most = {
            "loss": 0.4,
            "duplicates": 0.3,
            "delay": 0.2,
            "damage": 0.05,
            "handlers": 0.3,
            "crash": 0.002,
            "queue_full": 0.1,
        }
        self._rates = {
            fault: self._chance(fault).random() * rate
            for fault, rate in most.items()
            if fault in plan.faults
        }
        self.judge = Judge(self.policy, keep_timelines=trace)
        self.parties = {}
        for n in range(1, self.random.randint(2, 4) + 1):
            self._add(principal(n))
        for party in self.parties.values():
            party.engine.policy = self._tight_policy()
        self.apart: set[frozenset[Principal]] = set()

    def _chance(self, purpose: str) -> random.Random:
        """Where chance for one purpose comes from.

        A stream for each, so that a fault which is left out does not change the others.
        """
        stream = self._streams.get(purpose)
        if stream is None:
            stream = self._streams[purpose] = random.Random(f"{self.plan.seed} {purpose}")
        return stream

    def _may(self, fault: str) -> bool:
        return fault in self.plan.faults

    def _strikes(self, fault: str) -> bool:
        """Whether a fault strikes now."""
        rate = self._rates.get(fault, 0)
        return not self.healed and rate > 0 and self._chance(fault).random() < rate

    def _tight_policy(self) -> Policy:
        """What holds for a party until the faults end: little room in flight, low quotas."""
        changes = {}
        if self._may("room"):
            changes["in_flight"] = self._chance("room").choice((2, 10, 400))
        if self._may("quota"):
            changes["open_flows_per_peer"] = self._chance("quota").choice((3, 30, 1_000))
        if self._may("handlers"):
            chance = self._chance("handlers")
            changes["handler_attempts"] = chance.choice((1, 2, 10))
            changes["rerun_stalled"] = chance.random() < 0.5
        return replace(self.policy, **changes)

    # --- Setting the scene --------------------------------------------------------------------

    def _add(self, who: Principal) -> None:
        self.parties[who] = Party(who, self._engine(who))

    def _engine(self, who: Principal) -> Engine:
        return Engine(
            self.policy,
            now=self.now,
            access=Access(),
            on_step=lambda *args: self._stepped(who, *args),
        )

    def _stepped(self, who, before, event, now, transition) -> None:
        self.digest.update(f"{now}{who.raw}{transition.rows}".encode())
        self.judge.stepped(who, before, event, now, transition)

    def at(self, time: int, action, *args) -> None:
        """Schedule something."""
        self._counter += 1
        heapq.heappush(self._queue, (time, self._counter, action, args))

    def soon(self, most: int, action, *args) -> None:
        """Schedule something within a while."""
        self.at(self.now + self.random.randrange(most + 1), action, *args)

    def _scene(self) -> None:
        names = list(self.parties)
        for n in range(self.plan.flows):
            who, peer = self.random.sample(names, 2)
            if self._may("nowhere") and self._chance("nowhere").random() < 0.01:
                peer = NOWHERE
            self.at(START + self.random.randrange(FAULT_PHASE), self._open, who, peer, n)
        for fault, most, action in (
            ("crash", 3, lambda: self._crash_someone(upgrade=False)),
            ("upgrade", 2, lambda: self._crash_someone(upgrade=True)),
            ("partition", 2, self._part),
            ("clock", 2, self._jump),
        ):
            if self._may(fault):
                chance = self._chance(fault)
                for _ in range(chance.randint(0, most)):
                    self.at(START + chance.randrange(FAULT_PHASE), action)
        if self._may("hostile"):
            for _ in range(self.plan.flows // 10):
                moment = START + self._chance("hostile").randrange(FAULT_PHASE)
                self.at(moment, self._be_hostile)
        self.at(START + FAULT_PHASE, self._heal)

    def run(self) -> str:
        """Run to the end.

        Returns:
            A digest of every step; equal for equal plans.

        Raises:
            BrokenError: If a promise is broken.
        """
        try:
            self._scene()
            while self._queue:
                time, _, action, args = heapq.heappop(self._queue)
                self.now = max(self.now, time)
                in_time = self.now <= START + FAULT_PHASE + LONGEST_HEALING
                assert in_time, "2: the run does not come to an end after healing"
                action(*args)
            self.judge.end({who: list(party.engine.flows()) for who, party in self.parties.items()})
        except (AssertionError, LocalProtocolError) as error:
            raise BrokenError(
                self.plan, str(error) or repr(error), self.judge.last_steps()
            ) from error
        return self.digest.hexdigest()

    # --- Running a party ----------------------------------------------------------------------

    def _u(self) -> int:
        return self.random.randrange(1000 * self.policy.jitter_permille + 1)

    def _share(self) -> int:
        return self.random.randrange(1_000_001)

    def _clock(self, party: Party) -> int:
        return self.now + party.offset

    def _did(self, party: Party, effects) -> None:
        """Something was committed: its effects are carried out a moment later, in order."""
        fresh = not party.todo
        party.todo.extend(effects)
        if fresh and party.todo:
            self.soon(20_000_000, self._carry_out, party, party.epoch)
        self._set_alarm(party)

    def _set_alarm(self, party: Party) -> None:
        due = party.engine.next_due()
        if due is None or not party.up:
            return
        due = max(due - party.offset, self.now)
        if party.wakes_at is None or due < party.wakes_at or party.wakes_at <= self.now:
            party.wakes_at = due
            self.at(due, self._alarm, party, due)

    def _alarm(self, party: Party, set_for: int) -> None:
        if party.wakes_at != set_for or not party.up:
            return
        party.wakes_at = None
        clock = self._clock(party)
        due = party.engine.next_due()
        if due is not None and due <= clock:
            self._did(party, party.engine.tick(clock, self._u))
        self._set_alarm(party)

    def _carry_out(self, party: Party, epoch: int) -> None:
        while party.todo and party.epoch == epoch:
            if self._strikes("crash"):
                self._crash(party, upgrade=False)
                return
            effect = party.todo.popleft()
            match effect:
                case Transmit():
                    self._transmit(party, effect)
                case HandOver():
                    self._handle(party, effect)
                case Tell():
                    self._tell(party, effect)
                case Ask():
                    self.soon(MINUTE, self._decide, party, party.epoch, effect)

    # --- The network --------------------------------------------------------------------------

    def _transmit(self, party: Party, effect: Transmit) -> None:
        role = Role.RECEIVER if isinstance(effect.message, Ack) else Role.SENDER
        key = FlowKey(role, effect.peer, effect.message.msg_id)
        if not party.engine.is_current(key, effect, self._clock(party)):
            return
        if effect.peer == NOWHERE:
            self.soon(SECOND, self._failed, party, party.epoch, effect, Refused)
            return
        if self._strikes("queue_full"):
            self.judge.not_sent(party.principal, effect)
            self._failed(party, party.epoch, effect, NotSent)
            return
        if self._strikes("loss"):
            if self._chance("loss").random() < 0.3:
                self.soon(SECOND, self._failed, party, party.epoch, effect, Rejected)
            return
        for _ in range(2 if self._strikes("duplicates") else 1):
            way = 5 * SECOND
            if self._strikes("delay"):
                way = LONGEST_WAY
            message = effect.message
            if self._strikes("damage"):
                message = self._damaged(message)
                self.judge.damaged(party.principal, effect)
            self.soon(way, self._arrive, party.principal, effect.peer, message)

    def _damaged(self, message):
        wrong = self._chance("damage").randrange(1, 2**32)
        match message:
            case New():
                return replace(message, payload=message.payload + b"!")
            case Ack():
                return replace(message, payload=b"damaged", hash=wrong)
            case Fin():
                return replace(message, hash=wrong)

    def _failed(self, party: Party, epoch: int, effect: Transmit, kind) -> None:
        if party.up and party.epoch == epoch:
            clock = self._clock(party)
            self._did(party, party.engine.failed(effect, kind, now=clock))

    def _arrive(self, caller: Principal, to: Principal, message) -> None:
        party = self.parties.get(to)
        if party is None or not party.up or frozenset({caller, to}) in self.apart:
            return
        clock = self._clock(party)
        sync = isinstance(message, New) and _kind(message.payload) == "synchronous"
        fresh = sync and (caller, message.msg_id) not in party.engine.receivers
        if fresh and self._fails():
            return  # the handler traps, and the message with it: nothing of it is kept
        effects, _ = party.engine.receive(message, caller, now=clock, u=self._u())
        if fresh and any(isinstance(effect, HandOver) for effect in effects):
            key = FlowKey(Role.RECEIVER, caller, message.msg_id)
            self.judge.handled(to, key, redelivered=False, synchronous=True)
            effects = party.engine.answer(key, _response(message.payload), now=clock, u=self._u())
        self._did(party, effects)

    def _part(self) -> None:
        pair = frozenset(self._chance("partition").sample(list(self.parties), 2))
        self.apart.add(pair)
        self.soon(2 * HOUR, self.apart.discard, pair)

    # --- Applications -------------------------------------------------------------------------

    def _fails(self) -> bool:
        return self._strikes("handlers")

    def _open(self, who: Principal, peer: Principal, n: int) -> None:
        party = self.parties[who]
        if not party.up:
            self.soon(10 * MINUTE, self._open, who, peer, n)
            return
        payload = f"{n} {self.random.choice(KINDS)}".encode()
        try:
            effects = party.engine.send(peer, n, payload, now=self._clock(party))
        except LocalProtocolError:  # at the quota: the application tries again
            self.soon(HOUR, self._open, who, peer, n)
            return
        self.judge.opened(who, peer, n, _response(payload))
        self._did(party, effects)
        if self.random.random() < 0.02:  # the application repeats its send, which is the same flow
            self._did(party, party.engine.send(peer, n, payload, now=self._clock(party)))
        if self.random.random() < 0.02:
            self.soon(30 * MINUTE, self._cancel, party, peer, n)

    def _cancel(self, party: Party, peer: Principal, n: int) -> None:
        if party.up:
            self._apply(party, FlowKey(Role.SENDER, peer, n), Cancel(), may_be_late=True)

    def _apply(self, party: Party, key: FlowKey, event, *, may_be_late: bool = False) -> None:
        try:
            self._did(party, party.engine.apply(key, event, self._clock(party)))
        except LocalProtocolError:
            if not may_be_late:
                raise

    def _handle(self, party: Party, effect: HandOver) -> None:
        key = FlowKey(Role.RECEIVER, effect.peer, effect.msg_id)
        if not party.engine.is_current(key, effect, self._clock(party)):
            return
        self.judge.handled(party.principal, key, redelivered=effect.redelivered, synchronous=False)
        if _kind(effect.payload) == "deferred":
            self._apply(party, key, Deferred(lag=party.engine.time.lag))
            self.soon(2 * HOUR, self._answer_deferred, party, key, effect.payload)
        else:
            self.soon(10 * MINUTE, self._finish_handler, party, party.epoch, key, effect)

    def _finish_handler(self, party: Party, epoch: int, key: FlowKey, effect: HandOver) -> None:
        if not party.up or party.epoch != epoch:
            return
        if not self._fails():
            self._answer(party, key, effect.payload)
            return
        lag = party.engine.time.lag
        match self.random.choice(("trap", "for now", "for good")):
            case "trap":
                self._apply(party, key, HandlerFailed(of=effect, lag=lag))
            case "for now":
                self.judge.excused(party.principal, key)
                self._apply(party, key, FailedForNow(lag=lag), may_be_late=True)
            case "for good":
                self._answer(party, key, effect.payload, final=True)

    def _answer_deferred(self, party: Party, key: FlowKey, payload: bytes) -> None:
        if not party.up:
            self.soon(10 * MINUTE, self._answer_deferred, party, key, payload)
            return
        self._answer(party, key, payload)

    def _answer(self, party: Party, key: FlowKey, payload: bytes, *, final: bool = False) -> None:
        clock = self._clock(party)
        response = _response(payload)
        try:
            effects = party.engine.answer(key, response, now=clock, u=self._u(), final=final)
        except LocalProtocolError:
            return  # answered by another try, or gone
        self._did(party, effects)

    def _tell(self, party: Party, effect: Tell) -> None:
        key = FlowKey(effect.role, effect.peer, effect.msg_id)
        if not party.engine.is_current(key, effect, self._clock(party)):
            return
        self.judge.told(party.principal, effect)
        self.soon(MINUTE, self._told, party, party.epoch, key, effect)

    def _told(self, party: Party, epoch: int, key: FlowKey, effect: Tell) -> None:
        if not party.up or party.epoch != epoch or effect.what is Telling.FORGOTTEN:
            return
        lag = party.engine.time.lag
        if self._fails():
            self._apply(party, key, HandlerFailed(of=effect, u=self._u(), lag=lag))
            return
        before = party.engine.get(key)
        self._apply(party, key, Returned(of=effect, lag=lag))
        if party.engine.get(key) is not before:
            self.judge.taken(party.principal, effect)
        if effect.what is Telling.STALLED:
            self._apply(party, key, Rerun(lag=lag), may_be_late=True)
        if effect.what is Telling.DEAD_LETTER:
            self.soon(HOUR, self._operate, party, key)

    def _operate(self, party: Party, key: FlowKey) -> None:
        if not party.up:
            self.soon(HOUR, self._operate, party, key)
            return
        event = self.random.choice((RetryDeadLetter(), DropDeadLetter(), Finish()))
        if not isinstance(event, RetryDeadLetter):
            self.judge.dropped(party.principal, key)
        self._apply(party, key, event, may_be_late=True)

    def _decide(self, party: Party, epoch: int, effect: Ask) -> None:
        if not party.up or party.epoch != epoch or not effect.decide:
            return
        key = FlowKey(effect.role, effect.peer, effect.msg_id)
        if not party.engine.is_current(key, effect, self._clock(party)):
            return
        lag = party.engine.time.lag
        if self._fails():
            self._apply(party, key, HandlerFailed(of=effect, u=self._u(), lag=lag))
            return
        room = self.random.random() < 0.9
        decision = self.random.choice(list(Decision))
        if effect.kind == "ACK" and decision is Decision.ACCEPT:
            decision = Decision.RESEND
        if decision is Decision.ABANDON:
            self.judge.abandoned(party.principal, key)
        event = Decided(decision=decision, u=self._u(), lag=lag, room=room)
        self._apply(party, key, event)

    # --- Faults -------------------------------------------------------------------------------

    def _crash_someone(self, *, upgrade: bool) -> None:
        party = self.parties[self._chance("crash").choice(list(self.parties))]
        if party.up:
            self._crash(party, upgrade=upgrade)

    def _crash(self, party: Party, *, upgrade: bool) -> None:
        party.todo.clear()
        party.epoch += 1
        party.up = False
        party.wakes_at = None
        self.soon(30 * MINUTE, self._come_back, party, upgrade)

    def _come_back(self, party: Party, upgrade: bool) -> None:
        if party.up:
            return
        party.up = True
        if upgrade:  # the next version reads what this one wrote
            old = party.engine
            kept = [from_json(to_json(record)) for record in old.flows()]
            party.engine = self._engine(party.principal)
            party.engine.time = old.time
            party.engine.policy = old.policy
            party.engine.load(kept)
        clock = self._clock(party)
        self._did(party, party.engine.restart(clock, self._u, self._share))

    def _jump(self) -> None:
        party = self.parties[self._chance("clock").choice(list(self.parties))]
        party.offset += self._chance("clock").choice((-5 * MINUTE, HOUR, 8 * HOUR, 72 * HOUR))
        self._set_alarm(party)

    def _be_hostile(self) -> None:
        to = self._chance("hostile").choice(list(self.parties))
        n = self._chance("hostile").randrange(self.plan.flows)
        message = self._chance("hostile").choice(
            (Ack(n, b"evil", None), Ack(n, None, 5), Fin(n, None), Fin(n, 5), New(n, b"0 running"))
        )
        for _ in range(self._chance("hostile").randint(1, 3)):
            self._arrive(EVE, to, message)

    def _heal(self) -> None:
        self.healed = True
        self.apart.clear()
        for party in self.parties.values():
            party.engine.policy = self.policy
            self._come_back(party, upgrade=False)
            self._set_alarm(party)


KINDS = ("synchronous", "running", "deferred")


def _kind(payload: bytes) -> str:
    return payload.decode().rstrip("!").partition(" ")[2]


def _response(payload: bytes) -> bytes | None:
    n = int(payload.partition(b" ")[0])
    return None if n % 17 == 0 else b"answer to " + payload


def run(plan: Plan) -> str:
    """Run a plan; its digest."""
    return Simulation(plan).run()
