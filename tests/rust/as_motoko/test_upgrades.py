"""The tests of that name in `tests/motoko`, on Rust canisters: see `conftest.py`."""

import runpy
from pathlib import Path

ROOM = Path(__file__).resolve().parents[2] / "motoko"
LEFT_OUT = {
    # There is no previous layout, and the builds to come from are Motoko's.
    "test_flows_of_the_previous_layout_go_on_in_every_state",
    "test_flows_in_every_state_go_on_after_an_upgrade_from",
    # Only the Motoko runtime compares the kinds of state.
    "test_a_module_of_another_kind_of_state_is_refused_and_the_old_one_goes_on",
    # The index over the flows is made anew here: `test_state.py` beside this file has its bound.
    "test_what_an_upgrade_takes_does_not_grow_with_the_flows_that_are_kept",
}
globals().update(
    {
        name: value
        for name, value in runpy.run_path(str(ROOM / "test_upgrades.py")).items()
        if not name.startswith("__") and name not in LEFT_OUT
    }
)
