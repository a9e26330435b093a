"""``ic-bridge conformance``: what is played, what is told where, and how it ends."""

import dataclasses
import json
import socket

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.console import Console

from bridge.cli import conformance as door
from bridge.cli import root
from bridge.cli.conformance_view import Teller, print_report
from bridge.conformance import reports
from bridge.conformance.results import (
    CellEnded,
    CellStarted,
    RunEnded,
    RunStarted,
    Verdict,
)
from bridge.errors import TransportError, UsageError
from bridge.wire.bls import SecretKey

MODULE = b"\x00asm\x01\x00\x00\x00"
ONE = ["--sender", "rust", "--receiver", "rust", "--dialect", "unified", "--scenario", "F1"]


def call(*words):
    return CliRunner().invoke(root, ["conformance", *words], catch_exceptions=True)


@pytest.fixture
def played(monkeypatch, sample_report):
    """Has the command be given the sample report, and tells what was asked for."""
    asked = {}

    async def run(senders, receivers, **options):
        asked.update(options, senders=senders, receivers=receivers)
        report = asked.get("report", sample_report)
        keys = tuple(cell.key for cell in report.cells)
        yield RunStarted(
            options["seed"],
            report.network,
            report.implementations,
            report.scenarios,
            report.dialects,
            keys,
        )
        for cell in report.cells:
            yield CellStarted(cell.key)
            yield CellEnded(cell)
        yield RunEnded(report)

    monkeypatch.setattr(door, "run", run)
    return asked


# --- For real -------------------------------------------------------------------------------------


def test_a_cell_is_played_and_its_reports_are_written(tmp_path):
    files = {form: tmp_path / f"report.{form}" for form in ("json", "junit", "markdown", "html")}
    options = [word for form, path in files.items() for word in (f"--{form}", str(path))]
    result = call(*ONE, "--seed", "7", *options)
    assert result.exit_code == 0, result.output
    assert "1 passed" in result.stdout
    assert "seed 7" in result.stderr
    report = reports.read_document(files["json"].read_text())
    (cell,) = report.cells
    assert (cell.verdict, cell.key.scenario) == (Verdict.PASSED, "F1")
    assert [record.message for record in cell.timeline] == ["NEW", "ACK", "FIN"]
    assert reports.digest(report) in result.stderr
    assert files["html"].read_text() == reports.to_page(report)
    assert files["markdown"].read_text() == reports.to_markdown(report)
    assert 'tests="1" failures="0"' in files["junit"].read_text()


def test_two_runs_with_one_seed_give_the_same_report():
    play = [*ONE, "--scenario", "F2", "--scenario", "S3", "--seed", "3", "--json", "-"]
    first, second = (json.loads(call(*play).stdout) for _ in range(2))
    assert first["run"]["summary"]["passed"] == 3
    assert first["run"] == second["run"]
    assert first["digest"] == second["digest"]


