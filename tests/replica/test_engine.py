"""The engine: only the version whose C interface was tested, and what it keeps on disk."""

import os
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

from bridge.errors import ReplicaError
from bridge.replica.execution import engine
from bridge.replica.execution.binary import _sized
from bridge.replica.execution.native import SUPPORTED, check_version

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("other", ["49.9.9", "51.0.0", "5.0.1", "501.0"])
def test_another_version_is_one_clear_error(other):
    with pytest.raises(ReplicaError) as caught:
        check_version(other)
    assert other in str(caught.value)
    assert "pip install" in str(caught.value)


def test_the_installed_version_and_those_asked_for_are_the_supported_one():
    check_version(version("wasmtime"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert extras["replica"] == [f"wasmtime>={SUPPORTED},<{int(SUPPORTED) + 1}"]
    pinned = (ROOT / "requirements" / "constraints.txt").read_text()
    assert f"\nwasmtime=={SUPPORTED}." in pinned


def test_the_cache_keeps_what_was_used_last(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # Modules of some function types and nothing else.
    modules = [
        b"\0asm\1\0\0\0\1" + _sized(bytes([count]) + b"\x60\0\0" * count) for count in range(1, 5)
    ]

    def compiled(number):
        engine.forget_modules()
        engine.compile_module(modules[number])

    folder = tmp_path / "ic-bridge" / "compiled"
    names = []
    for number in range(3):
        compiled(number)
        (new,) = {file.name for file in folder.iterdir()} - set(names)
        names.append(new)
        os.utime(folder / new, (number, number))
    compiled(0)  # used again, so the second is the oldest
    size = (folder / names[0]).stat().st_size
    monkeypatch.setattr(engine, "_CACHE_BYTES", 3 * size + size // 2)
    compiled(3)
    left = {file.name for file in folder.iterdir()}
    assert len(left) == 3
    assert set(names) - left == {names[1]}


def test_threads_that_come_at_the_same_time_get_one_engine(monkeypatch):
    made = engine.wasmtime.Engine

    def slowly(config):
        time.sleep(0.05)
        return made(config)

    monkeypatch.setattr(engine.wasmtime, "Engine", slowly)
    monkeypatch.setattr(engine, "_engine", cache(engine._engine.__wrapped__))
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(engine.engine) for _ in range(4)]
    assert len({id(each.result()) for each in found}) == 1
