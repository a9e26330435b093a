"""One test session's replica: opened when first needed, brought back after each test, then closed.

Puts the parts together; the only place that knows about snapshots.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.agent import Agent, Identity
from bridge.errors import BridgeError, UsageError
from bridge.network import Network, open_network, parse_root_key
from bridge.pytest_plugin.background import BackgroundLoop, Both
from bridge.pytest_plugin.deploying import AgentFactory, CanisterFactory
from bridge.pytest_plugin.settings import Settings


class ReplicaHandle:
    """The replica as tests see it.

    Args:
        loop: Where the session's work is done.
        network: What it is.
        agent: The session's agents.
        canister: What deploys.
    """

    def __init__(
        self,
        loop: BackgroundLoop,
        network: Network,
        agent: AgentFactory,
        canister: CanisterFactory,
    ) -> None:
        self._loop = loop
        self.network = network
        self.agent = agent
        self.canister = canister

    @property
    def url(self) -> str:
        """The base URL."""
        return self.network.url

    @property
    def root_key(self) -> bytes | None:
        """The root key in DER form; ``None`` for mainnet's."""
        return self.network.root_key

    @property
    def admin(self) -> Any:
        """The admin interface; its methods are awaited in async tests and called in sync ones.

        Raises:
            UsageError: If this is not an embedded replica.
        """
        if self.network.admin is None:
            raise UsageError(
                f"{self.url} has no admin interface: only an embedded replica can lose messages "
                "and move time",
                hint="run this test with --ic-network embedded, or mark it to be skipped elsewhere",
            )
        return Both(self._loop, self.network.admin)

    @property
    def has_admin(self) -> bool:
        """Whether there is an admin interface; where not, tests are not undone either."""
        return self.network.admin is not None

    def own_agent(self, identity: Identity | None = None) -> Agent:
        """A new agent for the test's own event loop, such as a `Bridge` needs; use ``async with``.

        Args:
            identity: Who it is; a new one by default.
        """
        return self.network.agent(identity or Identity.generate())

    def __repr__(self) -> str:
        return f"<replica {self.url}>"


class Session:
    """What lives as long as the test session.

    Args:
        loop: Where the session's work is done.
        network: What the tests run against.
        identity: The default agent's.
        settings: What the plugin was told.
    """

    def __init__(
        self, loop: BackgroundLoop, network: Network, identity: Identity, settings: Settings
    ) -> None:
        self._loop = loop
        self._admin = network.admin
        self.agent = AgentFactory(loop, network, identity)
        self.canister = CanisterFactory(loop, network, self.agent, settings.folder)
        self.replica = ReplicaHandle(loop, network, self.agent, self.canister)

    @contextlib.contextmanager
    def restored_afterwards(self) -> Iterator[None]:
        """Bring the replica back to its present state at the end of the block.

        On a network without snapshots nothing is brought back; tests do not meet there because each
        deploys canisters of its own.
        """
        admin = self._admin
        if admin is None:
            yield
            return
        snapshot = self._loop.wait(admin.snapshot())
        try:
            yield
        finally:
            self._loop.wait(admin.restore(snapshot))
            self._loop.wait(admin.forget(snapshot))


@contextlib.contextmanager
def open_session(config: pytest.Config) -> Iterator[Session]:
    """Open the network that the configuration names.

    What cannot be opened fails the tests that need it, in a sentence and without a traceback.
    """
    loop = BackgroundLoop()
    stack = contextlib.AsyncExitStack()
    try:
        session = _opened(loop, stack, config)
        yield session
        loop.wait(session.agent.close())
    finally:
        loop.wait(stack.aclose())
        loop.close()


def _opened(
    loop: BackgroundLoop, stack: contextlib.AsyncExitStack, config: pytest.Config
) -> Session:
    what = "the settings cannot be used"
    try:
        settings = Settings.of(config)
        what = f"the network {settings.network!r} cannot be used"
        root_key = parse_root_key(settings.root_key) if settings.root_key else None
        identity = (
            Identity.from_pem(settings.folder / settings.identity)
            if settings.identity
            else Identity.generate()
        )
        network = loop.wait(
            stack.enter_async_context(
                open_network(
                    settings.network,
                    root_key,
                    admin=True,
                    system_canisters=settings.system_canisters,
                    folder=settings.folder,
                )
            )
        )
    except BridgeError as error:
        problem = f"{what}: {error.message}"
        if error.hint:
            problem += f"\n{error.hint}"
    else:
        return Session(loop, network, identity, settings)
    pytest.fail(problem, pytrace=False)
