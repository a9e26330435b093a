"""The scenarios as tests: the installed plugin, as a stranger's project has it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from bridge import contracts
from bridge.agent import Identity

ROOT = Path(__file__).resolve().parents[2]


def pytest_run(folder, *options):
    """What pytest says, and how it leaves."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode


def test_each_cell_is_a_test_that_passes_fails_with_the_reason_or_is_skipped_with_it(tmp_path):
    (tmp_path / "mine.wasm").write_bytes(contracts.motoko_canister("foreign_maf_receiver"))
    said, code = pytest_run(
        tmp_path,
        *("--ic-receiver", "mine.wasm", "--ic-sender", "motoko", "--ic-dialect", "maf"),
        *("--ic-scenario", "F1", "--ic-scenario", "R2", "--ic-scenario", "I1", "--ic-seed", "7"),
    )
    assert code == 1, said
    assert "1 failed, 1 passed, 1 skipped" in said
    assert "FAILED ::conformance::R2[motoko -> mine, maf]" in said
    assert "must hold: not processed again" in said
    assert "a duplicate runs twice" in said
    assert re.search(r"script -> mine +NEW +delivered", said)
    assert "SKIPPED" in said
    assert "maf carries no hash" in said
    assert "Traceback" not in said
    assert "conformance: seed 7" in said
    again = "ic-bridge conformance --sender motoko --receiver mine.wasm --dialect maf"
    assert f"again:     {again} --scenario R2 --seed 7" in said


def test_a_scenario_about_one_end_is_a_test_of_each_of_its_cells(tmp_path):
    options = ("--ic-receiver", "rust", "--ic-dialect", "maf", "--ic-scenario", "R2")
    said, code = pytest_run(tmp_path, *options, "-v")
    assert code == 0, said
    assert "3 passed" in said
    for sender in ("python", "motoko", "rust"):
        assert f"R2[{sender} -> rust, maf] PASSED" in said


def test_a_driver_whose_word_counts_for_nothing_is_an_error_of_its_tests(tmp_path):
    (tmp_path / "yes.py").write_text("for _ in open(0): print('{\"ok\": null}', flush=True)\n")
    (tmp_path / "yes.toml").write_text(
        f'name = "yes"\nrole = "receiver"\ndialects = ["unified"]\n'
        f'command = ["{sys.executable}", "yes.py"]\n'
    )
    said, code = pytest_run(
        tmp_path,
        *("--ic-sender", "rust", "--ic-receiver", "yes.toml", "--ic-scenario", "F1"),
    )
    assert code == 1, said
    assert "was asked for a scenario that does not exist" in said


def test_the_identity_that_is_given_deploys(tmp_path):
    said, code = pytest_run(
        tmp_path,
        *("--ic-sender", "rust", "--ic-receiver", "rust", "--ic-scenario", "F1"),
        *("--ic-dialect", "unified", "--ic-identity", "mine.pem"),
    )
    assert code == 1, said
    assert "mine.pem" in said
    Identity.generate().save_pem(tmp_path / "mine.pem")
    said, code = pytest_run(
        tmp_path,
        *("--ic-sender", "rust", "--ic-receiver", "rust", "--ic-scenario", "F1"),
        *("--ic-dialect", "unified", "--ic-identity", "mine.pem"),
    )
    assert code == 0, said


def test_without_the_options_there_are_no_such_tests(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    said, code = pytest_run(tmp_path)
    assert code == 0, said
    assert "1 passed" in said


def test_a_wrong_option_is_told_before_anything_is_played(tmp_path):
    said, code = pytest_run(tmp_path, "--ic-receiver", "mine.wasm")
    assert code == 4, said
    assert "--dialect" in said
    said, code = pytest_run(tmp_path, "--ic-receiver", "rust", "--ic-scenario", "Z9")
    assert code == 4, said
    assert "no scenario 'Z9'" in said
