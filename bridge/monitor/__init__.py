"""Watching flows from outside: canisters and stores, their history, metrics; and traces of runs.

    watch = CanisterWatch(agent, canister_id)
    for flow in await watch.flows(state="dead_letter"):
        print(flow.peer, flow.msg_id)
    async for seen in watch.events(follow=True):
        print(seen)

The names arrive on first use: who draws a trace pays for no network, and only metrics need the
extra ``monitor``. Nothing here changes a flow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bridge.errors import UsageError

if TYPE_CHECKING:
    from bridge.monitor.canister import CanisterWatch
    from bridge.monitor.exporter import Exporter
    from bridge.monitor.program import BridgeMetrics
    from bridge.monitor.records import (
        ContactLost,
        ContactRegained,
        EventsMissed,
        FlowEvent,
        FlowList,
        FlowView,
        HistoryReset,
        Limits,
        PeerTraffic,
        Restarted,
        Seen,
        SideUsage,
        Status,
        Trust,
    )
    from bridge.monitor.store import StoreWatch
    from bridge.monitor.timeline import arrow_heads, draw_timeline
    from bridge.monitor.trace import MessageRecord, read_trace, write_trace
    from bridge.monitor.watch import Watch

_HOMES = {
    "BridgeMetrics": "program",
    "CanisterWatch": "canister",
    "ContactLost": "records",
    "ContactRegained": "records",
    "EventsMissed": "records",
    "Exporter": "exporter",
    "FlowEvent": "records",
    "FlowList": "records",
    "FlowView": "records",
    "HistoryReset": "records",
    "Limits": "records",
    "MessageRecord": "trace",
    "PeerTraffic": "records",
    "Restarted": "records",
    "Seen": "records",
    "SideUsage": "records",
    "Status": "records",
    "StoreWatch": "store",
    "Trust": "records",
    "Watch": "watch",
    "arrow_heads": "timeline",
    "draw_timeline": "timeline",
    "read_trace": "trace",
    "write_trace": "trace",
}

__all__ = [
    "BridgeMetrics",
    "CanisterWatch",
    "ContactLost",
    "ContactRegained",
    "EventsMissed",
    "Exporter",
    "FlowEvent",
    "FlowList",
    "FlowView",
    "HistoryReset",
    "Limits",
    "MessageRecord",
    "PeerTraffic",
    "Restarted",
    "Seen",
    "SideUsage",
    "Status",
    "StoreWatch",
    "Trust",
    "Watch",
    "arrow_heads",
    "draw_timeline",
    "read_trace",
    "write_trace",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "prometheus_client":
            raise
        raise UsageError(
            f"{name} needs prometheus-client, which is not installed",
            hint="pip install 'ic-bridge[monitor]'",
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
