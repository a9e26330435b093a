"""The metrics by name, and how surveys become them. Needs the extra ``monitor``.

Names follow Prometheus' conventions: base units, ``_total`` for what only grows. Labels are
bounded: who can open flows or choose words must not be able to fill a database of time
series. Knows no HTTP.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from bridge.flow import Role
from bridge.monitor.records import printable
from bridge.monitor.survey import Survey
from bridge.monitor.watch import Watch

OTHER: Final = "other"
"""The label of all that have none of their own."""

MOST_REASONS: Final = 100
"""Reasons of one source that have a label of their own."""

_LONGEST_LABEL: Final = 80
_INSTRUCTIONS: Final = "instructions."  # counters that begin so count no events


@dataclass(frozen=True, slots=True)
class Described:
    """One metric.

    Attributes:
        name: As it is scraped.
        kind: What it is.
        labels: The names of its labels.
        help: What it says.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram", "info"]
    labels: tuple[str, ...]
    help: str


def _described(
    *rows: tuple[str, Literal["gauge", "counter", "histogram", "info"], str, str],
) -> dict[str, Described]:
    return {
        name: Described(f"ic_bridge_{name}", kind, tuple(labels.split()), told)
        for name, kind, labels, told in rows
    }


OF_SOURCES: Final = _described(
    ("source_up", "gauge", "source", "Whether the last look succeeded: 1 or 0."),
    ("source_info", "info", "source kind trust version", "What a source is; always 1."),
    (
        "source_last_success_timestamp_seconds",
        "gauge",
        "source",
        "When the last look that succeeded ended; 0 before the first.",
    ),
    ("source_look_duration_seconds", "gauge", "source", "How long the last look took."),
    (
        "source_look_failures_total",
        "counter",
        "source error",
        "Looks that failed, by the class of their error.",
    ),
    (
        "source_last_error_info",
        "info",
        "source error",
        "The class of the error of the last look that failed; always 1.",
    ),
    (
        "source_complete",
        "gauge",
        "source",
        "Whether all flows were counted, and none was beyond the bound: 1 or 0.",
    ),
    (
        "flows",
        "gauge",
        "source role state peer",
        "Flows that are not settled: all states but acknowledged and finished.",
    ),
    ("open_flows", "gauge", "source role", "Open flows, as the quotas count them."),
    ("open_flows_limit", "gauge", "source", "The quota of open flows, for each role."),
    ("tombstones", "gauge", "source role", "Flows kept only to know a late message."),
    ("tombstones_limit", "gauge", "source", "The quota of tombstones, for each role."),
    ("stored_bytes", "gauge", "source role", "Bytes that flows take."),
    ("stored_bytes_limit", "gauge", "source", "The quota of bytes, for each role."),
    ("peers", "gauge", "source role", "Peers with whom there are flows."),
    (
        "oldest_open_flow_age_seconds",
        "gauge",
        "source role",
        "For how long the oldest open flow is open; 0 if there is none.",
    ),
    (
        "most_overdue_seconds",
        "gauge",
        "source role",
        "For how long something has been due for a flow that is not settled; 0 if nothing is.",
    ),
    ("counted_total", "counter", "source reason", "What a canister counted, by reason."),
    (
        "instructions_total",
        "counter",
        "source kind",
        "Instructions that a canister executed for flows, by the kind of work.",
    ),
    (
        "peer_messages_total",
        "counter",
        "source peer direction",
        "Messages that passed between a canister and its peers: sent, received or refused.",
    ),
    ("starts_total", "counter", "source", "How often a canister was installed or upgraded."),
)
"""What the exporter tells of each source."""

OF_PROGRAMS: Final = _described(
    (
        "program_messages_total",
        "counter",
        "bridge direction kind repeated",
        "Messages that a bridge of this program sent, once the call was executed, or received.",
    ),
    (
        "program_flow_duration_seconds",
        "histogram",
        "bridge role",
        "From a flow's beginning to its ACK (sender), or from its NEW to its FIN (receiver).",
    ),
    (
        "program_counted_total",
        "counter",
        "bridge reason",
        "What a bridge of this program counted, by reason.",
    ),
)
"""What a program tells of its own bridges."""


class BoundedLabels:
    """Lets the first so many values have labels; all others are `OTHER`, for as long as it lives.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def admit(self, values: Iterable[str]) -> None:
        """Give labels to values, in this order, while there is room."""
        for value in values:
            if len(self._known) >= self._most:
                return
            if value != OTHER:
                self._known.setdefault(value, printable(value, _LONGEST_LABEL))

    def __getitem__(self, value: str) -> str:
        return self._known.get(value, OTHER)


@dataclass(slots=True)
class Looked:
    """What looking at one source came to.

    Attributes:
        watch: The source.
        peers: Which peers have labels.
        reasons: Which reasons have labels.
        survey: The last look, if it succeeded.
        success: When a look last succeeded, in seconds since 1970.
        duration: Of the last look, in seconds.
        failures: How many looks failed, by error.
        error: The last error.
    """

    watch: Watch
    peers: BoundedLabels
    reasons: BoundedLabels = field(default_factory=lambda: BoundedLabels(MOST_REASONS))
    survey: Survey | None = None
    success: float = 0.0
    duration: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    error: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether no look was taken yet, or the last one succeeded."""
        return self.survey is not None or self.error is None

    def failed(self, error: BaseException) -> None:
        """Take down that a look failed: what the one before it told holds no longer."""
        self.survey, self.error = None, type(error).__name__
        self.failures[self.error] += 1

    def label(self) -> None:
        """Give labels to who and what the survey tells of, those first that are most."""
        if self.survey is None:
            return
        flows: Counter[str] = Counter()
        for (_, _, peer), count in self.survey.counted().items():
            flows[str(peer)] += count
        status = self.survey.status
        for row in status.traffic:
            flows[str(row.peer)] += int(row.peer is not None)
        flows.pop(str(None), None)
        self.peers.admit(name for name, _ in flows.most_common())
        self.reasons.admit(sorted(status.counters))


