"""The examples run as they are written; the lines of README do so with the other pages."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("file", sorted(PROJECT.glob("examples/*.py")), ids=lambda file: file.stem)
def test_an_example_runs_and_runs_again(file: Path, tmp_path: Path) -> None:
    for _ in range(2):  # what the first run left behind is there at the second
        done = subprocess.run(
            [sys.executable, str(file)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout == "b'hello'\n"
