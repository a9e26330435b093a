"""What the tests of the tables share: principals, a readable policy, and the test vectors."""

import json
import sys
from pathlib import Path

import pytest

from bridge.flow import Policy
from bridge.principal import Principal

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for flow_lab

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


@pytest.fixture(scope="session")
def seconds():
    """Every setting at its default, counted in seconds."""
    return Policy(**json.loads((VECTORS / "handwritten.json").read_text())["policies"]["seconds"])


@pytest.fixture(scope="session")
def alice():
    return Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


@pytest.fixture(scope="session")
def bob():
    return Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")


@pytest.fixture(scope="session")
def eve():
    return Principal.from_text("r7inp-6aaaa-aaaaa-aaabq-cai")
