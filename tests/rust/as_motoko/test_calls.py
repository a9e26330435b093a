"""The tests of that name in `tests/motoko`, on Rust canisters: see `conftest.py`."""

import runpy
from pathlib import Path

ROOM = Path(__file__).resolve().parents[2] / "motoko"
LEFT_OUT = {
    # The method by which a canister sends to itself is another: `tests/rust/test_flows.py` has it.
    "test_nobody_else_may_forward_in_anothers_name",
}
globals().update(
    {
        name: value
        for name, value in runpy.run_path(str(ROOM / "test_calls.py")).items()
        if not name.startswith("__") and name not in LEFT_OUT
    }
)
