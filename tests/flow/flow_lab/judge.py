"""What the page promises, watched from outside during a simulation.

Knows the protocol page and what the simulated applications saw. Reads the records only for the
fields that the page names; calls no function of ``bridge.flow`` that decides anything.
"""

from collections import defaultdict, deque
from dataclasses import dataclass

from bridge.flow import (
    Ack,
    Fin,
    New,
    Received,
    ReceiverState,
    Role,
    SenderState,
    Telling,
    Transmit,
)
from bridge.flow.trace import FlowKey, entry

ENDED = {
    SenderState.ACKNOWLEDGED,
    SenderState.FAILED,
    ReceiverState.FINISHED,
    ReceiverState.ABANDONED,
}


@dataclass(slots=True)
class Seen:
    """What was seen of one flow that was opened."""

    expected: bytes | None
    outcome: str = ""
    taken: int = 0
    late: bool = False
    dropped: bool = False
    damaged: bool = False
    abandoned: bool = False
    finished: bool = False


@dataclass(slots=True)
class Sent:
    """What was seen of one kind of message of one flow."""

    times: int = 0
    echoes: int = 0
    last: int | None = None


class Judge:
    """Raises ``AssertionError`` at the first broken promise, whose text begins with its number.

    Args:
        policy: The settings.
        keep_timelines: Whether to keep each flow's steps for a report.
    """

    def __init__(self, policy, *, keep_timelines: bool = False) -> None:
        self.policy = policy
        self.flows: dict[tuple, Seen] = {}
        self.sent: dict[tuple, Sent] = defaultdict(Sent)
        self.starts: dict[tuple, int] = defaultdict(int)
        self.excuses: dict[tuple, int] = defaultdict(int)
        self.effects: dict[tuple, int] = defaultdict(int)
        self.keep = keep_timelines
        self.steps: deque = deque(maxlen=10**6 if keep_timelines else 40)
        self.about = None

    # --- What the tables decided --------------------------------------------------------------

    def stepped(self, who, before, event, now, transition) -> None:
        """Every step of every party."""
        record = before if transition.flow is None else transition.flow
        self.about = record and (record.peer, record.msg_id)
        self.steps.append((who, before, event, now, transition))
        if isinstance(event, Received):
            if before is not None and event.caller != before.peer:
                unchanged = transition.flow is before
                assert unchanged, "4: a third principal changed a flow"
                assert not any(isinstance(e, Transmit) for e in transition.effects), (
                    "4: it answered"
                )
            flow = transition.flow
            ended_now = flow is not before and flow is not None
            if ended_now and flow.state is ReceiverState.FINISHED:
                claims = isinstance(event.message, Fin) and event.message.hash is not None
                seen = self.flows.get((event.caller, event.message.msg_id))
                if claims and seen is not None:
                    seen.finished = True
        for effect in transition.effects:
            if isinstance(effect, Transmit):
                self._transmits(who, before, transition.flow, now, effect)

    def _transmits(self, who, before, flow, now, effect) -> None:
        kind = type(effect.message)
        if before is None and kind is Fin:
            return  # for an ACK that names no flow
        sent = self.sent[who, kind, effect.peer, effect.message.msg_id]
        if kind is New:
            assert now < flow.opened + self.policy.lifetime, "a NEW is sent after its lifetime"
        if kind is Fin and effect.message.hash is not None:
            stored = flow is not None and flow.response_hash == effect.message.hash
            assert stored, "2: a FIN claims a response that is not stored"
        if effect.echo:
            sent.echoes += 1
            soon = sent.last is not None and now - sent.last < self.policy.echo_min
            assert not soon, "5: echoed sooner than echo_min"
            assert sent.echoes <= self.policy.attempts + 10, "5: echoed too often"
        elif kind is not Fin:
            sent.times += 1
            assert sent.times <= self.policy.attempts, f"5: {kind.__name__} sent too often"
        sent.last = now

    def not_sent(self, who, effect) -> None:
        """A transmission certainly did not leave."""
        sent = self.sent[who, type(effect.message), effect.peer, effect.message.msg_id]
        sent.last = None
        if effect.echo:
            sent.echoes -= 1
        else:
            sent.times -= 1

    # --- What the applications saw ------------------------------------------------------------

    def opened(self, who, peer, msg_id, expected) -> None:
        """A flow was opened."""
        self.flows[who, msg_id] = Seen(expected)

    def damaged(self, who, effect) -> None:
        """A message was damaged on its way."""
        owner = effect.peer if isinstance(effect.message, Ack) else who
        seen = self.flows.get((owner, effect.message.msg_id))
        if seen is not None:
            seen.damaged = True

    def excused(self, who, key: FlowKey) -> None:
        """A handler asked for a retry."""
        self.excuses[who, key.peer, key.msg_id] += 1

    def abandoned(self, who, key: FlowKey) -> None:
        """A corruption handler gave a flow up."""
        owner = who if key.role is Role.SENDER else key.peer
        seen = self.flows.get((owner, key.msg_id))
        if seen is not None:
            seen.abandoned = True

    def handled(self, who, key: FlowKey, *, redelivered: bool, synchronous: bool) -> None:
        """A handler was started."""
        place = who, key.peer, key.msg_id
        if synchronous:
            self.effects[place] += 1
            assert self.effects[place] == 1, "1: a shared commit's effect happened twice"
        if not redelivered:
            self.starts[place] += 1
            allowed = 1 + self.excuses[place]
            assert self.starts[place] <= allowed, "1: the handler was started twice, unmarked"

    def told(self, who, tell) -> None:
        """An application was told something."""
        if tell.role is not Role.SENDER:
            return
        seen = self.flows[who, tell.msg_id]
        if tell.what in (Telling.ANSWERED, Telling.FAILED):
            assert seen.outcome in ("", tell.what), "3: a second outcome was told"
            seen.outcome = tell.what
        if tell.what is Telling.LATE:
            assert seen.outcome == Telling.FAILED, "3: late before the failure was told"
            seen.late = True
        if tell.what in (Telling.ANSWERED, Telling.LATE) and not seen.damaged:
            assert tell.response == seen.expected, "3: not the flow's response"

    def taken(self, who, tell) -> None:
        """An application took what it was told."""
        if tell.role is Role.SENDER and tell.what in (Telling.ANSWERED, Telling.FAILED):
            seen = self.flows[who, tell.msg_id]
            seen.taken += 1
            assert seen.taken == 1, "3: an outcome was taken twice"

    def dropped(self, who, key: FlowKey) -> None:
        """The operator drops a dead letter."""
        self.flows[who, key.msg_id].dropped = True

    # --- The end ------------------------------------------------------------------------------

    def end(self, left) -> None:
        """Nothing is due any more, and nothing is on its way."""
        for flows in left.values():
            for record in flows:
                self.about = record.peer, record.msg_id
                raise AssertionError(f"2: a flow stays {record.state.value} for ever")
        for (who, msg_id), seen in self.flows.items():
            self.about = who, msg_id
            assert seen.taken == 1 or seen.dropped, f"3: {seen.taken} outcomes were taken"
            # An operator who drops a dead letter has seen its response, and wants it lost.
            had = seen.outcome == Telling.ANSWERED or seen.late or seen.dropped
            lost = seen.finished and not had
            assert not lost or seen.damaged, "2: a response was lost to both"

    def last_steps(self) -> list[str]:
        """The steps of the flow in question, or the last ones of all, as a timeline."""
        lines = []
        for who, before, event, now, transition in self.steps:
            record = before if transition.flow is None else transition.flow
            ours = self.about is None or (record and record.msg_id == self.about[1])
            if ours:
                lines.append(f"{str(who)[:5]} {entry(before, event, now, transition).line()}")
        return lines[-60:]
