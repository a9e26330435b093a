"""`BridgeMetrics`: what a program's own bridges send, receive and count, for its metrics.

Needs the extra ``monitor``. Knows of a bridge what its observer is told and what it counts.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from bridge.errors import UsageError
from bridge.flow import Ack, Fin, New, Role, kind_of
from bridge.monitor.metrics import MOST_REASONS, OF_PROGRAMS, BoundedLabels
from bridge.principal import Principal
from bridge.service import Bridge, Sighting

_MOST_REMEMBERED: Final = 50_000
_ULID_TIME: Final = 80  # the bits below a ULID's milliseconds
_MILLISECOND: Final = 1_000_000
_DAY: Final = 24 * 3_600 * 1_000_000_000
_BUCKETS: Final = (
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 900.0, 3_600.0, 10_800.0, 32_400.0),  # up to the lifetime of a request, 9 h
)


class _Stage(Enum):
    """How far a flow was seen to go."""

    BEGUN = "NEW was seen"
    ANSWERED = "ACK was seen, NEW not yet"
    ENDED = "its duration was told"


_Stages = OrderedDict[tuple[Role, Principal, int], tuple[_Stage, int]]


class BridgeMetrics:
    """Metrics of the bridges of this program, in a registry.

    Each bridge is told apart by a name::

        metrics = BridgeMetrics(registry)
        async with Bridge(agent, store, observer=metrics.observer("shop")) as bridge:
            metrics.attach(bridge, "shop")

    Args:
        registry: Where they are registered, as one collector: ``registry.unregister(metrics)``
            takes all of them out. One `BridgeMetrics` for each registry.

    Raises:
        UsageError: If the registry has these metrics already.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        messages, durations = (
            OF_PROGRAMS[name]
            for name in ("program_messages_total", "program_flow_duration_seconds")
        )
        self._messages = Counter(messages.name, messages.help, messages.labels, registry=None)
        self._durations = Histogram(
            durations.name, durations.help, durations.labels, registry=None, buckets=_BUCKETS
        )
        self._bridges: dict[str, Bridge] = {}
        self._reasons: dict[str, BoundedLabels] = {}
        try:
            registry.register(self)
        except ValueError as error:
            raise UsageError(
                "the registry has metrics of bridges already",
                hint="use the BridgeMetrics that is in it, or unregister that",
            ) from error

    def observer(self, name: str = "bridge") -> Callable[[Sighting], None]:
        """What is given to a `Bridge` as its ``observer``, or called by the one that is given.

        Args:
            name: What the bridge is called in its labels.
        """
        stages: _Stages = OrderedDict()

        def observe(sighting: Sighting) -> None:
            received = sighting.direction == "received"
            repeated = "unknown" if received else "yes" if sighting.attempt > 1 else "no"
            kind = kind_of(sighting.message)
            self._messages.labels(name, sighting.direction, kind, repeated).inc()
            ended = _ended(sighting, stages)
            if ended is not None:
                role, nanoseconds = ended
                self._durations.labels(name, role).observe(max(0, nanoseconds) / 1e9)

        return observe

    def attach(self, bridge: Bridge, name: str = "bridge") -> None:
        """Tell what a bridge counts, from now on.

        Args:
            bridge: The bridge.
            name: What it is called; another bridge of that name is told no longer.
        """
        self._bridges[name] = bridge
        self._reasons.setdefault(name, BoundedLabels(MOST_REASONS))

    def detach(self, name: str = "bridge") -> None:
        """Tell no longer what a bridge counts, and let go of it; nothing if there is none."""
        self._bridges.pop(name, None)

    def collect(self) -> Iterator[Metric]:
        """What was seen, and what the attached bridges counted, for the registry."""
        yield from self._messages.collect()
        yield from self._durations.collect()
        counted = OF_PROGRAMS["program_counted_total"]
        family = CounterMetricFamily(counted.name, counted.help, labels=counted.labels)
        for name, bridge in self._bridges.items():
            sums: dict[str, int] = {}
            counters = bridge.counters
            self._reasons[name].admit(sorted(counters))
            for reason, count in counters.items():
                label = self._reasons[name][reason]
                sums[label] = sums.get(label, 0) + count
            for label, count in sorted(sums.items()):
                family.add_metric([name, label], count)
        yield family

    def describe(self) -> Iterator[Metric]:
        """The names of `collect`, so that the registry need not ask the bridges for them."""
        yield from self._messages.describe()
        yield from self._durations.describe()
        counted = OF_PROGRAMS["program_counted_total"]
        yield CounterMetricFamily(counted.name, counted.help, labels=counted.labels)


def _ended(sighting: Sighting, stages: _Stages) -> tuple[Role, int] | None:
    """Take a message down; the role and the duration of the flow that it ends, if it ends one.

    The call that carried NEW may be known to have been executed only after its ACK was seen. What
    comes again ends nothing again, and an ACK for what was never sent is never counted.
    """
    message, now = sighting.message, sighting.time
    received = sighting.direction == "received"
    if isinstance(message, Fin if received else Ack):
        role = Role.RECEIVER
    elif isinstance(message, New):
        role = Role.RECEIVER if received else Role.SENDER
    else:
        role = Role.SENDER
    key = (role, sighting.peer, message.msg_id)
    stage, since = stages.get(key, (None, 0))
    match stage, message:
        case None, New():
            begun = now if received else _minted(message.msg_id, now)
            stages[key] = (_Stage.BEGUN, begun)
        case None, Ack() if received:
            stages[key] = (_Stage.ANSWERED, now)
        case (_Stage.BEGUN, Ack()) | (_Stage.BEGUN, Fin()) if received:
            stages[key] = (_Stage.ENDED, now)
            return role, now - since
        case _Stage.ANSWERED, New():
            stages[key] = (_Stage.ENDED, now)
            return role, since - _minted(message.msg_id, since)
    if len(stages) > _MOST_REMEMBERED:
        stages.popitem(last=False)
    return None


def _minted(msg_id: int, now: int) -> int:
    """When an id was minted, which is when its flow was opened; ``now`` for one not minted here."""
    time = (msg_id >> _ULID_TIME) * _MILLISECOND
    return time if 0 <= now - time <= _DAY else now
