"""The scenarios of the Motoko room, played on the Rust canisters: same scope, same outcome.

The files beside this one run the tests of that room as they are; only what `world.deploy` installs
differs, and it is asked by the same interface files.
"""

import importlib.util
import sys
from pathlib import Path

import aiohttp
import pytest

from bridge import contracts
from bridge.agent import Agent, Identity
from bridge.replica import Replica

MOTOKO = Path(__file__).resolve().parents[2] / "motoko"


def _loaded():
    name = "motoko_world_for_rust"
    spec = importlib.util.spec_from_file_location(name, MOTOKO / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


motoko = _loaded()


class World(motoko.World):
    """The same world with Rust canisters."""

    async def deploy(self, name, settings=None, access=None):
        return await self.deploy_module(name, contracts.rust_canister(name), settings, access)

    async def replace(self, canister, name, mode):
        wasm = contracts.rust_canister(name)
        await self._install(canister, name, wasm, motoko.install(motoko.FAST), mode)

    async def upgrade(self, canister, name, settings=None):
        values = motoko.install(settings) if settings else [None]
        await self.manage("stop_canister", canister)
        await self._install(canister, name, contracts.rust_canister(name), values, "upgrade")
        await self.manage("start_canister", canister)
        await canister.configure()


@pytest.fixture
async def world():
    async with (
        Replica(admin=True, seed="rust") as replica,
        Agent(replica.url, identity=Identity.generate(), root_key=replica.root_key) as agent,
        aiohttp.ClientSession() as session,
    ):
        yield World(replica, agent, session)


@pytest.fixture(name="eventually")
def eventually_fixture():
    return motoko.eventually
