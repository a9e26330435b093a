"""A small world for exhaustive exploration: its states, and every way on from a state.

Two senders open a flow each to one receiver, with the same id. The first sender's requests are
handled synchronously (handler and store share one commit), the second's by a running handler (lost
by a crash). Messages can be delivered in any order, late, twice or never; timers fire; a party can
crash between any commit and any of its effects; transmissions can fail at once; applications can
fail; answers can be damaged; a third principal sends what it likes.

Time is counted in ticks and passes only to the next due time, and not while committed effects
wait to be carried out: they are carried out, fail, or are lost in a crash.

A state is immutable, so it can be kept, and has a key in which all times are relative, so that the
same situation at another time is the same state.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from typing import NamedTuple

from bridge.errors import LocalProtocolError
from bridge.flow import (
    Ack,
    Answer,
    Ask,
    Count,
    Decided,
    Decision,
    Due,
    FailedForNow,
    Fin,
    HandlerFailed,
    HandOver,
    New,
    NotSent,
    Policy,
    Received,
    ReceiverState,
    Restarted,
    Returned,
    Send,
    SenderFlow,
    SenderState,
    Tell,
    Telling,
    Transmit,
    is_current,
    step,
)
from bridge.principal import Principal

ALICE, BOB, CAROL, EVE = (Principal(bytes([0] * 7 + [n, 1, 1])) for n in (1, 2, 3, 4))
NAMES = {ALICE: "alice", BOB: "bob", CAROL: "carol", EVE: "eve"}
RECEIVER = CAROL
MSG_ID = 7
PAYLOADS = {ALICE: b"1", BOB: b"2", EVE: b"3"}
RESPONSE = {payload: b"answer to " + payload for payload in PAYLOADS.values()}

# A flow's place in a state: the senders' own flows, then the receiver's.
SLOTS = ((ALICE, CAROL), (BOB, CAROL), (CAROL, ALICE), (CAROL, BOB), (CAROL, EVE))
SLOT_OF = {pair: slot for slot, pair in enumerate(SLOTS)}
SYNCHRONOUS = frozenset({ALICE, EVE})

# Long enough that a message outlives a retry, short enough for the horizon's premise.
MESSAGE_LIFE = 5

POLICY = Policy(
    first_retry=4,
    backoff=2,
    max_delay=6,
    jitter_permille=0,
    attempts=2,
    lifetime=11,
    send_retry=1,
    call_timeout=3,
    call_margin=1,
    linger=12,
    retention=12,
    horizon=20,
    skew=1,
    slack=6,
    time_gap=100,
    spread=2,
    answer_within=8,
    handler_attempts=2,
    echo_min=2,
).validate()

Step = Callable[..., object]


class Budget(NamedTuple):
    """How many more faults of each kind may happen."""

    duplicates: int = 1
    crashes: int = 1
    hostile: int = 1
    not_sent: int = 1
    failures: int = 1
    damages: int = 0


class Ghost(NamedTuple):
    """What an observer of one flow has seen; not known to the code under test.

    Attributes:
        starts: How often the handler was started without the mark ``redelivered``.
        excused: How often it said "failed, to be retried".
        effects: How often a synchronous handler's effect was committed.
        outcome: The outcome that the sender's application was told.
        taken: How often it took an outcome.
        late: Whether it was told a late response.
        finished: Whether the receiver dropped the response on a FIN that claims to have it.
        news: Transmissions of NEW that left.
        acks: Transmissions of ACK that left, echoes apart.
        echoes: Those that were echoes.
        last_ack: When the last of them left.
        last_fin: When the last FIN left.
    """

    starts: int = 0
    excused: int = 0
    effects: int = 0
    outcome: str = ""
    taken: int = 0
    late: bool = False
    finished: bool = False
    news: int = 0
    acks: int = 0
    echoes: int = 0
    last_ack: int | None = None
    last_fin: int | None = None


class InTransit(NamedTuple):
    """A message on its way."""

    born: int
    caller: Principal
    to: Principal
    message: New | Ack | Fin


class State(NamedTuple):
    """Everything there is at one moment.

    Attributes:
        now: The time, in ticks.
        flows: What is stored, by slot; durable.
        todo: Effects committed but not yet carried out: (slot, effect), in order; lost by a crash.
        open: What applications work on: (slot, effect); lost by a crash.
        net: Messages on their way.
        budget: Faults left.
        ghosts: What was seen, by sender.
        fault: What went wrong, said by the transition itself.
    """

    now: int
    flows: tuple
    todo: tuple
    open: tuple
    net: tuple
    budget: Budget
    ghosts: tuple
    fault: str = ""


def _since(time, now, far):
    """A past time as a distance, beyond which it makes no difference."""
    return None if time is None else max(time - now, -far)


_SENDER_FACTS = attrgetter(
    "state", "failure", "late", "payload", "response", "response_hash", "attempts", "tries",
    "told", "late_taken", "fin_echoes", "wrong", "wrong_hash",
)  # fmt: skip
_RECEIVER_FACTS = attrgetter(
    "state", "payload", "response", "response_hash", "attempts", "tries", "told", "ack_echoes",
    "wrong_news", "wrong_fins", "asked", "asks",
)  # fmt: skip
_SENDER_TIMES = attrgetter("ends", "send_due", "tell_due", "fin_due", "fin_until")
_RECEIVER_TIMES = attrgetter("ends", "send_due", "tell_due", "ask_due")

# Most of a state's flows are those of the state before it, at the same time.
_keys: dict[tuple[int, int], tuple] = {}
_MOST_KEYS = 100_000


def _flow_key(flow, now):
    if flow is None:
        return None
    known = _keys.get((id(flow), now))
    if known is not None:
        return known[1]
    if isinstance(flow, SenderFlow):
        facts, times = _SENDER_FACTS(flow), _SENDER_TIMES(flow)
        past = (
            _since(flow.fin_at, now, POLICY.echo_min),
            _since(flow.opened, now, POLICY.lifetime),
        )
    else:
        facts, times = _RECEIVER_FACTS(flow), _RECEIVER_TIMES(flow)
        past = (_since(flow.ack_at, now, POLICY.echo_min),)
    coming = tuple([None if t is None else t - now if t > now else 0 for t in times])
    made = (*facts, *past, *coming)
    if len(_keys) > _MOST_KEYS:
        _keys.clear()
    _keys[id(flow), now] = flow, made  # the flow is kept, so its id is not used again
    return made


@cache
def _message_key(message) -> str:
    return repr(message)


def _ghost_key(ghost, now):
    if ghost.last_ack is None and ghost.last_fin is None:
        return ghost
    return (
        *ghost[:-2],
        _since(ghost.last_ack, now, POLICY.echo_min),
        _since(ghost.last_fin, now, POLICY.echo_min),
    )


def _effect_key(slot, effect):
    if isinstance(effect, Transmit):
        return slot, type(effect.message), effect.message, effect.attempt, effect.echo
    if isinstance(effect, Tell):
        return slot, effect.what, effect.tries, effect.redelivered
    return slot, type(effect), effect.tries


def key(state):
    """The state with all times relative to now."""
    now = state.now
    return (
        tuple([_flow_key(flow, now) for flow in state.flows]),
        tuple([_effect_key(*item) for item in state.todo]),
        frozenset(_effect_key(*item) for item in state.open),
        tuple(
            sorted(
                [(now - m.born, m.caller.raw, m.to.raw, _message_key(m.message)) for m in state.net]
            )
        ),
        state.budget,
        tuple([_ghost_key(ghost, now) for ghost in state.ghosts]),
        state.fault,
    )


@dataclass(frozen=True)
class World:
    """The rules of the small world, over a step function, which may be a broken one.

    Args:
        step: The tables.
        policy: The settings, in ticks.
        is_current: Which pending effects are still carried out; it may be broken too.
        prompt: Whether a party carries its effects out right after the commit, unless it crashes,
            instead of at any later time. What is lost is only the order of effects against what
            happens elsewhere, which delays on the way give too; the world is much smaller.
        flows: How many of the two senders open a flow.
    """

    step: Step = step
    policy: Policy = POLICY
    is_current: Callable[..., bool] = is_current
    prompt: bool = False
    flows: int = 2

    # --- Beginning ----------------------------------------------------------------------------

    def start(self, budget: Budget | None = None) -> State:
        """Both flows have just been opened."""
        flows = [None] * len(SLOTS)
        for sender in (BOB, ALICE)[: self.flows]:
            event = Send(peer=RECEIVER, msg_id=MSG_ID, payload=PAYLOADS[sender])
            flows[SLOT_OF[sender, RECEIVER]] = self.step(None, event, 0, self.policy).flow
        ghosts = (Ghost(), Ghost(), Ghost())
        return State(0, tuple(flows), (), (), (), budget or Budget(), ghosts)

    # --- Ways on ------------------------------------------------------------------------------

    def ways(self, state: State) -> Iterator[tuple[str, State]]:
        """Every way on from a state: what happens, and the state after it."""
        yield from self._effects(state)
        if state.todo and self.prompt:
            yield from self._crashes(state)
            return
        yield from self._deliveries(state)
        yield from self._applications(state)
        due = self.next_due(state)
        if due is not None and (due[0] <= state.now or not state.todo):
            yield self.pass_time(state, *due)
        yield from self._crashes(state)
        yield from self._hostility(state)

    def healed(self, state: State) -> tuple[str, State] | None:
        """The one way on where nothing fails any more; None at the end."""
        if state.todo:
            return self._carry_out(state, 0)
        if state.open:
            return self._succeed(state, state.open[0])
        if state.net:
            return self._deliver(state, min(state.net, key=lambda m: (m.born, repr(m))), keep=False)
        due = self.next_due(state)
        return None if due is None else self.pass_time(state, *due)

    # --- Steps --------------------------------------------------------------------------------

    def _apply(self, state: State, slot: int, event, *, sender: Principal | None = None) -> State:
        """Step one flow, commit, and queue the effects."""
        before = state.flows[slot]
        transition = self.step(before, event, state.now, self.policy)
        flows = (*state.flows[:slot], transition.flow, *state.flows[slot + 1 :])
        todo = state.todo
        for effect in transition.effects:
            if isinstance(effect, Count):
                continue
            todo = (*todo, (slot, effect))
        after = state._replace(flows=flows, todo=todo)
        for effect in transition.effects:
            if isinstance(effect, Transmit):
                after = self._decided(after, SLOTS[slot][0], effect)
        finished = (
            slot >= 2
            and transition.flow is not None
            and transition.flow.state is ReceiverState.FINISHED
            and before is not None
            and before.state is not ReceiverState.FINISHED
            and isinstance(event, Received)
            and event.message.hash is not None
        )
        if finished:
            after = self._see(after, SLOTS[slot][1], finished=True)
        return after

    def _see(self, state: State, sender: Principal, **seen) -> State:
        index = (ALICE, BOB, EVE).index(sender)
        ghosts = list(state.ghosts)
        ghosts[index] = ghosts[index]._replace(**seen)
        return state._replace(ghosts=tuple(ghosts))

    def _ghost(self, state: State, sender: Principal) -> Ghost:
        return state.ghosts[(ALICE, BOB, EVE).index(sender)]

    def next_due(self, state: State) -> tuple[int, int] | None:
        """The earliest due time, and the slot of its flow."""
        dues = [
            (flow.due, slot)
            for slot, flow in enumerate(state.flows)
            if flow is not None and flow.due is not None
        ]
        return min(dues, default=None)

    def pass_time(self, state: State, due: int, slot: int) -> tuple[str, State]:
        """Time passes to the next due time; what is too long on its way is lost."""
        now = max(state.now, due)
        net = tuple(m for m in state.net if now - m.born <= MESSAGE_LIFE)
        owner, peer = SLOTS[slot]
        after = self._apply(state._replace(now=now, net=net), slot, Due())
        return f"t={now}: {NAMES[owner]}'s flow with {NAMES[peer]} is due", after

    # --- Effects ------------------------------------------------------------------------------

    def _effects(self, state: State) -> Iterator[tuple[str, State]]:
        """Each party carries its effects out in order; parties do not wait for each other."""
        seen = set()
        for index, (slot, effect) in enumerate(state.todo):
            owner = SLOTS[slot][0]
            if owner in seen:
                continue
            seen.add(owner)
            yield self._carry_out(state, index)
            if isinstance(effect, Transmit) and state.budget.not_sent:
                yield self._fail_to_send(state, index)
            if self.prompt:
                return

    def _take(self, state: State, index: int):
        slot, effect = state.todo[index]
        rest = state._replace(todo=state.todo[:index] + state.todo[index + 1 :])
        return slot, effect, rest

    def _carry_out(self, state: State, index: int) -> tuple[str, State]:
        slot, effect, rest = self._take(state, index)
        owner, peer = SLOTS[slot]
        who = f"t={state.now}: {NAMES[owner]}"
        if isinstance(effect, Transmit):
            peer = effect.peer
        if not self.is_current(rest.flows[slot], effect, state.now):
            return f"{who} drops an outdated {_effect_name(effect)}", rest
        match effect:
            case Transmit():
                return f"{who} transmits {effect.message} to {NAMES[peer]}", self._leave(
                    rest, owner, effect
                )
            case HandOver():
                starts = self._ghost(rest, peer).starts
                if not effect.redelivered:
                    rest = self._see(rest, peer, starts=starts + 1)
                opened = rest._replace(open=(*rest.open, (slot, effect)))
                return f"{who} starts the handler for {NAMES[peer]}", opened
            case Tell():
                if owner is not RECEIVER:
                    rest = self._tell_sender(rest, owner, effect)
                if effect.what is Telling.FORGOTTEN:
                    return f"{who} is told {effect.what.value}", rest
                opened = rest._replace(open=(*rest.open, (slot, effect)))
                return f"{who} is told {effect.what.value}", opened
            case Ask():
                opened = rest._replace(open=(*rest.open, (slot, effect))) if effect.decide else rest
                return f"{who} is asked about a wrong {effect.kind}", opened
        raise AssertionError(effect)

    def _tell_sender(self, state: State, sender: Principal, tell: Tell) -> State:
        ghost = self._ghost(state, sender)
        fault = state.fault
        expected = RESPONSE[PAYLOADS[sender]]
        if tell.what in (Telling.ANSWERED, Telling.LATE) and tell.response != expected:
            fault = f"the application was handed {tell.response!r}, not its flow's response"
        if tell.what in (Telling.ANSWERED, Telling.FAILED):
            outcome = tell.what.value
            if ghost.outcome not in ("", outcome):
                fault = f"a second outcome was told: {ghost.outcome}, then {outcome}"
            state = self._see(state, sender, outcome=outcome)
        if tell.what is Telling.LATE:
            if ghost.outcome != Telling.FAILED.value:
                fault = "a late response was told before the failure"
            state = self._see(state, sender, late=True)
        return state._replace(fault=fault)

    def _decided(self, state: State, owner: Principal, effect: Transmit) -> State:
        """A transmission was decided: the observer looks at the echo rule."""
        sender = effect.peer if isinstance(effect.message, Ack) else owner
        if sender is RECEIVER or isinstance(effect.message, New):
            return state
        ghost = self._ghost(state, sender)
        is_ack = isinstance(effect.message, Ack)
        last = ghost.last_ack if is_ack else ghost.last_fin
        if effect.echo and last is not None and state.now - last < POLICY.echo_min:
            state = state._replace(fault="a message was echoed sooner than echo_min")
        return self._see(state, sender, **{"last_ack" if is_ack else "last_fin": state.now})

    def _leave(self, state: State, owner: Principal, effect: Transmit) -> State:
        """A message leaves; the observer counts it."""
        message = effect.message
        if isinstance(message, New):
            state = self._see(state, owner, news=self._ghost(state, owner).news + 1)
        if isinstance(message, Ack):
            ghost = self._ghost(state, effect.peer)
            counted = {"echoes": ghost.echoes + 1} if effect.echo else {"acks": ghost.acks + 1}
            state = self._see(state, effect.peer, **counted)
        if effect.peer is EVE:
            return state
        return state._replace(net=(*state.net, InTransit(state.now, owner, effect.peer, message)))

    def _fail_to_send(self, state: State, index: int) -> tuple[str, State]:
        slot, effect, rest = self._take(state, index)
        rest = rest._replace(budget=rest.budget._replace(not_sent=rest.budget.not_sent - 1))
        owner = SLOTS[slot][0]
        if isinstance(effect.message, Ack) and owner is RECEIVER:
            rest = self._see(rest, effect.peer, last_ack=effect.prior_at)
        elif isinstance(effect.message, Fin) and owner is not RECEIVER:
            rest = self._see(rest, owner, last_fin=effect.prior_at)
        what = f"t={state.now}: {NAMES[owner]}'s {effect.message} does not leave"
        return what, self._apply(rest, slot, NotSent(transmit=effect))

    # --- Deliveries ---------------------------------------------------------------------------

    def _deliveries(self, state: State) -> Iterator[tuple[str, State]]:
        for moving in dict.fromkeys(state.net):
            yield self._deliver(state, moving, keep=False)
            budget = state.budget
            if budget.duplicates:
                fewer = budget._replace(duplicates=budget.duplicates - 1)
                yield self._deliver(state._replace(budget=fewer), moving, keep=True)
            if budget.damages and isinstance(moving.message, Ack):
                fewer = budget._replace(damages=budget.damages - 1)
                damaged = moving._replace(message=replace(moving.message, hash=99, payload=b"?"))
                net = tuple(damaged if m is moving else m for m in state.net)
                _, after = self._deliver(state._replace(budget=fewer, net=net), damaged, keep=False)
                yield f"t={state.now}: {damaged.message} arrives damaged", after

    def _deliver(self, state: State, moving: InTransit, *, keep: bool) -> tuple[str, State]:
        if not keep:
            net = list(state.net)
            net.remove(moving)
            state = state._replace(net=tuple(net))
        again = ", and will again" if keep else ""
        what = f"t={state.now}: {moving.message} of {NAMES[moving.caller]} arrives{again}"
        return what, self._receive(state, moving)

    def _receive(self, state: State, moving: InTransit) -> State:
        event = Received(message=moving.message, caller=moving.caller)
        if isinstance(moving.message, Ack):
            if moving.to is RECEIVER:
                return state  # the receiver opens no flows; its FIN(null) concerns none of ours
            slot = SLOT_OF[moving.to, RECEIVER]
            if state.flows[slot] is None and moving.caller is not RECEIVER:
                return state
        else:
            if moving.to is not RECEIVER:
                return state
            slot = SLOT_OF[RECEIVER, moving.caller]
        synchronous = (
            isinstance(moving.message, New)
            and state.flows[slot] is None
            and moving.caller in SYNCHRONOUS
        )
        if synchronous:
            return self._run_synchronously(state, slot, event)
        before = state.flows[slot]
        after = self._apply(state, slot, event)
        honest = before is None or moving.caller == before.peer
        if not honest and (after.flows != state.flows or after.todo != state.todo):
            after = after._replace(fault="a message of a third principal changed a flow")
        return after

    def _run_synchronously(self, state: State, slot: int, event: Received) -> State:
        """Store, handler and answer are one commit."""
        admitted = self._apply(state, slot, event)
        sender = SLOTS[slot][1]
        flow = admitted.flows[slot]
        answered = self._apply(admitted, slot, Answer(response=RESPONSE[flow.payload]))
        todo = tuple(item for item in answered.todo if not isinstance(item[1], HandOver))
        ghost = self._ghost(answered, sender)
        return self._see(
            answered._replace(todo=todo), sender, effects=ghost.effects + 1, starts=ghost.starts + 1
        )

    # --- Applications -------------------------------------------------------------------------

    def _applications(self, state: State) -> Iterator[tuple[str, State]]:
        for item in state.open:
            slot, effect = item
            if isinstance(effect, Ask):
                for decision in Decision:
                    yield self._decide(state, item, decision)
                continue
            yield self._succeed(state, item)
            if state.budget.failures:
                budget = state.budget._replace(failures=state.budget.failures - 1)
                closed = _closed(state, item)._replace(budget=budget)
                who = f"t={state.now}: {NAMES[SLOTS[slot][0]]}'s application"
                yield f"{who} fails", self._apply(closed, slot, HandlerFailed(of=effect))
                if isinstance(effect, HandOver):
                    yield self._fail_for_now(closed, slot, who)

    def _fail_for_now(self, closed: State, slot: int, who: str) -> tuple[str, State]:
        try:
            after = self._apply(closed, slot, FailedForNow())
        except LocalProtocolError:
            return f"{who} fails too late", closed
        sender = SLOTS[slot][1]
        excused = self._ghost(after, sender).excused + 1
        return f"{who} asks for a retry", self._see(after, sender, excused=excused)

    def _succeed(self, state: State, item) -> tuple[str, State]:
        slot, effect = item
        owner = SLOTS[slot][0]
        who = f"t={state.now}: {NAMES[owner]}'s application"
        closed = _closed(state, item)
        if isinstance(effect, Ask):
            return self._decide(state, item, Decision.RESEND)
        if isinstance(effect, HandOver):
            try:
                event = Answer(response=RESPONSE[effect.payload])
                return f"{who} answers", self._apply(closed, slot, event)
            except LocalProtocolError:
                return f"{who} answers what is answered or gone", closed
        before = closed.flows[slot]
        after = self._apply(closed, slot, Returned(of=effect))
        takes = (
            owner is not RECEIVER
            and effect.what in (Telling.ANSWERED, Telling.FAILED)
            and after.flows[slot] is not before
        )
        if takes:
            after = self._see(after, owner, taken=self._ghost(after, owner).taken + 1)
        return f"{who} takes {effect.what.value}", after

    def _decide(self, state: State, item, decision: Decision) -> tuple[str, State]:
        slot, effect = item
        hash_ = effect.their_hash if decision is Decision.ACCEPT else None
        what = f"t={state.now}: the corruption handler says {decision.value}"
        closed = _closed(state, item)
        if decision is Decision.ACCEPT and effect.kind == "ACK":
            return what, closed  # the damaged payload is known to be wrong: nobody accepts it here
        return what, self._apply(closed, slot, Decided(decision=decision, hash=hash_))

    # --- Faults -------------------------------------------------------------------------------

    def _crashes(self, state: State) -> Iterator[tuple[str, State]]:
        if not state.budget.crashes:
            return
        budget = state.budget._replace(crashes=state.budget.crashes - 1)
        for party in (ALICE, BOB, CAROL):
            if self.prompt and state.todo and SLOTS[state.todo[0][0]][0] != party:
                continue
            mine = {slot for slot, (owner, _) in enumerate(SLOTS) if owner == party}
            if not any(state.flows[slot] for slot in mine):
                continue
            after = state._replace(
                todo=tuple(item for item in state.todo if item[0] not in mine),
                open=tuple(item for item in state.open if item[0] not in mine),
                budget=budget,
            )
            for slot in mine:
                if after.flows[slot] is not None:
                    after = self._apply(after, slot, Restarted())
            yield f"t={state.now}: {NAMES[party]} crashes and comes back", after

    def _hostility(self, state: State) -> Iterator[tuple[str, State]]:
        if not state.budget.hostile:
            return
        fewer = state._replace(budget=state.budget._replace(hostile=state.budget.hostile - 1))
        evil = [
            (ALICE, Ack(MSG_ID, b"evil", None)),
            (BOB, Ack(MSG_ID, b"evil", None)),
            (CAROL, Fin(MSG_ID, None)),
            (CAROL, New(MSG_ID, PAYLOADS[EVE])),
        ]
        for to, message in evil:
            moving = InTransit(state.now, EVE, to, message)
            yield f"t={state.now}: eve sends {message} to {NAMES[to]}", self._receive(fewer, moving)


def _closed(state: State, item) -> State:
    rest = list(state.open)
    rest.remove(item)
    return state._replace(open=tuple(rest))


def _effect_name(effect) -> str:
    if isinstance(effect, Transmit):
        return type(effect.message).__name__.upper()
    return type(effect).__name__.lower()


__all__ = ["Budget", "SenderState", "State", "World", "key"]
