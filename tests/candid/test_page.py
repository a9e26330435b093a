"""The examples of docs/candid.md do what the page says."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import root

PAGE = (Path(__file__).parents[2] / "docs" / "candid.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


PYTHON = blocks("python")
COMMANDS = re.findall(r"\$ ic-bridge candid (.+)\n((?:[^$].*\n)*)", "".join(blocks("console")))


def test_the_python_of_the_page_runs_from_top_to_bottom():
    assert PYTHON
    names = {"__name__": "page"}
    for place, block in enumerate(PYTHON):
        exec(compile(block, f"docs/candid.md, example {place + 1}", "exec"), names)


@pytest.mark.parametrize(("command", "output"), COMMANDS)
def test_the_commands_of_the_page_print_what_it_shows(command, output):
    result = CliRunner().invoke(root, ["candid", *shlex.split(command)])
    assert result.exit_code == 0
    assert result.output == output
