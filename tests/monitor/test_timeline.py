"""A run's trace: written, read back, refused where broken, and drawn."""

import io
import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from bridge.cli import root
from bridge.errors import UsageError
from bridge.monitor import MessageRecord, draw_timeline, read_trace, write_trace

START = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
RECORDS = [
    MessageRecord(START, "first", "sender", "receiver", "NEW", 118, 1, "lost"),
    MessageRecord(START + SECOND, "first", "sender", "receiver", "NEW", 118, 2),
    MessageRecord(START + 2 * SECOND, "first", "receiver", "sender", "ACK", 34, 1, by="outbox"),
    MessageRecord(START + 30 * SECOND, "first", "sender", "receiver", "FIN", 0, 1),
    MessageRecord(START, "<second> & last", "sender", "receiver", "NEW", 5, 1),
]


def words(svg: str) -> list[str]:
    root = ET.fromstring(svg)
    return [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_trace_reads_back_as_it_was_written() -> None:
    file = io.StringIO()
    write_trace(RECORDS, file)
    file.seek(0)
    assert read_trace(file) == RECORDS


def test_the_picture_says_what_happened_to_each_message() -> None:
    said = words(draw_timeline(RECORDS))
    assert "NEW · 118 B · lost" in said
    assert "NEW · 118 B · attempt 2" in said
    assert "ACK · 34 B · from the outbox" in said
    assert "<second> & last" in said
    assert {"0 ms", "1,000 ms", "2,000 ms", "30 s"} <= set(said)


def test_one_panel_for_each_flow_in_as_many_columns_as_asked() -> None:
    wide, narrow = (ET.fromstring(draw_timeline(RECORDS, columns=n)) for n in (2, 1))
    assert int(wide.attrib["width"]) > int(narrow.attrib["width"])
    assert int(wide.attrib["height"]) < int(narrow.attrib["height"])


def test_the_flows_sender_stands_left_even_where_its_ack_is_seen_first() -> None:
    assert words(draw_timeline(RECORDS[2:3]))[1:3] == ["sender", "receiver"]


def test_a_picture_that_stands_alone_has_colours_for_the_dark_and_one_in_a_page_has_none() -> None:
    dark = "@media (prefers-color-scheme: dark)"
    assert dark in draw_timeline(RECORDS)
    assert dark not in draw_timeline(RECORDS, standalone=False)
    style = ET.fromstring(draw_timeline(RECORDS)).find("{http://www.w3.org/2000/svg}style")
    assert style is not None
    light, night = (style.text or "").split(dark)
    named = [set(re.findall(r"\.(\w+)(?= |,|\.)", part)) for part in (light, night)]
    assert {"panel", "box", "ground", "time", "life"} <= named[0] & named[1]


def test_an_empty_trace_is_an_empty_picture() -> None:
    assert words(draw_timeline([])) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time": "now"}, "time cannot be 'now'"),
        ({"message": "NAK"}, "message cannot be 'NAK'"),
        ({"attempt": True}, "attempt cannot be True"),
        ({"time": -1}, "time cannot be -1"),
        ({"size": 10**400}, "size cannot be 1000000"),
        ({"flow": "a\x00b"}, "flow cannot be 'a"),
        ({"extra": 1}, "not a message record"),
    ],
)
def test_a_broken_line_is_refused_by_its_number(change: dict[str, object], said: str) -> None:
    good = asdict(RECORDS[0])
    file = io.StringIO(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(UsageError, match=f"line 2 .*{said}"):
        read_trace(file)


def test_a_line_that_is_not_json_is_refused() -> None:
    with pytest.raises(UsageError, match="line 1 of the trace is not JSON"):
        read_trace(io.StringIO("what?\n"))


@pytest.mark.parametrize("data", [b"\xff\xfe\n", b"[" * 100_000, b"9" * 5000])
def test_a_file_that_is_no_trace_is_one_line_and_a_hint(tmp_path: Path, data: bytes) -> None:
    trace = tmp_path / "what"
    trace.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "timeline", str(trace)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    said, hint = done.stderr.splitlines()
    assert said.startswith("ic-bridge: ")
    assert "--trace" in hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_picture_that_cannot_be_written_is_one_line_and_a_hint(tmp_path: Path) -> None:
    trace = tmp_path / "run.jsonl"
    with trace.open("w") as file:
        write_trace(RECORDS, file)
    done = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "timeline", str(trace), "-o", "/dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    said, hint = done.stderr.splitlines()
    assert said.startswith("ic-bridge: ")
    assert "No space left on device" in said
    assert "another place" in hint


def test_the_command_draws_a_file(tmp_path: Path) -> None:
    trace, picture = tmp_path / "run.jsonl", tmp_path / "run.svg"
    with trace.open("w") as file:
        write_trace(RECORDS, file)
    done = CliRunner().invoke(root, ["timeline", str(trace), "-o", str(picture)])
    assert done.exit_code == 0, done.output
    assert picture.read_text(encoding="utf-8") == draw_timeline(RECORDS)
