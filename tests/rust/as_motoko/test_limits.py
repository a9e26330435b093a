"""The tests of that name in `tests/motoko`, on Rust canisters: see `conftest.py`."""

import runpy
from pathlib import Path

ROOM = Path(__file__).resolve().parents[2] / "motoko"
LEFT_OUT = {
    # They count the messages to itself by which the Motoko library works; here there are others.
    "test_a_flow_whose_tick_does_not_end_holds_the_others_up_only_once",
    "test_a_telling_that_never_begins_is_given_up_and_comes_again",
}
globals().update(
    {
        name: value
        for name, value in runpy.run_path(str(ROOM / "test_limits.py")).items()
        if not name.startswith("__") and name not in LEFT_OUT
    }
)
