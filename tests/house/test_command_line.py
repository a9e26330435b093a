"""What anybody can do wrong at the command line is told in a line or two, and is no traceback."""

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("ic-bridge"))
SMALL = "--sender rust --receiver rust --dialect unified --scenario F1"
RECORD = (
    '{"time": 0, "flow": "a", "sender": "x", "receiver": "y", "message": "NEW", "size": 1, '
    '"attempt": 1, "outcome": "delivered", "by": "call"}\n'
)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Runs a line of shell in a folder with files of every bad kind; (exit code, output, error)."""
    for name in list(os.environ):
        if name.startswith(("IC_BRIDGE", "XDG_", "PYTHONPATH")):
            monkeypatch.delenv(name)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "cut.wasm").write_bytes(b"\0asm\1\0\0\0\1\x7f\x60")
    (folder / "bad.toml").write_text("[[", encoding="utf-8")
    (folder / "bad.json").write_text("{", encoding="utf-8")
    (folder / "open.pem").write_text("-----BEGIN PRIVATE KEY-----\n", encoding="utf-8")
    (folder / "open.pem").chmod(0o644)
    (folder / "nokey.pem").write_text("nothing", encoding="utf-8")
    (folder / "nokey.pem").chmod(0o600)
    (folder / "trace.jsonl").write_text(RECORD, encoding="utf-8")
    (folder / "no_wasmtime").mkdir()
    (folder / "no_wasmtime" / "wasmtime.py").write_text(
        'raise ModuleNotFoundError("No module named wasmtime", name="wasmtime")\n', "utf-8"
    )

    def run(line, *, cwd=folder):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line.replace("ic-bridge", COMMAND)],
            cwd=cwd,
            env={**os.environ, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        assert "Exception ignored" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("ic-bridge nonsense", 2, "No such command 'nonsense'"),
        ("ic-bridge replika", 2, "No such command 'replika'. Did you mean 'replica'?"),
        ("ic-bridge timeline binary", 2, "the trace is not text in UTF-8"),
        ("ic-bridge timeline bad.json", 2, "line 1 of the trace is not JSON"),
        ("ic-bridge timeline .", 2, "Is a directory"),
        ("ic-bridge timeline trace.jsonl -o /dev/full", 1, "No space left on device"),
        ("ic-bridge timeline trace.jsonl > /dev/full", 1, "No space left on device"),
        ("ic-bridge timeline trace.jsonl -o nowhere/file", 2, "nowhere/file cannot be opened"),
        ("ic-bridge demo --trace nowhere/file", 2, "No such file or directory"),
        ("ic-bridge config show > /dev/full", 1, "takes no more: No space left on device"),
        ("cp bad.toml bridge.toml; ic-bridge config show", 2, "bridge.toml cannot be read: "),
        ("mkdir bridge.toml; ic-bridge config show", 0, ""),
        ("mkdir a; cd a; rmdir ../a; ic-bridge config show", 2, "working directory is no longer"),
        ("ic-bridge candid check binary", 2, "binary is not UTF-8 text"),
        ("ic-bridge candid decode < binary", 2, "neither hexadecimal nor raw Candid"),
        ("ic-bridge candid decode 4449444c00", 2, "offset"),
        ("ic-bridge candid encode '(1'", 2, "expected"),
        ("ic-bridge candid hash > /dev/full", 2, "Missing argument"),
        ("ic-bridge replica start --state-dir binary", 2, "is a file"),
        ("ic-bridge replica start --state-dir /proc/none", 1, "cannot be used"),
        (
            "ic-bridge replica start --background --state-dir /proc/none",
            1,
            "/proc/none cannot be used: No such file or directory\n  name a directory",
        ),
        ("ic-bridge replica start --port abc", 2, "'abc' is not a valid port (a whole number)"),
        ("ic-bridge replica start --port 70000", 2, "70000 is not in the range"),
        ("ic-bridge replica start --time yesterday", 2, "'yesterday' is no time"),
        ("ic-bridge replica stop", 1, "no replica runs"),
        ("ic-bridge replica logs", 1, "no replica runs"),
        ("ic-bridge replica stop --port 4999", 1, "no replica runs at port 4999"),
        ("ic-bridge replica logs abc", 2, "'abc' is not a principal"),
        ("XDG_STATE_HOME=/proc ic-bridge replica status", 1, "set XDG_STATE_HOME to a directory"),
        ("PYTHONPATH=no_wasmtime ic-bridge replica start", 1, "pip install 'ic-bridge[replica]'"),
        ("PYTHONPATH=no_wasmtime ic-bridge demo", 1, "replica needs wasmtime, which is not"),
        (
            "ic-bridge conformance --sender rust --receiver bad.toml --scenario F1",
            2,
            "the entry bad.toml is not TOML",
        ),
        ("ic-bridge watch status nonsense", 2, "neither a canister's id nor a store"),
        ("ic-bridge watch flows binary", 3, "binary cannot be read"),
        ("ic-bridge watch export binary --listen 9654", 2, "is no address and port"),
        (
            "ic-bridge watch events rrkah-fqaaa-aaaaa-aaaaq-cai --network http://127.0.0.1:1",
            3,
            "no connection to",
        ),
        ("ic-bridge conformance --from bad.json", 2, "no conformance report in JSON"),
        (f"ic-bridge conformance {SMALL} --require bad.toml", 2, "bad.toml cannot be read"),
        (f"ic-bridge conformance {SMALL} --html no/page.html", 2, "there is no folder for"),
        (f"ic-bridge conformance {SMALL} --json /proc/none", 2, "/proc/none cannot be written"),
        (
            f"PYTHONPATH=no_wasmtime ic-bridge conformance {SMALL}",
            1,
            "the embedded replica needs wasmtime, which is not installed\n  pip install",
        ),
        (f"ic-bridge conformance {SMALL} --network nowhere", 2, "there is no network 'nowhere'"),
        (f"ic-bridge conformance {SMALL} --network http://127.0.0.1:1", 3, "no connection to"),
        (
            "ic-bridge conformance --receiver cut.wasm --dialect maf",
            2,
            "cut.wasm: the module ends inside a section: it is cut off",
        ),
        (
            f"ic-bridge conformance {SMALL} --network http://127.0.0.1:1 --identity open.pem",
            2,
            "chmod 600 open.pem",
        ),
        (
            f"ic-bridge conformance {SMALL} --network http://127.0.0.1:1 --identity nokey.pem",
            2,
            "nokey.pem",
        ),
    ],
)
def test_a_mistake_is_told_with_its_own_exit_code(shell, line, code, said):
    got, _, told = shell(line)
    assert said in told
    assert got == code, told


def test_a_network_that_cannot_be_reached_is_told_once_and_in_each_cell_of_a_report(shell):
    line = "ic-bridge conformance --sender rust --receiver rust --network http://127.0.0.1:1"
    code, printed, told = shell(line)
    assert (code, printed, told.count("no connection to")) == (3, "", 1), told
    code, printed, told = shell(f"{line} --scenario F1 --scenario F2 --json report.json")
    assert (code, printed, told.count("no connection to")) == (3, "", 1), told
    code, cells, _ = shell('grep -c \'"observed": "no connection to\' report.json')
    assert (code, int(cells) > 1) == (0, True)


def test_a_full_disk_is_told_by_whatever_writes_files(shell):
    code, _, told = shell("ic-bridge demo --trace /dev/full")
    assert (code, "No space left on device" in told) == (1, True), told
    code, _, told = shell(f"ic-bridge conformance {SMALL} --json /dev/full")
    assert (code, "No space left on device" in told) == (1, True), told


@pytest.mark.parametrize(
    "line",
    [
        "ic-bridge config show | head -c 1",
        "ic-bridge --help | head -c 1",
        "ic-bridge timeline trace.jsonl | head -c 1",
        "ic-bridge candid random --types '(vec nat64, vec nat64, vec text)' | head -c 1",
    ],
)
def test_who_reads_only_the_beginning_hears_no_complaint(shell, line):
    _, printed, told = shell(line)
    assert (len(printed), told) == (1, "")


@pytest.mark.parametrize("words", ["demo", "replica start", f"conformance {SMALL} --jobs 1"])
def test_an_interrupt_ends_it_without_many_words(shell, words, tmp_path):
    process = subprocess.Popen(
        [COMMAND, *words.split()],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stream = process.stdout if words == "replica start" else process.stderr
    assert stream.readline()  # it is at work
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate(timeout=300)
    assert "Traceback" not in printed + told
    # A replica that serves was asked to end and did.
    assert process.returncode == (0 if words == "replica start" else 130)


class WebPage(BaseHTTPRequestHandler):
    """A server that is no replica."""

    def do_GET(self):
        body = b"<!DOCTYPE html><title>Hello</title><p>what a web server says</p>"
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_):
        pass


def test_a_server_that_is_no_replica_is_told_as_such(shell):
    with HTTPServer(("127.0.0.1", 0), WebPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            code, _, told = shell(f"ic-bridge conformance {SMALL} --network {url}")
        finally:
            server.shutdown()
    assert code == 3
    assert "HTTP 404: a web page" in told
    assert "what a web server says" not in told


def test_the_cases_above_are_of_every_command():
    told = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    commands = {line.split()[0] for line in told.split("Commands:")[1].splitlines() if line.strip()}
    assert commands == {"candid", "conformance", "config", "demo", "replica", "timeline", "watch"}
