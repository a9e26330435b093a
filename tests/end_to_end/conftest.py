"""One embedded replica a worker, with a Motoko receiver and echo; and a sender for each test."""

import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from bridge import contracts
from bridge.agent import Agent, Identity
from bridge.network import Network
from bridge.principal import Principal
from bridge.reference import SHORT_WAITS, ReferenceCanister, install_argument


@dataclass(frozen=True)
class Stage:
    """The replica, an agent that controls its canisters, and the canisters."""

    network: Network
    agent: Agent
    receiver: ReferenceCanister
    echo: ReferenceCanister

    @property
    def us(self) -> Principal:
        return self.agent.principal

    async def deploy(self, name: str, **settings: object) -> ReferenceCanister:
        """One more canister, for a test that changes or stops it."""
        argument = install_argument({**SHORT_WAITS, **settings}, agents=[self.us])
        wasm = contracts.motoko_canister(name)
        return ReferenceCanister(self.agent, await self.network.deploy(self.agent, wasm, argument))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    async with (
        Network.embedded(admin=True) as network,
        network.agent(Identity.generate()) as agent,
    ):
        argument = install_argument(SHORT_WAITS, agents=[agent.principal])
        canisters = [
            ReferenceCanister(
                agent, await network.deploy(agent, contracts.motoko_canister(name), argument)
            )
            for name in ("receiver", "echo")
        ]
        yield Stage(network, agent, *canisters)


@pytest_asyncio.fixture(loop_scope="session")
async def sender(stage: Stage) -> ReferenceCanister:
    """A sender of the test's own: a flow that one leaves open is told again to who watches it."""
    return await stage.deploy("sender")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here shares the session's replica, so it runs on the session's loop."""
    for item in items:
        if item.path.parent.name == "end_to_end" and inspect.iscoroutinefunction(
            getattr(item, "function", None)
        ):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