def test_a_network_that_cannot_be_reached_is_each_cells_error_and_code_3(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:  # closed again: nobody listens there
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    result = call(*ONE, "--network", url, "--json", "-")
    assert isinstance(result.exception, TransportError), result.output
    assert result.exception.exit_code == 3
    assert result.stderr == ""
    (cell,) = json.loads(result.stdout)["run"]["cells"]
    assert cell["verdict"] == "error"
    assert url in cell["observed"]
    assert cell["rerun"].endswith(f"--network {url}")


def test_a_module_that_is_none_is_its_cells_error_where_others_can_be_played(tmp_path):
    wasm = tmp_path / "theirs.wasm"
    wasm.write_bytes(b"no module")
    result = call("--receiver", str(wasm), *ONE, "--seed", "1")
    assert result.exit_code == 1
    assert "1 passed, 1 error" in result.stdout
    assert "! F1 rust -> theirs (unified): error" in result.stdout
    assert f"again       ic-bridge conformance --sender rust --receiver {wasm} " in result.stdout


def test_a_report_is_told_and_judged_again_without_playing(sample_report, tmp_path, played):
    kept, page, required = (tmp_path / name for name in ("kept.json", "page.html", "required.toml"))
    kept.write_text(json.dumps(reports.to_document(sample_report)))
    result = call("--from", str(kept), "--html", str(page))
    assert result.exit_code == 1
    assert "8 of what is required did not pass" in result.stdout
    assert page.read_text() == reports.to_page(sample_report)
    required.write_text('[[required]]\nreceiver = "motoko"\n')
    assert call("--from", str(kept), "--require", str(required)).exit_code == 0
    assert played == {}


# --- Who plays ------------------------------------------------------------------------------------


def names(entries):
    return [entry.name for entry in entries]


def test_without_a_word_those_of_this_package_play_with_each_other(played):
    call()
    assert names(played["senders"]) == names(played["receivers"]) == ["python", "motoko", "rust"]
    assert played["about"] is None


def test_a_bare_module_is_played_with_those_of_this_package(played, tmp_path):
    wasm = tmp_path / "theirs.wasm"
    wasm.write_bytes(MODULE)
    call("--receiver", str(wasm), "--dialect", "maf")
    assert names(played["senders"]) == ["python", "motoko", "rust"]
    assert names(played["receivers"]) == ["theirs"]
    assert played["dialects"] == ("maf",)
    assert played["called"] == {"theirs": str(wasm)}


def test_an_entry_is_played_in_each_of_its_roles_and_ours_not_among_themselves(played, tmp_path):
    entry = tmp_path / "their.toml"
    entry.write_text('name = "theirs"\nwasm = "theirs.wasm"\ndialects = ["maf"]\n')
    (tmp_path / "theirs.wasm").write_bytes(MODULE)
    call("--entry", str(entry))
    assert names(played["senders"]) == ["theirs", "python", "motoko", "rust"]
    assert names(played["receivers"]) == ["theirs", "python", "motoko", "rust"]
    assert played["about"] == {"theirs"}
    assert played["called"] == {"theirs": str(entry)}


def test_an_entry_with_a_mistake_is_the_error_of_its_cells_and_the_others_are_played(tmp_path):
    entry = tmp_path / "their.toml"
    entry.write_text('name = "theirs"\nwasm = "theirs.wasm"\nrole = "boss"\ndialects = ["maf"]\n')
    words = ["--sender", "rust", "--receiver", str(entry), "--receiver", "rust"]
    result = call(*words, "--dialect", "maf", "--scenario", "F1", "--json", "-")
    assert result.exit_code == 1
    cells = {cell["receiver"]: cell for cell in json.loads(result.stdout)["run"]["cells"]}
    assert cells["theirs"]["verdict"] == "error"
    assert "role cannot be 'boss'" in cells["theirs"]["observed"]
    assert cells["rust"]["verdict"] == "passed"


@pytest.mark.parametrize("text", ["name theirs", "\xff", "dialects = 3", 'name = "a/b"'])
def test_an_entry_that_states_nothing_right_is_called_as_its_file_is(played, tmp_path, text):
    entry = tmp_path / "their.toml"
    entry.write_text(text, encoding="latin-1")
    call("--receiver", str(entry), "--receiver", "rust", "--dialect", "maf")
    theirs, _ = played["receivers"]
    assert (theirs.name, theirs.dialects, theirs.role) == ("their", ("maf",), "receiver")
    assert "their.toml" in theirs.fault


def test_a_fresh_seed_is_drawn_and_told(played):
    first, second = call(), call()
    assert played["seed"] > 0
    assert f"seed {played['seed']}" in second.stderr
    assert first.stderr != second.stderr


# --- What is told ---------------------------------------------------------------------------------


def test_what_did_not_pass_is_told_with_its_danger_and_how_to_play_it_again(played):
    result = call("--seed", "7")
    assert result.exit_code == 1
    for said in (
        "✗ S6 motoko -> theirs (unified): failed",
        "hazard      a duplicate runs twice: Money may move twice.",
        "what to do  Keep a tombstone.",
        "again       ic-bridge conformance --sender motoko --receiver theirs --dialect unified",
        "the module does not install: IC0505",
        "20 passed, 4 failed, 4 unsupported, 4 error",
        "8 of what is required did not pass",
    ):
        assert said in result.stdout
    assert result.stdout.count("again  ") == 5
    assert "! the same in 3 more cells: the module does not install: IC0505" in result.stdout
    assert "32 cells: 4 pairs, 2 dialects, 4 scenarios; seed 7" in result.stderr


def test_the_table_says_which_of_each_group_did_not_pass(played):
    rows = [line for line in call().stdout.splitlines() if "motoko → theirs" in line]
    assert [field.strip() for field in rows[0].split("│")[2:7]] == [
        "unified",
        "1/1",
        "0/1 ✗S6",
        "0/1 !R1",
        "\N{EN DASH}",
    ]


def test_data_on_stdout_stands_alone_there(played):
    result = call("--json", "-")
    assert json.loads(result.stdout)["run"]["seed"] == 7
    assert "✗ S6 motoko -> theirs" in result.stderr


def test_only_required_cells_decide_the_exit_code(played, tmp_path):
    required = tmp_path / "required.toml"
    required.write_text('[[required]]\nreceiver = "motoko"\n')
    assert call("--require", str(required)).exit_code == 0
    required.write_text('[[required]]\nscenario = "G1"\nreceiver = "theirs"\n')
    result = call("--require", str(required))
    assert result.exit_code == 1
    assert "\N{EN DASH} G1 motoko -> theirs (unified): unsupported" in result.stdout
    required.write_text('[[required]]\nscenario = "S99"\n')
    result = call("--require", str(required))
    assert result.exit_code == 1
    assert "required, but no such cell was played: scenario S99" in result.stdout


def test_a_terminal_shows_a_live_table_and_what_is_played_now(sample_report):
    console = Console(force_terminal=True, width=100, record=True, force_interactive=True)
    keys = tuple(cell.key for cell in sample_report.cells)
    with Teller(console) as teller:
        teller.see(
            RunStarted(
                7,
                "embedded",
                sample_report.implementations,
                sample_report.scenarios,
                sample_report.dialects,
                keys,
            )
        )
        for cell in sample_report.cells[:6]:
            teller.see(CellStarted(cell.key))
            teller.see(CellEnded(cell))
        teller.see(CellStarted(keys[6]))
        with console.capture() as shown:
            console.print(teller._view())
    text = shown.get()
    assert "motoko → motoko" in text
    assert "6/32" in text
    assert str(keys[6]) in text


def test_words_of_a_stranger_do_nothing_to_a_terminal(sample_report, capsys):
    cell = dataclasses.replace(
        sample_report.cells[0],
        delivery=Verdict.ERROR,
        observed="\x1b]0;owned\x07 [red]red[/red]\nnext line",
    )
    report = dataclasses.replace(sample_report, cells=(cell,))
    print_report(Console(highlight=False, width=100), report, [])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "[red]red[/red] next line" in said


# --- Usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--receiver", "nobody"], "'nobody' is no implementation"),
        (["--receiver", "my.wasm"], "nothing says which dialect my.wasm speaks"),
        (["--scenario", "X1"], "there is no scenario 'X1'"),
        (["--json", "-", "--html", "-"], "two reports cannot both go to stdout"),
        (["--json", "/no/such/folder/report.json"], "there is no folder for /no/such"),
        (["--root-key", "00"], "embedded replicas have root keys"),
        (["--network", "moon"], "there is no network 'moon'"),
        (["--from", __file__], "no conformance report in JSON"),
        (["--from", __file__, "--seed", "1"], "--from plays nothing"),
    ],
)
def test_what_cannot_be_meant_is_the_callers_error(words, said):
    result = call(*words)
    assert isinstance(result.exception, UsageError)
    assert result.exception.exit_code == 2
    assert said in str(result.exception)


