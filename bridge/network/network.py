"""`Network`: one replica or the mainnet, reached by URL, trusted by root key."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Self

from yarl import URL

from bridge.agent import Agent, IdentityLike
from bridge.agent.transport import is_loopback
from bridge.errors import CallRejectedError, UsageError
from bridge.network.admin import AdminClient
from bridge.network.embedded import replica_process
from bridge.network.management import (
    InstallMode,
    create_canister,
    install_code,
    start_canister,
    stop_canister,
)
from bridge.network.pocket_ic import default_effective_canister_id, open_gateway
from bridge.network.projects import Place, dfx_network, icp_network
from bridge.principal import Principal

MAINNET_URL: Final = "https://icp-api.io"
_MAINNET_DOMAINS: Final = ("icp-api.io", "icp0.io", "ic0.app", "icp.net", "internetcomputer.org")


def _is_mainnet(url: str) -> bool:
    try:
        host = URL(url).host or ""
    except ValueError as error:
        raise UsageError(
            f"{url!r} is not a URL: {error}", hint="give one such as http://127.0.0.1:4943"
        ) from None
    return any(host == domain or host.endswith("." + domain) for domain in _MAINNET_DOMAINS)


class Network:
    """A place where canisters run.

    Args:
        url: The base URL of its HTTP interface.
        root_key: Its root key (DER, 133 bytes); ``None`` means mainnet's.
        admin: The admin interface, where it has one.
        effective_canister_id: Any canister id on the subnet that takes new canisters, where the
            network has several subnets.
    """

    def __init__(
        self,
        url: str,
        root_key: bytes | None = None,
        *,
        admin: AdminClient | None = None,
        effective_canister_id: Principal | None = None,
    ) -> None:
        self.url = url
        self.root_key = root_key
        self.admin = admin
        self.effective_canister_id = effective_canister_id

    # --- Which one ---

    @classmethod
    @contextlib.asynccontextmanager
    async def embedded(
        cls,
        *,
        admin: bool = False,
        state_dir: Path | None = None,
        system_canisters: bool = False,
    ) -> AsyncIterator[Self]:
        """An embedded replica of one's own, as another process on a free loopback port.

        Args:
            admin: Whether to switch its admin interface on.
            state_dir: Where its subnet is kept, and found again by the next one; in memory by
                default.
            system_canisters: Whether the ICP ledger, the cycles minting canister and the cycles
                ledger stand at their mainnet ids, as tools expect; it starts sooner without.

        Raises:
            ReplicaError: If it does not come up, or the directory cannot be used.
        """
        process = replica_process(
            admin=admin, state_dir=state_dir, system_canisters=system_canisters
        )
        async with process as (url, root_key):
            yield cls(url, root_key, admin=AdminClient(url) if admin else None)

    @classmethod
    def mainnet(cls) -> Self:
        """The Internet Computer itself."""
        return cls(MAINNET_URL)

    @classmethod
    async def at(cls, url: str, root_key: bytes | None = None) -> Self:
        """The network at a URL: a replica, or a gateway of dfx, icp-cli or PocketIC.

        Args:
            url: Its base URL.
            root_key: Its root key (DER). It is asked for its key only if it is on this machine;
                mainnet's URLs are known.

        Raises:
            UsageError: If it is elsewhere and no root key is given, or the URL cannot be used.
            NotSentError: If nothing listens there.
            TransportError: If what listens there does not speak the IC's interface.
        """
        if _is_mainnet(url) and root_key is None:
            return cls(url)
        if root_key is None:
            if not is_loopback(url):
                raise UsageError(
                    f"{url} is not on this machine, so its root key must be given: a key that is "
                    "fetched from elsewhere proves nothing",
                    hint="pass the root key (--ic-root-key in pytest) from a source you trust",
                )
            async with await Agent.local(url) as agent:
                root_key = agent.root_key
        return cls(url, root_key, effective_canister_id=await default_effective_canister_id(url))

    @classmethod
    async def dfx(cls, project: str | Path = ".", network: str = "local") -> Self:
        """A network that dfx defines or runs.

        Args:
            project: A folder in the dfx project.
            network: The network's name in ``dfx.json`` or ``networks.json``.

        Raises:
            UsageError: If dfx has no network of that name, or its root key must be given.
            TransportError: As by `at`.
        """
        return await cls._at_place(await dfx_network(Path(project), network))

    @classmethod
    async def icp_cli(cls, project: str | Path = ".", network: str = "local") -> Self:
        """A network that icp-cli knows; asks the ``icp`` command.

        Args:
            project: A folder in the icp-cli project.
            network: The network's name in ``icp.yaml``.

        Raises:
            UsageError: If there is no ``icp`` command, or no such running network.
            TransportError: As by `at`.
        """
        return await cls._at_place(await icp_network(Path(project), network))

    @classmethod
    async def pocket_ic(cls, server_url: str, instance_id: int = 0) -> Self:
        """An instance of a PocketIC server: lets its time run and opens a gateway for it.

        Args:
            server_url: The server's URL.
            instance_id: Which instance.

        Raises:
            TransportError: If the server cannot be reached or has no such instance.
        """
        return await cls.at(await open_gateway(server_url, instance_id))

    @classmethod
    async def _at_place(cls, place: Place) -> Self:
        return await cls.at(place.url, None if _is_mainnet(place.url) else place.root_key)

    # --- What one does there ---

    def agent(self, identity: IdentityLike) -> Agent:
        """An agent for this network that signs with ``identity``; use it with ``async with``."""
        return Agent(self.url, identity=identity, root_key=self.root_key)

    async def create(self, agent: Agent, *, cycles: int | None = None) -> Principal:
        """Create an empty canister, controlled by the agent, on a development network.

        Args:
            agent: Who controls it.
            cycles: Its first balance in cycles; the network's default where ``None``.

        Raises:
            CallRejectedError: If the network offers no provisional canisters.
            UsageError: If this is mainnet, where a canister costs cycles that only its owner can
                decide to spend.
        """
        if self.root_key is None:
            raise UsageError(
                "mainnet gives no canisters for free",
                hint="create it with dfx or icp-cli, and pass its id",
            )
        try:
            return await create_canister(
                agent, cycles=cycles, effective_canister_id=self.effective_canister_id
            )
        except CallRejectedError as refusal:
            refusal.add_note(f"while creating a canister on {self.url}")
            raise

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
            UsageError: If ``wasm`` is no module, or a new canister is asked of mainnet.
        """
        target = canister_id or await self.create(agent)
        if mode != "upgrade":
            await install_code(agent, target, wasm, arg, mode=mode)
            return target
        await stop_canister(agent, target)
        try:
            await install_code(agent, target, wasm, arg, mode=mode)
        finally:
            await start_canister(agent, target)
        return target

    def __repr__(self) -> str:
        return f"<Network {self.url}>"
