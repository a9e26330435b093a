"""A report as JSON, and the schema that says what is in it.

``run`` is what two runs with one seed agree in; all that a clock says stands apart, in ``figures``,
in the same order. ``digest`` is of ``run`` alone. Messages stand by flow, each flow's in the order
in which they were seen: which flow was a moment faster than another is a clock's word too.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib import resources
from typing import Any, Final

from bridge.conformance.results import (
    Cell,
    CellKey,
    Hazard,
    Implementation,
    Report,
    ScenarioInfo,
    Verdict,
)
from bridge.errors import UsageError
from bridge.monitor import MessageRecord

SCHEMA_ID: Final = "urn:ic-bridge:conformance-report:1"


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `to_document` makes."""
    file = resources.files("bridge.conformance.reports") / "report.schema.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def to_document(report: Report) -> dict[str, Any]:
    """A report as plain JSON values."""
    run = {
        "seed": report.seed,
        "network": report.network,
        "version": report.version,
        "dialects": list(report.dialects),
        "implementations": [_implementation(one) for one in report.implementations],
        "scenarios": [asdict(scenario) for scenario in report.scenarios],
        "summary": {str(verdict): report.count(verdict) for verdict in Verdict},
        "cells": [_cell(cell) for cell in report.cells],
    }
    figures = {
        "seconds": report.seconds,
        "cells": [_figures(cell) for cell in report.cells],
    }
    return {"$schema": SCHEMA_ID, "run": run, "digest": _digest(run), "figures": figures}


def digest(report: Report) -> str:
    """What two runs that came out alike have in common: the SHA-256 of ``run``, hexadecimal."""
    found: str = to_document(report)["digest"]
    return found


def _digest(run: dict[str, Any]) -> str:
    canonical = json.dumps(run, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _implementation(one: Implementation) -> dict[str, Any]:
    lacks = [{"scenario": scenario, "reason": reason} for scenario, reason in one.lacks]
    return {**asdict(one), "dialects": list(one.dialects), "lacks": lacks}


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        **asdict(cell.key),
        "verdict": str(cell.verdict),
        "delivery": str(cell.delivery),
        "clean_up": str(cell.clean_up),
        "requirement": cell.requirement,
        "expected": cell.expected,
        "observed": cell.observed,
        "clean_up_observed": cell.clean_up_observed,
        "hazard": None if cell.hazard is None else asdict(cell.hazard),
        "unjudged": list(cell.unjudged),
        "timeline": [_message(record) for record in by_flow(cell.timeline)],
        "log": list(cell.log),
        "seed": cell.seed,
        "rerun": cell.rerun,
    }


def by_flow(timeline: Iterable[MessageRecord]) -> list[MessageRecord]:
    """The messages of each flow together, in the order in which the flows began."""
    flows: dict[str, list[MessageRecord]] = {}
    for record in timeline:
        flows.setdefault(record.flow, []).append(record)
    return [record for records in flows.values() for record in records]


def _message(record: MessageRecord) -> dict[str, Any]:
    fields = asdict(record)
    del fields["time"]
    return fields


def _figures(cell: Cell) -> dict[str, Any]:
    return {
        "seconds": cell.seconds,
        "virtual": cell.virtual,
        "times": [record.time for record in by_flow(cell.timeline)],
    }


# --- And back -------------------------------------------------------------------------------------


def read_document(text: str) -> Report:
    """The report that was written as JSON.

    Args:
        text: What was written.

    Raises:
        UsageError: If it is no such report, or was changed since.
    """
    try:
        raw = json.loads(text)
        named, told = raw["$schema"], raw["digest"]
        report = _report(raw["run"], raw["figures"]) if named == SCHEMA_ID else None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(
            "the file is no conformance report in JSON",
            hint="give one that ic-bridge conformance --json wrote",
        ) from error
    if report is None:
        raise UsageError(
            f"the report is of another form than {SCHEMA_ID}: {named!r:.60}",
            hint="use the version of ic-bridge that wrote it",
        )
    if told != digest(report):
        raise UsageError(
            "the report was changed after it was written: its digest is another",
            hint="play it again",
        )
    return report


def _report(run: dict[str, Any], figures: dict[str, Any]) -> Report:
    return Report(
        seed=run["seed"],
        network=run["network"],
        version=run["version"],
        implementations=tuple(_read_implementation(raw) for raw in run["implementations"]),
        scenarios=tuple(ScenarioInfo(**raw) for raw in run["scenarios"]),
        dialects=tuple(run["dialects"]),
        cells=tuple(
            _read_cell(raw, own) for raw, own in zip(run["cells"], figures["cells"], strict=True)
        ),
        seconds=figures["seconds"],
    )


def _read_implementation(raw: dict[str, Any]) -> Implementation:
    lacks = tuple((lack["scenario"], lack["reason"]) for lack in raw["lacks"])
    return Implementation(**{**raw, "dialects": tuple(raw["dialects"]), "lacks": lacks})


def _read_cell(raw: dict[str, Any], own: dict[str, Any]) -> Cell:
    return Cell(
        key=CellKey(raw["sender"], raw["receiver"], raw["dialect"], raw["scenario"]),
        delivery=Verdict(raw["delivery"]),
        clean_up=Verdict(raw["clean_up"]),
        requirement=raw["requirement"],
        expected=raw["expected"],
        observed=raw["observed"],
        clean_up_observed=raw["clean_up_observed"],
        hazard=None if raw["hazard"] is None else Hazard(**raw["hazard"]),
        unjudged=tuple(raw["unjudged"]),
        timeline=tuple(
            MessageRecord(time=time, **message)
            for message, time in zip(raw["timeline"], own["times"], strict=True)
        ),
        log=tuple(raw["log"]),
        seconds=own["seconds"],
        virtual=own["virtual"],
        seed=raw["seed"],
        rerun=raw["rerun"],
    )
