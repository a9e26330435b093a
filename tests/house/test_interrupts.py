"""An interrupt ends the console script without a trace, at whatever moment of it."""

import subprocess
import sys

import pytest

# The interrupt comes when a module is looked for, so at the same moment in every run.
PROGRAM = """
import os, signal, sys

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            {module_seen}
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, {handler})
sys.argv[1:] = {words!r}
sys.meta_path.insert(0, Interrupter())
from bridge.console import main
main()
"""


def interrupted(module, *words, handler="signal.default_int_handler"):
    seen = "print('looked for', flush=True)"
    program = PROGRAM.format(module=module, module_seen=seen, words=list(words), handler=handler)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.startswith("looked for"), done.stderr
    return done


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("bridge.cli", ["--version"]),
        ("click", ["--version"]),
        ("bridge.config", ["config", "show"]),
        ("bridge.cli.config", ["config", "show"]),
        ("rich.table", ["demo"]),
        ("aiohttp", ["conformance", "--list"]),
        ("bridge.replica", ["replica", "start"]),
    ],
)
def test_while_it_loads(module, words):
    done = interrupted(module, *words)
    assert done.returncode == 130, done.stderr
    assert done.stderr.split() in ([], ["Aborted!"])


def test_who_starts_it_with_the_signal_ignored_means_it():
    done = interrupted("click", "--version", handler="signal.SIG_IGN")
    assert done.returncode == 0, done.stderr
    assert "version" in done.stdout
