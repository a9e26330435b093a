"""The tests of that name in `tests/motoko`, on Rust canisters: see `conftest.py`."""

import runpy
from pathlib import Path

ROOM = Path(__file__).resolve().parents[2] / "motoko"
globals().update(
    {
        name: value
        for name, value in runpy.run_path(str(ROOM / "test_access.py")).items()
        if not name.startswith("__")
    }
)
