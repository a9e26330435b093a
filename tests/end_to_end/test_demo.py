"""The guided run: it passes on a good house, and says so where a flow is not as it must be."""

import asyncio
import dataclasses
import json
import subprocess
import sys

import pytest
from rich.console import Console

from bridge import dialects
from bridge.cli import root
from bridge.cli.demo import _shown
from bridge.demo import DemoReport, FlowReport
from bridge.demo.recorder import Recorder
from bridge.demo.run import _fault
from bridge.flow import New
from bridge.monitor import MessageRecord, read_trace
from bridge.network import LoggedMessage
from bridge.principal import Principal


def test_the_demo_ends_every_flow_with_the_right_response(tmp_path) -> None:
    trace = tmp_path / "run.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "demo", "--json", "--trace", str(trace)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    ends = {(f["sender_state"], f["receiver_state"], f["right"]) for f in report["flows"]}
    assert ends == {("acknowledged", "finished", True)}
    assert len(report["flows"]) == 5
    with trace.open(encoding="utf-8") as file:
        lost = [record for record in read_trace(file) if record.outcome == "lost"]
    assert [record.message for record in lost] == ["NEW", "ACK"]
    for record in lost:
        assert "lost by the replica" in done.stderr
        assert f"first {record.message} lost" in record.flow


def record(message: str, outcome: str = "delivered") -> MessageRecord:
    return MessageRecord(0, "flow", "a", "b", message, 0, 1, outcome)


ALL = [record("NEW"), record("ACK"), record("FIN")]


def test_a_flow_is_judged_by_its_response_and_by_what_arrived() -> None:
    assert _fault(ALL, right=True, must_lose=None) is None
    assert _fault(ALL, right=False, must_lose=None) == "the response is not the expected one"
    assert _fault(ALL[:2], right=True, must_lose=None) == "no FIN was seen to arrive"


def test_a_loss_that_did_not_happen_or_was_not_meant_is_a_fault() -> None:
    assert _fault(ALL, right=True, must_lose="NEW") == "lost were [], expected NEW"
    extra = [*ALL, record("ACK", "lost")]
    assert _fault(extra, right=True, must_lose=None) == "lost were ['ACK'], expected nothing"
    assert _fault(extra, right=True, must_lose="ACK") is None


async def test_two_readers_of_the_log_count_no_message_twice() -> None:
    sender, receiver, us = (Principal(bytes([n, 1])) for n in range(3))
    method, arg = dialects.get("unified").call_for(New(7, b"x"))
    line = LoggedMessage(
        1, 1, sender, receiver, method, arg, kind="request", outcome="executed", detail=""
    )

    class SlowLog:
        async def messages(self, after: int = 0) -> list[LoggedMessage]:
            await asyncio.sleep(0)
            return [line] if after < line.seq else []

    recorder = Recorder(SlowLog(), {sender: "a", receiver: "b"}, us, lambda _record: None)
    await asyncio.gather(recorder.catch_up(), recorder.catch_up())
    assert [(r.message, r.attempt) for r in recorder.records] == [("NEW", 1)]


def test_the_command_line_lists_what_it_can_do() -> None:
    from click.testing import CliRunner

    done = CliRunner().invoke(root, ["--help"])
    assert done.exit_code == 0
    for name in ("demo", "replica", "timeline"):
        assert name in done.output


TITLES = (
    "Python to Motoko",
    "Motoko to Motoko, first NEW lost",
    "Motoko to Motoko, first ACK lost",
)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_whatever_the_width_no_word_of_the_result_is_cut_or_broken(width) -> None:
    flow = FlowReport(
        "", 3, (1, 2), 123_000_000, "acknowledged", "finished", right=True, fault=None
    )
    flows = tuple(dataclasses.replace(flow, title=title) for title in TITLES)
    console = Console(width=width)
    with console.capture() as captured:
        console.print(_shown(DemoReport(flows, ()), console))
    shown = captured.get()
    words = " ".join(shown.replace("│", " ").split())
    for title in TITLES:
        assert title in words
    assert words.count("right") == len(TITLES)
    assert "…" not in shown
    assert ("acknowledged" in words) == (width > 100)  # what all have alike goes first
    if width >= 80:
        assert len([line for line in shown.splitlines() if "right" in line]) == len(TITLES)
