"""The engine's version: its C interface is used directly, so only the tested one is taken."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from bridge.errors import ReplicaError
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
