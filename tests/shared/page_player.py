"""Plays the pages of the documentation: what their blocks say is done, and comes out as they say.

A page is played from an empty folder. Blocks with a title are the files of that name; a
``console`` block gives commands behind ``$`` and what they print (``...`` stands for anything).
A Python file that no command of the page names is run once it stands there, a file of tests by
pytest. Python without a title is a fragment and runs as it stands, ``await`` included.
``<!-- setup ... -->`` holds Python that a reader need not see: it makes what the page's own words
say that the reader has. ``<!-- needs: dfx -->`` before a block says that it is only run where that
program is; elsewhere its syntax is checked, as is that of ``make``'s commands. The port that a page
gives to a replica is replaced by one that is free, wherever the page speaks of it.
"""

import ast
import asyncio
import contextlib
import doctest
import inspect
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from bridge import candid

ROOT = Path(__file__).resolve().parents[2]
# Compiled and run by the tests of their own rooms.
ELSEWHERE = {"motoko": "tests/motoko", "rust": "rust_reference/async_flow/examples"}
PICTURES = {"text", "mermaid", "http", "diff"}
OURS = (
    "IC_BRIDGE",
    "PYTEST",
    "COV",
    "PYTHON",
    "VIRTUAL_ENV",
)  # what a reader's shell does not have
COMMAND_SECONDS = 500
MAINNET = "mainnet"  # where cycles are spent

_BLOCK = re.compile(
    r"""
    (?:^<!--\ needs:\ (?P<needs>[\w-]+)\ -->\n)?
    ^(?P<indent>\ *)```(?P<language>\w+)(?:\ title="(?P<title>[^"]+)")?\n
    (?P<code>.*?)^(?P=indent)```$
    | ^<!--\ setup\n(?P<setup>.*?)^-->$
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page; ``language`` is ``setup`` for a hidden one."""

    page: str
    line: int
    language: str
    code: str
    title: str | None
    needs: str | None

    @property
    def place(self):
        return f"{self.page}:{self.line}"


def blocks_of(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["setup"] is not None:
            found.append(Block(page, line, "setup", match["setup"], None, None))
            continue
        code = "".join(
            one.removeprefix(match["indent"]) for one in match["code"].splitlines(keepends=True)
        )
        found.append(Block(page, line, match["language"], code, match["title"], match["needs"]))
    return found


def pages():
    listed = [
        "README.md",
        "CONTRIBUTING.md",
        "motoko_reference/README.md",
        "rust_reference/README.md",
    ]
    listed += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
    return [page for page in listed if (ROOT / page).is_file() and blocks_of(page)]


def free_port():
    """A port that nothing listens on, outside of the range that systems give out by themselves."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def installs(page):
    """Whether a page tells its reader to install the package: then it has to be enough."""
    return any(
        block.language == "console"
        and re.search(r"^\$ pip install 'ic-bridge", block.code, re.MULTILINE)
        for block in blocks_of(page)
    )


def on_a_free_port(blocks):
    """The blocks of a page, with the port of a replica that it starts replaced."""
    for block in blocks:
        if block.language == "console":
            for given in re.findall(r"replica start (?:.|\\\n)*?--port (\d+)", block.code):
                port = str(free_port())
                blocks = [
                    replace(one, code=re.sub(rf"\b{given}\b", port, one.code)) for one in blocks
                ]
    return blocks


def is_here(what):
    """Whether a program that a block needs is on this machine."""
    return what != MAINNET and shutil.which(what) is not None


class Player:
    """Plays one page in one folder.

    Args:
        folder: Where; empty.
        stack: What setups open is closed with it.
        programs: The folder of the reader's Python and commands.
        extra: Variables that the reader's shell has besides.
    """

    def __init__(self, folder, stack, programs, extra):
        self.folder = folder
        self.names = {"__name__": "page", "asyncio": asyncio, "stack": stack}
        home = folder / "home"
        home.mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "NO_COLOR": "1",
            "COLUMNS": "100",
            **extra,
        }

    async def page(self, blocks):
        """Play blocks of one page, in their order."""
        commands = "".join(one.code for one in blocks if one.language == "console")
        for block in blocks:
            await self.play(block)
            unnamed = block.title is not None and block.title not in commands
            if unnamed and block.language == "python" and self.runs(block):
                tests = Path(block.title).name.startswith("test_")
                with_what = "pytest -q -o asyncio_mode=auto" if tests else "python"
                got = await asyncio.to_thread(self.run, f"{with_what} {block.title}")
                assert got.returncode == 0, f"{block.place}\n{got.stdout}\n{got.stderr}"

    @staticmethod
    def runs(block):
        """Whether the block is run here, or only looked at; what needs mainnet never is."""
        return not block.needs or is_here(block.needs)

    async def play(self, block):
        runs = self.runs(block)
        if block.title is not None:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
        if block.language in {"python", "setup"}:
            flags = 0 if block.title else ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(block.code, block.place, "exec", flags=flags)
            if runs and block.title is None:
                value = eval(code, self.names)
                if inspect.iscoroutine(value):
                    await value
        elif block.language in {"console", "sh", "bash"}:
            await self.commands(block, runs=runs)
        elif block.language == "toml":
            tomllib.loads(block.code)
        elif block.language == "json":
            json.loads(block.code)
        elif block.language == "candid":
            candid.parse_did(block.code)
        elif block.language in ELSEWHERE:
            self.stands_elsewhere(block)
        else:
            assert block.language in PICTURES | {"ini", "yaml"}, f"{block.place}: {block.language}"

    async def commands(self, block, *, runs):
        if block.language == "console":
            asked = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block.code, re.MULTILINE)
            assert asked, f"{block.place}: no line begins with $"
        else:
            asked = [(block.code, "...")]
            # The commands of a clone are what CI runs; here is no clone.
            runs = runs and not all(line.startswith("make ") for line in block.code.splitlines())
        for command, expected in asked:
            if not runs:
                await asyncio.to_thread(self.run, command, "-n")
                continue
            got = await asyncio.to_thread(self.run, command)
            told = f"{block.place}\n$ {command}\nexit {got.returncode}\n{got.stdout}\n{got.stderr}"
            assert got.returncode == 0 or "exit" in expected, told
            printed = got.stdout + (f"exit {got.returncode}\n" if got.returncode else "")
            checker = doctest.OutputChecker()
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert checker.check_output(expected, printed, flags), f"{told}\nexpected\n{expected}"

    def run(self, command, *options):
        return subprocess.run(
            ["bash", *options, "-c", command],
            check=bool(options),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
        )

    @staticmethod
    def stands_elsewhere(block):
        """A block of another language is, word for word, in a file that is compiled elsewhere."""
        if block.page == "motoko_reference/README.md":
            return  # tests/motoko compiles it from that page
        folder = ROOT / ELSEWHERE[block.language]
        files = [path for path in folder.rglob("*") if path.suffix in {".rs", ".mo"}]
        assert any(block.code.strip() in path.read_text(encoding="utf-8") for path in files), (
            block.place
        )


@contextlib.asynccontextmanager
async def playing(folder, programs=None, **extra):
    """A player, whose replicas in the background are stopped however its page ends."""
    async with contextlib.AsyncExitStack() as stack:
        player = Player(folder, stack, programs or Path(sys.executable).parent, extra)
        stack.callback(player.run, "ic-bridge replica stop --all")
        yield player
