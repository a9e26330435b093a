"""The examples, and README's lines of use, run as they are written."""

import re
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
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout == "b'hello'\n"


def test_the_readmes_lines_of_use_are_those_of_the_example() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    example = (PROJECT / "examples" / "first_flow.py").read_text(encoding="utf-8")
    for line in code.splitlines():
        assert line in example, line
