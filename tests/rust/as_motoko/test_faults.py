"""The tests of that name in `tests/motoko`, on Rust canisters: see `conftest.py`."""

import runpy
from pathlib import Path

ROOM = Path(__file__).resolve().parents[2] / "motoko"
# Counts the messages to itself by which the Motoko library works; `tests/rust/test_tellings.py` has
# those of the Rust one.
LEFT_OUT = {"test_a_telling_that_waits_long_in_its_queue_is_no_failed_try"}
globals().update(
    {
        name: value
        for name, value in runpy.run_path(str(ROOM / "test_faults.py")).items()
        if not name.startswith("__") and name not in LEFT_OUT
    }
)
