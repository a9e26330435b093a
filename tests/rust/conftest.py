"""Rust canisters on an embedded replica, beside Motoko ones."""

import pytest
from canister_world import opened


@pytest.fixture
async def world():
    async with opened("rust") as world:
        yield world
