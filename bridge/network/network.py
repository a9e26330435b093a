"""`Network`: one replica or the mainnet, reached by URL, trusted by root key."""

import contextlib
from collections.abc import AsyncIterator
from typing import Self

from bridge.agent import Agent, Identity
from bridge.network.admin import AdminClient
from bridge.network.embedded import replica_process
from bridge.network.management import (
    InstallMode,
    create_canister,
    install_code,
    start_canister,
    stop_canister,
)
from bridge.principal import Principal


class Network:
    """A place where canisters run.

    Args:
        url: The base URL of its HTTP interface.
        root_key: Its root key (DER, 133 bytes); ``None`` means mainnet's.
        admin: The admin interface, where it has one.
    """

    def __init__(
        self, url: str, root_key: bytes | None = None, *, admin: AdminClient | None = None
    ) -> None:
        self.url = url
        self.root_key = root_key
        self.admin = admin

    @classmethod
    @contextlib.asynccontextmanager
    async def embedded(cls, *, admin: bool = False) -> AsyncIterator[Self]:
        """An embedded replica of one's own, as another process on a free loopback port.

        Args:
            admin: Whether to switch its admin interface on.

        Raises:
            ReplicaError: If it does not come up.
        """
        async with replica_process(admin=admin) as (url, root_key):
            yield cls(url, root_key, admin=AdminClient(url) if admin else None)

    def agent(self, identity: Identity) -> Agent:
        """An agent for this network that signs with ``identity``; use it with ``async with``."""
        return Agent(self.url, identity=identity, root_key=self.root_key)

    async def deploy(
        self,
        agent: Agent,
        wasm: bytes,
        arg: bytes = b"DIDL\x00\x00",
        *,
        canister_id: Principal | None = None,
        mode: InstallMode = "install",
    ) -> Principal:
        """Install ``wasm`` on a canister, a new one unless its id is given.

        For an upgrade the canister is stopped meanwhile: a module must not be replaced while a
        callback of it is outstanding, and Motoko's runtime refuses it.

        Args:
            agent: Who controls it.
            wasm: The module's bytes.
            arg: Candid-encoded install argument.
            canister_id: The canister that exists already.
            mode: As in `install_code`.

        Returns:
            The canister's id.

        Raises:
            CallRejectedError: If the network refuses the canister or the module.
        """
        target = canister_id or await create_canister(agent)
        if mode != "upgrade":
            await install_code(agent, target, wasm, arg, mode=mode)
            return target
        await stop_canister(agent, target)
        try:
            await install_code(agent, target, wasm, arg, mode=mode)
        finally:
            await start_canister(agent, target)
        return target