def test_what_there_is_to_play_is_listed():
    result = call("--list")
    assert result.exit_code == 0
    assert "motoko" in result.stdout
    assert "F1    one flow: NEW, ACK, FIN; response delivered once" in result.stdout


def test_the_schema_is_printed():
    assert json.loads(call("--schema").stdout) == reports.schema()


def test_what_a_network_needs_stands_in_the_line_that_plays_a_cell_again(played, tmp_path):
    pem = tmp_path / "me.pem"
    key = ec.generate_private_key(ec.SECP256K1())
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem.chmod(0o600)
    root = SecretKey.generate(bytes(range(32))).public_key_der.hex()
    words = ["--network", "http://127.0.0.1:9", "--root-key", root, "--identity", str(pem)]
    call(*words, "--json", str(tmp_path / "report.json"))
    assert played["options"] == ["--root-key", root, "--identity", str(pem)]


def test_a_report_goes_through_a_link_to_a_file_that_is_not_there_yet(played, tmp_path):
    link, target = tmp_path / "link.json", tmp_path / "target.json"
    link.symlink_to(target)
    ended = call(*ONE, "--json", str(link))
    assert ended.exit_code in {0, 1}, ended.output
    assert link.is_symlink()
    assert json.loads(target.read_text())["run"]["cells"]
