"""A made-up report, with a cell of every verdict, for whoever draws reports."""

import pytest

from bridge.conformance.results import (
    Cell,
    CellKey,
    Hazard,
    Implementation,
    Report,
    ScenarioInfo,
    Verdict,
)
from bridge.monitor import MessageRecord

SCENARIOS = (
    ScenarioInfo("F1", "flows", "one flow", "NEW, ACK, FIN; response delivered once"),
    ScenarioInfo("S6", "sender", "FIN lost [Outgoing 4]", "the next ACK is echoed with FIN"),
    ScenarioInfo("R1", "receiver", "NEW twice", "processed once"),
    ScenarioInfo("G1", "lifecycle", "saga: timeout, then late success", "parked, then completed"),
)
SECOND = 1_000_000_000
BEGUN = 1_800_000_000 * SECOND


def sample_cell(sender, receiver, dialect, scenario, verdict):
    """One cell with this delivery verdict; a failed one fails its clean-up too."""
    timeline = (
        MessageRecord(BEGUN, "flow 1", sender, receiver, "NEW", 5, 1, "lost"),
        MessageRecord(BEGUN + 330 * SECOND, "flow 1", sender, receiver, "NEW", 5, 2),
        MessageRecord(BEGUN + 331 * SECOND, "flow 1", receiver, sender, "ACK", 12, 1),
        MessageRecord(BEGUN + 332 * SECOND, "flow 1", sender, receiver, "FIN", 0, 1),
    )
    played = verdict in (Verdict.PASSED, Verdict.FAILED)
    observed = {
        Verdict.PASSED: "as expected",
        Verdict.FAILED: 'the handler ran 2 times <script>alert("&")</script>',
        Verdict.UNSUPPORTED: "the package has no saga",
        Verdict.ERROR: "the module does not install: IC0505",
    }[verdict]
    hazard = Hazard("a duplicate runs twice", "Money may move twice.", "Keep a tombstone.")
    return Cell(
        key=CellKey(sender, receiver, dialect, scenario.id),
        delivery=verdict,
        clean_up=verdict,
        requirement=scenario.requirement,
        expected="processed once",
        observed=observed,
        clean_up_observed="the ACK goes on for ever" if verdict is Verdict.FAILED else "",
        hazard=hazard if verdict is Verdict.FAILED else None,
        timeline=timeline if played else (),
        log=("0001 NEW lost", "0002 NEW executed") if played else (),
        seconds=0.25 if played else 0.0,
        virtual=332 * SECOND if played else 0,
        seed=7,
        rerun=f"ic-bridge conformance --sender {sender} --receiver {receiver} "
        f"--dialect {dialect} --scenario {scenario.id} --seed 7",
    )


def build_report():
    """Two implementations, two dialects, four scenarios; every verdict occurs."""
    names, spoken = ("motoko", "theirs"), ("unified", "maf")
    verdicts = [Verdict.PASSED, Verdict.FAILED, Verdict.ERROR, Verdict.UNSUPPORTED]
    cells = [
        sample_cell(
            sender, receiver, dialect, scenario, verdict if receiver == "theirs" else verdicts[0]
        )
        for sender in names
        for receiver in names
        for dialect in spoken
        for scenario, verdict in zip(SCENARIOS, verdicts, strict=True)
    ]
    return Report(
        seed=7,
        network="embedded",
        version="0.1",
        implementations=tuple(
            Implementation(
                name, f"about {name}", "both", spoken, f"{name}.wasm", "watch", "unsupported"
            )
            for name in names
        ),
        scenarios=SCENARIOS,
        dialects=spoken,
        cells=tuple(cells),
        seconds=12.5,
    )


@pytest.fixture
def sample_report():
    return build_report()
