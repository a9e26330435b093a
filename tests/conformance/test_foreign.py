"""A pair that somebody else wrote to the interface of `maf`: exactly its known weaknesses show."""

from pathlib import Path

import pytest

from bridge.conformance import entries
from bridge.conformance.results import RunEnded, Verdict
from bridge.conformance.runner import run

ENTRIES = Path(__file__).with_name("entries")

# What must come of the scenarios that each end is judged by alone: the danger where it fails.
SENDER = {
    "S4": "a failure is never told",
    "S7": "a lost FIN is never made good",
    "S9": "a failure is never told",
    "H1": "an ACK from a stranger is believed",
    "H5": "a silent peer keeps the canister from being stopped",
    "L1": "state is lost at an upgrade",
    "S5": Verdict.UNSUPPORTED,  # its application cannot be made to fail
    "S10": Verdict.UNSUPPORTED,  # it cannot be made to cancel
    "I1": Verdict.UNSUPPORTED,  # maf carries no hash
    "O1": Verdict.UNSUPPORTED,
}
RECEIVER = {
    "F4": None,  # it takes ids of any size; no other danger is known of that
    "R1": None,  # it leaves a repeated NEW to the timer of its own ACK
    "R2": "a duplicate runs twice",
    "R5": Verdict.PASSED,
    "I2": Verdict.PASSED,
    "H2": "a FIN from a stranger is believed",
    "H3": "flows of different senders collide",
    "L2": "state is lost at an upgrade",
    "R3": Verdict.UNSUPPORTED,
    "R6": Verdict.UNSUPPORTED,
    "R7": Verdict.UNSUPPORTED,  # its application cannot be made to answer later
    "R8": Verdict.UNSUPPORTED,
    "R9": Verdict.UNSUPPORTED,
    "I3": Verdict.UNSUPPORTED,
    "H4": Verdict.UNSUPPORTED,
    "H6": Verdict.UNSUPPORTED,
    "H7": Verdict.UNSUPPORTED,
    "D5": Verdict.UNSUPPORTED,
}
# Between the two.
PAIR = {
    "F1": Verdict.PASSED,
    "F2": Verdict.PASSED,
    "F3": Verdict.PASSED,
    "N1": None,  # FINs that chance loses are never made good, so some flows stay open
    "S1": Verdict.PASSED,
    "S3": Verdict.PASSED,
    "S6": "a lost FIN is never made good",
    "I4": Verdict.PASSED,
    "H8": "a duplicate runs twice",  # it awaits its handler before it records the id
    "L3": "a failure is never told",
    "L4": "a duplicate runs twice",
    "D2": Verdict.PASSED,
    "D6": Verdict.PASSED,
    "S2": Verdict.UNSUPPORTED,
    "S8": Verdict.UNSUPPORTED,
    "R4": Verdict.UNSUPPORTED,
    "C1": Verdict.UNSUPPORTED,
    "G1": "a failure is never told",
}
# With one of ours on the other side.
SENDS_TO_OURS = {"F1": Verdict.PASSED, "S1": Verdict.PASSED, "S6": "a lost FIN is never made good"}
RECEIVES_FROM_OURS = {"F1": Verdict.PASSED, "S3": Verdict.PASSED, "L4": "a duplicate runs twice"}


def theirs(role):
    return entries.load(ENTRIES / f"foreign_{role}.toml")


CASES = {
    "the sender alone": (theirs("sender"), theirs("receiver"), SENDER),
    "the receiver alone": (theirs("sender"), theirs("receiver"), RECEIVER),
    "both": (theirs("sender"), theirs("receiver"), PAIR),
    "to Rust": (theirs("sender"), entries.shipped("rust"), SENDS_TO_OURS),
    "to Python": (theirs("sender"), entries.shipped("python"), SENDS_TO_OURS),
    "from Motoko": (entries.shipped("motoko"), theirs("receiver"), RECEIVES_FROM_OURS),
}


@pytest.mark.parametrize("case", CASES)
async def test_exactly_the_known_weaknesses_show(case):
    sender, receiver, expected = CASES[case]
    async for event in run(
        [sender], [receiver], scenarios=list(expected), dialects=["maf"], jobs=1, seed=3
    ):
        if isinstance(event, RunEnded):
            cells = {cell.key.scenario: cell for cell in event.report.cells}
    assert {id_: outcome(cell) for id_, cell in cells.items()} == expected


def outcome(cell):
    """The verdict, or the danger of a failure."""
    if cell.verdict is not Verdict.FAILED:
        return cell.verdict
    return None if cell.hazard is None else cell.hazard.name
