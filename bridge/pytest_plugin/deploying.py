"""The factories that the fixtures hand out: agents by identity, canisters by module."""

import os
from pathlib import Path
from typing import Any

from bridge.agent import Agent, Identity, IdentityLike
from bridge.errors import BridgeError
from bridge.network import Canister, Network, encode_arguments
from bridge.principal import Principal
from bridge.pytest_plugin.background import BackgroundLoop, Both, target_of
from bridge.pytest_plugin.source import Source, read_interface, read_module


class CanisterUnderTest(Both):
    """A `Canister` whose methods are awaited in async tests and simply called in sync ones."""

    def as_agent(self, agent: Any) -> "CanisterUnderTest":
        """The same canister, called by another agent."""
        return CanisterUnderTest(self._loop, self._target.as_agent(target_of(agent)))


class AgentFactory:
    """Makes agents, one an identity, and keeps them to the session's end.

    Args:
        loop: Where they live.
        network: What they talk to.
        default: Who is meant where nobody is named.
    """

    def __init__(self, loop: BackgroundLoop, network: Network, default: Identity) -> None:
        self._loop = loop
        self._network = network
        self._default = default
        self._named: dict[str, Identity] = {}
        self._agents: dict[IdentityLike, Agent] = {}

    def __call__(self, who: str | IdentityLike | None = None) -> Any:
        """An agent; its coroutine methods are awaited in async tests and called in sync ones.

        Args:
            who: An identity, ours or ic-py's; or a name, which means the same new identity
                throughout the session;
                or nothing, for the identity that controls what is deployed.
        """
        return Both(self._loop, self.agent(who))

    def agent(self, who: str | IdentityLike | None = None) -> Agent:
        """The agent itself, which belongs to the session's own event loop."""
        if isinstance(who, str):
            who = self._named.setdefault(who, Identity.generate())
        return self._loop.wait(self._made(who or self._default))

    async def _made(self, identity: IdentityLike) -> Agent:
        agent = self._agents.get(identity)
        if agent is None:
            agent = self._agents[identity] = self._network.agent(identity)
        return agent

    def __repr__(self) -> str:
        return f"<agents of {self._network.url}>"

    async def close(self) -> None:
        """Close them all."""
        for agent in self._agents.values():
            await agent.close()


class CanisterFactory:
    """Deploys modules.

    Args:
        loop: Where the work is done.
        network: Where they are deployed.
        agents: Who may deploy.
        folder: What relative file names are relative to.
    """

    def __init__(
        self, loop: BackgroundLoop, network: Network, agents: AgentFactory, folder: Path
    ) -> None:
        self._loop = loop
        self._network = network
        self._agents = agents
        self._folder = folder

    def __call__(
        self,
        source: Source,
        *args: Any,
        did: str | os.PathLike[str] | None = None,
        agent: Any = None,
        cycles: int | None = None,
    ) -> Any:
        """Install a module on a new canister.

        Args:
            source: A ``.wasm`` or ``.wasm.gz`` file (relative to pytest's root folder), a module's
                bytes, or the name of a packaged reference canister: ``echo``, ``rust:mailbox``.
            args: The install argument, as Python values; trailing options may be left out.
            did: The interface, as a ``.did`` file or its text; by default what the module carries.
            agent: Who deploys, controls and calls it; by default the default agent.
            cycles: Its first balance; the network's default where ``None``.

        Returns:
            The canister; in async tests something to await for it.

        Raises:
            UsageError: If there is no such module, or its interface is not known.
            CandidError: If the values are not of the install argument's types.
            CallRejectedError: If the network refuses it, or it traps at its installation.
        """
        __tracebackhide__ = True
        caller = target_of(agent) or self._agents.agent()
        return self._loop.either(self._deploy(source, args, did, caller, cycles))

    async def _deploy(
        self,
        source: Source,
        args: tuple[Any, ...],
        did: str | os.PathLike[str] | None,
        agent: Agent,
        cycles: int | None,
    ) -> CanisterUnderTest:
        module = read_module(source, did, self._folder)
        try:
            arg = encode_arguments(module.interface.init_args or (), args)
            canister_id = await self._network.create(agent, cycles=cycles)
            await self._network.deploy(agent, module.wasm, arg, canister_id=canister_id)
        except BridgeError as error:
            error.add_note(f"while installing {module.name} on {self._network.url}")
            raise
        return CanisterUnderTest(self._loop, Canister(agent, canister_id, module.interface))

    def __repr__(self) -> str:
        return f"<canisters of {self._network.url}>"

    def at(
        self,
        canister_id: Principal | str,
        *,
        did: str | os.PathLike[str] | None = None,
        agent: Any = None,
    ) -> Any:
        """A canister that is installed already.

        Args:
            canister_id: The canister.
            did: Its interface, as a ``.did`` file or its text; by default what it tells itself.
            agent: Who calls; by default the default agent.

        Returns:
            The canister; in async tests something to await for it.

        Raises:
            UsageError: If its interface is not known.
            TrustError: If what it tells cannot be believed.
        """
        __tracebackhide__ = True
        return self._loop.either(
            self._at(canister_id, did, target_of(agent) or self._agents.agent())
        )

    async def _at(
        self, canister_id: Principal | str, did: str | os.PathLike[str] | None, agent: Agent
    ) -> CanisterUnderTest:
        interface = None if did is None else read_interface(did, self._folder)
        canister = await Canister.at(agent, canister_id, interface)
        return CanisterUnderTest(self._loop, canister)
