"""Motoko canisters on an embedded replica."""

import pytest
from canister_world import opened


@pytest.fixture
async def world():
    async with opened("motoko") as world:
        yield world
