"""What is published, built once for all workers and installed where nothing else is."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CONSTRAINTS = "constraints.txt"
# What git does not keep, and what takes long to copy.
NOT_OURS = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "node_modules", "target", "__pycache__", ".*_cache",
    ".hypothesis", ".icp", ".dfx",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """The files of a release, the same ones built otherwise, and an environment that has them."""

    wheel: Path
    sdist: Path
    wheel_of_tree: Path
    sdist_again: Path
    bin: Path


def call(*command, cwd, env=None, timeout=500):
    """Run a command; what it printed. One that fails shows its words."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def outside():
    """An environment that does not know of this tree."""
    ours = ("PYTHON", "PYTEST", "IC_BRIDGE", "VIRTUAL_ENV", "COV", "CI")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def build(folder):
    tree = folder / "tree"
    shutil.copytree(PROJECT, tree, ignore=NOT_OURS)
    python = sys.executable
    call(python, "-m", "build", "--no-isolation", "--outdir", folder / "release", ".", cwd=tree)
    for file in tree.rglob("*.py"):
        os.utime(file, (0, 0))
    call(python, "-m", "hatchling", "build", "-d", folder / "again", cwd=tree)
    shutil.rmtree(tree)


def install(folder, wheel):
    """The wheel with all its extras; the tested versions, but ic-py's own cbor2."""
    lines = (PROJECT / "requirements" / "constraints.txt").read_text().splitlines()
    constraints = folder / CONSTRAINTS
    constraints.write_text("\n".join(line for line in lines if not line.startswith("cbor2")))
    call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    call(
        *(folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet"),
        *("--disable-pip-version-check", "--constraint", constraints, f"{wheel}[all]"),
        cwd=folder,
        env=outside(),
    )


@pytest.fixture(scope="session")
def published(tmp_path_factory, worker_id):
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "published"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = folder / "done.json"
        if not note.exists():
            build(folder)
            (wheel,) = (folder / "release").glob("*.whl")
            install(folder, wheel)
            note.write_text(json.dumps(True))
    (wheel,) = (folder / "release").glob("*.whl")
    (sdist,) = (folder / "release").glob("*.tar.gz")
    again = folder / "again"
    return Published(wheel, sdist, again / wheel.name, again / sdist.name, folder / "venv" / "bin")


@pytest.fixture
def empty_environment(published, tmp_path):
    """A new environment of Python: its programs, and variables by which pip finds the wheel."""
    place = tmp_path / "environment"
    call(sys.executable, "-m", "venv", place, cwd=tmp_path)
    variables = {
        "PIP_FIND_LINKS": str(published.wheel.parent),
        "PIP_CONSTRAINT": str(published.wheel.parent.parent / CONSTRAINTS),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COMPILE": "0",  # as pip reads it: "compile" is off
        "PIP_CACHE_DIR": call(
            place / "bin" / "python", "-m", "pip", "cache", "dir", cwd=tmp_path
        ).strip(),
    }
    return place / "bin", variables


@pytest.fixture
def run_outside(published, tmp_path):
    """Run a command of the environment from an empty folder; what it printed."""

    def run(command, *options):
        return call(published.bin / command, *options, cwd=tmp_path, env=outside())

    return run
