"""The rule about skips: listed ones pass, any other fails the run in CI, and only there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

SKIPPING = """
import pytest

def test_here():
    pass

def test_elsewhere():
    pytest.skip("no such machine")
"""


def test_each_skip_that_is_allowed_is_of_a_test_that_exists() -> None:
    lines = (TESTS / "allowed_skips.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            test, gap, reason = line.partition("  ")
            file, _, name = test.partition("[")[0].partition("::")
            there = ast.walk(ast.parse((TESTS.parent / file).read_text(encoding="utf-8")))
            functions = ast.FunctionDef | ast.AsyncFunctionDef
            assert name in {one.name for one in there if isinstance(one, functions)}, line
            assert gap, line
            assert reason.strip(), line


@pytest.mark.parametrize(
    ("ci", "listed", "exit_code"),
    [("true", False, 1), ("true", True, 0), ("", False, 0)],
    ids=["unlisted in CI", "listed in CI", "unlisted elsewhere"],
)
@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "workers"])
def test_a_skip(tmp_path: Path, ci: str, listed: bool, exit_code: int, workers: list[str]) -> None:
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {TESTS / 'shared'}\n")
    (tmp_path / "test_it.py").write_text(SKIPPING)
    line = "test_it.py::test_elsewhere  needs another machine\n"
    (tmp_path / "allowed_skips.txt").write_text("# the list\n" + line * listed)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *workers, str(tmp_path)],
        cwd=tmp_path,
        env={"CI": ci, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_code, done.stdout
    assert ("skipped, but not in" in done.stdout) == bool(exit_code)
