"""The scenarios of the Motoko room, played on the Rust canisters: same scope, same outcome.

The files beside this one run the tests of that room as they are; only what `world.deploy` installs
differs, and it is asked by the same interface files.
"""

import pytest
from canister_world import opened


@pytest.fixture
async def world():
    async with opened("rust", interfaces="motoko") as world:
        yield world
