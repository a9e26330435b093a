"""The tests of that name in `tests/motoko`, on Rust canisters: see `conftest.py`."""

import runpy
from pathlib import Path

ROOM = Path(__file__).resolve().parents[2] / "motoko"
LEFT_OUT = {
    # An id of 2^128 does not decode in Rust: `test_an_id_of_2_to_the_128...` in `tests/rust`.
    "test_an_id_of_2_to_the_128_is_an_error_and_leaves_nothing",
}
globals().update(
    {
        name: value
        for name, value in runpy.run_path(str(ROOM / "test_flows.py")).items()
        if not name.startswith("__") and name not in LEFT_OUT
    }
)