_Family = GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily


class _Families:
    """The metrics of one scrape, as they are filled."""

    def __init__(self, described: dict[str, Described]) -> None:
        self._families: dict[str, _Family] = {name: _family(one) for name, one in described.items()}

    def set(self, name: str, labels: Iterable[object], value: float) -> None:
        family = self._families[name]
        assert not isinstance(family, InfoMetricFamily)
        family.add_metric([str(label) for label in labels], value)

    def inform(self, name: str, **labels: object) -> None:
        family = self._families[name]
        assert isinstance(family, InfoMetricFamily)
        family.add_metric([], {key: str(label) for key, label in labels.items()})

    def all(self) -> Iterator[Metric]:
        yield from self._families.values()


def _family(one: Described) -> _Family:
    match one.kind:
        case "counter":
            return CounterMetricFamily(one.name, one.help, labels=one.labels)
        case "info":
            return InfoMetricFamily(one.name.removesuffix("_info"), one.help)
        case _:
            return GaugeMetricFamily(one.name, one.help, labels=one.labels)


def families(looked: Iterable[Looked]) -> Iterator[Metric]:
    """The metrics of sources as they were last looked at; of one that is down, only that it is."""
    told = _Families(OF_SOURCES)
    for one in looked:
        _of_look(one, told)
        if one.survey is not None:
            _of_usage(one, one.survey, told)
            _of_flows(one, one.survey, told)
            _of_counters(one, one.survey, told)
    return told.all()


def _of_look(one: Looked, told: _Families) -> None:
    source = one.watch.name
    told.set("source_up", [source], int(one.survey is not None))
    told.set("source_last_success_timestamp_seconds", [source], one.success)
    told.set("source_look_duration_seconds", [source], one.duration)
    for error, count in one.failures.items():
        told.set("source_look_failures_total", [source, error], count)
    if one.error is not None:
        told.inform("source_last_error_info", source=source, error=one.error)


def _of_usage(one: Looked, survey: Survey, told: _Families) -> None:
    source, status = one.watch.name, survey.status
    told.inform(
        "source_info",
        source=source,
        kind=one.watch.kind,
        trust=status.trust,
        version=printable(status.version or "", _LONGEST_LABEL),
    )
    told.set("source_complete", [source], int(survey.flows.complete))
    for side in status.usage:
        told.set("open_flows", [source, side.role], side.open)
        told.set("tombstones", [source, side.role], side.tombstones)
        told.set("stored_bytes", [source, side.role], side.bytes)
        told.set("peers", [source, side.role], side.peers)
    limits = status.limits
    for name, limit in (
        ("open_flows_limit", limits.open),
        ("tombstones_limit", limits.tombstones),
        ("stored_bytes_limit", limits.bytes),
    ):
        if limit is not None:  # nobody's default stands for what was not told
            told.set(name, [source], limit)


def _of_flows(one: Looked, survey: Survey, told: _Families) -> None:
    source = one.watch.name
    flows: Counter[tuple[str, str, str]] = Counter()
    for (role, state, peer), count in survey.counted().items():
        flows[role, state, one.peers[str(peer)]] += count
    for labels, count in sorted(flows.items()):
        told.set("flows", [source, *labels], count)
    for role in Role:
        told.set("oldest_open_flow_age_seconds", [source, role], survey.oldest_open(role) / 1e9)
        told.set("most_overdue_seconds", [source, role], survey.most_overdue(role) / 1e9)


def _of_counters(one: Looked, survey: Survey, told: _Families) -> None:
    source, status = one.watch.name, survey.status
    counted: Counter[str] = Counter()
    for reason, count in status.counters.items():
        counted[one.reasons[reason]] += count
    for reason, count in sorted(counted.items()):
        if reason.startswith(_INSTRUCTIONS):
            told.set("instructions_total", [source, reason.removeprefix(_INSTRUCTIONS)], count)
        else:
            told.set("counted_total", [source, reason], count)
    passed: Counter[tuple[str, str]] = Counter()
    for row in status.traffic:
        peer = OTHER if row.peer is None else one.peers[str(row.peer)]
        for direction in ("sent", "received", "refused"):
            passed[peer, direction] += getattr(row, direction)
    for (peer, direction), count in sorted(passed.items()):
        told.set("peer_messages_total", [source, peer, direction], count)
    if status.starts is not None:
        told.set("starts_total", [source], status.starts)
