"""Who checks an implementation of his own hears of it what is true, and hears it in time."""

import asyncio
import gzip
import json
import shlex
import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from bridge.agent import Identity
from bridge.cli import root
from bridge.cli.conformance_cast import cast_of, slowness
from bridge.cli.conformance_view import Teller, print_report
from bridge.conformance import entries
from bridge.conformance.place import Place
from bridge.conformance.results import CellStarted, RunEnded, RunStarted, Verdict
from bridge.conformance.runner import plan_tasks, run
from bridge.contracts import motoko_canister
from bridge.errors import ReplicaError, TransportError, UsageError
from bridge.network import Network
from bridge.network import network as networks

README = Path(__file__).resolve().parents[2] / "README.md"
MAF = ("--dialect", "maf", "--seed", "1")
STANDING = 'name = "theirs"\ndialects = ["maf"]\ncanister = "ryjl3-tyaaa-aaaaa-aaaba-cai"\n'
CUT = "\0asm\1\0\0\0\1\x7f\x60"
NEEDS_SEND = "the entry of my does not say, for maf, that it can be made to open a flow"


def call(*words):
    return CliRunner().invoke(root, ["conformance", *words], catch_exceptions=True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module of both roles, as the pages have their reader make it."""
    (tmp_path / "my.wasm").write_bytes(motoko_canister("both_maf"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- What is stated of a module -------------------------------------------------------------------


@pytest.mark.slow
def test_the_line_of_the_readme_passes_in_full_without_its_scenario(here):
    line = next(
        line for line in README.read_text().splitlines() if line.startswith("$ ic-bridge conf")
    )
    words = shlex.split(line.removeprefix("$ "))[2:]
    at = words.index("--scenario")
    result = call(*words[:at], *words[at + 2 :])
    assert result.exit_code == 0, result.stdout
    assert "failed" not in result.stdout
    assert "error" not in result.stdout


def test_a_bare_module_is_not_taken_to_have_one_role_alone(here):
    result = call("--sender", "rust", "--receiver", "my.wasm", *MAF, "--scenario", "D6")
    assert result.exit_code == 1
    assert (
        "nothing states that my has the receiver's role alone, as an entry with role = \"rec"
        in (result.stderr)
    )
    assert "failed" not in result.stdout


def test_an_entry_that_states_one_role_alone_is_held_to_it_and_what_it_said_is_named(here):
    (here / "theirs.toml").write_text(
        'name = "theirs"\nwasm = "my.wasm"\nrole = "receiver"\ndialects = ["maf"]\n'
    )
    result = call("--sender", "rust", "--receiver", "theirs.toml", *MAF, "--scenario", "D6")
    assert result.exit_code == 1
    assert "observed    a FIN(null) for flow 1, to an ACK of 4 bytes for flow 1" in result.stdout


# --- Nothing was played ---------------------------------------------------------------------------


def test_a_sender_of_which_nothing_could_be_played_is_no_success(here):
    result = call("--sender", "my.wasm", *MAF, "--scenario", "F1", "--scenario", "R1")
    assert result.exit_code == 1
    assert "nothing of my as a sender could be played; unsupported: all 3 cells" in result.stderr
    assert NEEDS_SEND in result.stderr
    assert "a .toml entry with send = { method" in result.stderr
    assert f"3 cells: {NEEDS_SEND}" in result.stdout


def test_an_entry_is_asked_for_in_each_role_that_it_states(here):
    (here / "my.toml").write_text('name = "my"\nwasm = "my.wasm"\ndialects = ["maf"]\n')
    words = ["--entry", "my.toml", "--sender", "rust", "--receiver", "rust", *MAF]
    result = call(*words, "--scenario", "F1")
    assert result.exit_code == 1
    assert "2 passed" in result.stdout
    assert "nothing of my as a sender could be played" in result.stderr
    assert "my as a receiver" not in result.stderr


def test_scenarios_about_the_other_end_alone_ask_nothing_of_a_named_one(here):
    result = call("--sender", "my.wasm", "--receiver", "rust", *MAF, "--scenario", "R1")
    assert result.exit_code == 0, result.output


def test_what_is_required_decides_alone_where_a_file_says_it(here):
    (here / "required.toml").write_text("[[required]]\nunsupported = true\n")
    words = ["--sender", "my.wasm", "--receiver", "rust", *MAF, "--scenario", "F1"]
    assert call(*words, "--require", "required.toml").exit_code == 0


def test_who_has_not_the_role_that_it_is_named_for_is_told(here):
    (here / "my.toml").write_text(
        'name = "my"\nwasm = "my.wasm"\nrole = "receiver"\ndialects = ["maf"]\n'
    )
    words = ["--sender", "my.toml", "--sender", "rust", "--receiver", "rust", *MAF]
    result = call(*words, "--scenario", "F1")
    assert result.exit_code == 1
    assert "nothing of my as a sender was played: it has not that role" in result.stderr


def test_the_commonest_reasons_stand_below_the_table(sample_report, capsys):
    print_report(Console(highlight=False, width=100), sample_report, [])
    said = capsys.readouterr().out
    assert "unsupported, for these reasons:\n  4 cells: the package has no saga" in said


# --- What nothing can be played with --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mi.wasm", None, "there is no file mi.wasm"),
        ("mi.toml", None, "mi.toml cannot be read: No such file or directory"),
        ("mi.wasm", "what", "mi.wasm: the module does not begin like WebAssembly"),
        ("mi.wasm", CUT, "mi.wasm: the module ends inside a section: it is cut off"),
        ("mi.wasm", "\0asm\1\0", "mi.wasm: the module is not WebAssembly of version 1, or is cut"),
        ("mi.wasm", "\0asm\1\0\0\0\x7f\0", "mi.wasm: the module has a section of the unknown"),
        ("mi.toml", "what", "the entry mi.toml is not TOML"),
        ("mi.toml", 'name = "x"\nwasm = "x.wasm"\ndialects = ["maf"]', "x cannot be read: No such"),
        ("mi.toml", STANDING, "there is no canister ryjl3-tyaaa-aaaaa-aaaba-cai with a module on"),
    ],
)
@pytest.mark.parametrize("scenario", [["--scenario", "F1"], []], ids=["one", "all"])
def test_a_mistake_about_every_cell_is_told_once_and_nothing_is_played(
    here, monkeypatch, name, text, said, scenario
):
    async def never(*_, **__):
        raise AssertionError("something was played")
        yield

    monkeypatch.setattr("bridge.cli.conformance.run", never)
    if text is not None:
        (here / name).write_text(text)
    result = call("--receiver", name, *MAF, *scenario)
    assert isinstance(result.exception, UsageError), result.exception
    assert said in str(result.exception)
    assert result.stdout == ""


def test_without_the_engine_of_the_replica_nothing_is_played(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    result = call("--receiver", "my.wasm", *MAF)
    assert isinstance(result.exception, ReplicaError), result.output
    assert result.exception.hint == "pip install 'ic-bridge[replica]'"
    assert result.stdout == ""


def test_a_network_by_name_that_cannot_be_reached_leaves_as_one_by_url_does(here, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # closed again: nobody listens there
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(networks, "MAINNET_URL", url)
    words = ["--sender", "rust", "--receiver", "my.wasm", *MAF, "--scenario", "F1"]
    result = call(*words, "--network", "ic")
    assert isinstance(result.exception, TransportError), result.output
    assert (result.exception.exit_code, result.stdout) == (3, "")
    assert url in str(result.exception)
    call(*words, "--network", "ic", "--json", "report.json")
    (cell,) = json.loads((here / "report.json").read_text())["run"]["cells"]
    assert cell["rerun"].endswith("--seed 1 --network ic")


def test_a_network_that_an_entry_names_and_that_cannot_be_reached_is_told_once(here):
    with socket.create_server(("127.0.0.1", 0)) as server:  # closed again: nobody listens there
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    (here / "standing.toml").write_text(f'{STANDING}url = "{url}"\n')
    words = ["--sender", "rust", "--receiver", "standing.toml", *MAF]
    result = call(*words, "--scenario", "F1", "--scenario", "F2")
    assert isinstance(result.exception, TransportError), result.output
    assert url in str(result.exception)
    assert result.output == ""


def test_a_gzipped_module_that_is_cut_off_is_told_before_anything_is_played(here):
    packed = gzip.compress((here / "my.wasm").read_bytes())
    (here / "cut.wasm.gz").write_bytes(packed[: len(packed) // 2])
    result = call("--receiver", "cut.wasm.gz", *MAF)
    assert isinstance(result.exception, UsageError), result.output
    assert "cut.wasm.gz: the gzipped module is cut off" in str(result.exception)
    assert result.output == ""


def test_a_file_that_is_cut_off_is_named_in_its_cells_where_others_can_be_played(here):
    (here / "cut.wasm").write_bytes((here / "my.wasm").read_bytes()[:300])
    words = ["--sender", "rust", "--receiver", "cut.wasm", "--receiver", "my.wasm", *MAF]
    result = call(*words, "--scenario", "F1")
    assert result.exit_code == 1
    assert "1 passed" in result.stdout
    assert "1 error" in result.stdout
    assert "observed    cut.wasm: the module ends inside a section" in result.stdout


def test_a_module_that_the_network_finds_not_valid_is_named_by_its_file_once(here):
    # Whole by its sections, one of which says that it holds five functions and holds none.
    (here / "odd.wasm").write_bytes(b"\0asm\1\0\0\0\x0a\1\5")
    words = ["--sender", "rust", "--receiver", "odd.wasm", *MAF, "--jobs", "2"]
    result = call(*words, "--scenario", "F1", "--scenario", "F2", "--scenario", "F3")
    assert result.exit_code == 1, result.output
    assert result.stdout.count("observed    odd.wasm is no valid module: ") == 1
    assert "! the same in 2 more cells: odd.wasm is no valid module: " in result.stdout
    assert "Error from Canister" not in result.output


# --- A canister that stands somewhere, and time that runs -----------------------------------------


async def test_a_canister_that_is_not_on_the_network_is_told_before_how_long_it_takes(here):
    (here / "standing.toml").write_text(STANDING)
    words = ["--sender", "rust", "--receiver", "standing.toml", *MAF, "--scenario", "F1"]
    async with Network.embedded() as network:
        result = await asyncio.to_thread(call, *words, "--network", network.url)
    assert isinstance(result.exception, UsageError), result.output
    assert result.exception.exit_code == 2
    assert f"there is no canister ryjl3-tyaaa-aaaaa-aaaba-cai with a module on {network.url}" in (
        str(result.exception)
    )
    assert result.output == ""


async def test_a_canister_that_is_not_there_is_an_error_before_anything_is_said_to_it(here):
    (here / "standing.toml").write_text(STANDING)
    theirs = entries.load(here / "standing.toml")
    async with Network.embedded() as network:
        async for event in run(
            [entries.shipped("rust")],
            [theirs],
            scenarios=["F1"],
            place=Place(network.url, network.root_key, Identity.generate()),
        ):
            if isinstance(event, RunEnded):
                (cell,) = event.report.cells
    assert cell.verdict is Verdict.ERROR
    assert f"there is no canister ryjl3-tyaaa-aaaaa-aaaba-cai with a module on {network.url}" in (
        cell.observed
    )
    assert cell.timeline == ()


def planned(*words):
    cast = cast_of(["rust"], list(words), [], ("maf",))
    given = {"scenarios": ["F1"], "dialects": ["maf"], "seed": 1}
    return plan_tasks(cast.senders, cast.receivers, **given)[0]


def test_how_long_a_scenario_takes_is_said_where_time_cannot_be_moved(here):
    there = Place("http://127.0.0.1:4943")
    said = slowness(planned("my.wasm"), there)
    assert "time cannot be moved on http://127.0.0.1:4943: a scenario takes 22 min or more" in said
    assert "as long as my may repeat a message (first_retry, 330 s)" in said
    assert "takes 1 min or more" in slowness(planned("rust"), there)
    assert slowness(planned("my.wasm"), Place()) is None


def test_a_long_run_gives_signs_of_life_where_no_table_does(sample_report):
    console = Console(width=100, record=True)
    keys = tuple(cell.key for cell in sample_report.cells)
    teller = Teller(console, "it takes long")
    started = RunStarted(
        7,
        "http://127.0.0.1:4943",
        sample_report.implementations,
        sample_report.scenarios,
        sample_report.dialects,
        keys,
    )
    teller.see(started)
    teller.see(CellStarted(keys[0]))
    teller.give_sign()
    said = console.export_text()
    assert "it takes long" in said
    assert f"after 0 min 0 of 32 cells; now {keys[0]}" in said
