"""What the arguments of ``ic-bridge watch`` name: canisters and stores, as watches.

A network that cannot be reached is the fault of its canisters only, and is tried again by each
question: whatever else is watched goes on.
"""

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from bridge.agent import Agent, Identity
from bridge.errors import PrincipalError, UsageError
from bridge.flow import Role
from bridge.monitor.canister import CanisterWatch
from bridge.monitor.records import FlowEvent, Seen, State, Status, Trust, printable
from bridge.monitor.store import StoreWatch
from bridge.monitor.watch import Page, Watch
from bridge.network import open_network
from bridge.network.choice import parse_root_key
from bridge.principal import Principal

_NAMED: Final = re.compile(r"([A-Za-z0-9_.-]{1,60})=(.+)", re.DOTALL)
# What may be a connection string, which can hold a password, is not repeated.
_SECRET: Final = re.compile(r"[=@]")


class _Connection:
    """The network of a command's canisters, opened by the first question that finds it.

    Args:
        network: Where the canisters are, as an option says it.
        root_key: The root key of a network by URL.
        identity: Who asks; ``None`` is the anonymous identity.
    """

    def __init__(self, network: str, root_key: bytes | None, identity: Identity | None) -> None:
        self._network = network
        self._root_key = root_key
        self._identity = identity
        self._agent: Agent | None = None
        self._lock = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    async def agent(self) -> Agent:
        """The one agent for all canisters.

        Raises:
            UsageError: If there is no such network.
            TransportError: If it does not answer.
        """
        async with self._lock:
            if self._agent is None:
                chosen = open_network(self._network, self._root_key)
                network = await self._stack.enter_async_context(chosen)
                agent = Agent(network.url, self._identity, network.root_key)
                self._agent = await self._stack.enter_async_context(agent)
            return self._agent

    async def close(self) -> None:
        await self._stack.aclose()


class _CanisterSomewhere(Watch):
    """A canister on a network that may yet have to be found; else as `CanisterWatch`."""

    kind = "canister"

    def __init__(
        self, connection: _Connection, canister_id: Principal, name: str | None, *, certified: bool
    ) -> None:
        super().__init__(name or str(canister_id))
        self._connection = connection
        self._canister_id = canister_id
        self._certified = certified

    @property
    def trust(self) -> Trust:
        return Trust.CERTIFIED if self._certified else Trust.ONE_NODE

    async def _found(self) -> CanisterWatch:
        agent = await self._connection.agent()
        return CanisterWatch(agent, self._canister_id, certified=self._certified, name=self.name)

    async def status(self) -> Status:
        return await (await self._found()).status()

    async def _page(self, role: Role | None, state: State | None, cursor: bytes | None) -> Page:
        return await (await self._found())._page(role, state, cursor)  # noqa: SLF001 - of its own class

    async def latest_event(self) -> FlowEvent | None:
        return await (await self._found()).latest_event()

    async def events(
        self,
        *,
        after: int | FlowEvent = 0,
        follow: bool = False,
        poll_every: float = 2.0,
        patience: float | None = None,
    ) -> AsyncGenerator[Seen, None]:
        found = (await self._found()).events(
            after=after, follow=follow, poll_every=poll_every, patience=patience
        )
        async with contextlib.aclosing(found):
            async for seen in found:
                yield seen


class Sources:
    """What the arguments and options of one command name.

    Args:
        texts: The arguments.
        network: Where the canisters are.
        root_key: The root key of a network by URL.
        identity: The PEM file of who asks.
        certified: Whether subnets have to agree on what canisters tell.

    Raises:
        UsageError: If an argument names nothing that can be watched, or an option is of no use.
    """

    def __init__(
        self,
        texts: Sequence[str],
        network: str,
        root_key: str | None,
        identity: Path | None,
        certified: bool,
    ) -> None:
        self._places = [_parsed(text) for text in texts]
        self._network = network
        self._root_key = None if root_key is None else parse_root_key(root_key)
        self._identity = None if identity is None else Identity.from_pem(identity)
        self._certified = certified
        canisters = any(isinstance(where, Principal) for _, where in self._places)
        if canisters and network == "embedded":
            raise UsageError(
                "an embedded replica is new and empty, so there is no canister to watch",
                hint="say where the canister is: --network local, ic or a URL",
            )

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[list[Watch]]:
        """The watches; each is yet to be entered."""
        connection = _Connection(self._network, self._root_key, self._identity)
        watches: list[Watch] = [
            _CanisterSomewhere(connection, where, name, certified=self._certified)
            if isinstance(where, Principal)
            else StoreWatch(where, name=name)
            for name, where in self._places
        ]
        if len({one.name for one in watches}) < len(watches):
            raise UsageError(
                "two sources have one name",
                hint="give each another one, as in NAME=SOURCE",
            )
        try:
            yield watches
        finally:
            await connection.close()


def _parsed(text: str) -> tuple[str | None, Principal | str]:
    """A source's name, if it was given one, and where it is."""
    named = None if Path(text).exists() else _NAMED.fullmatch(text)
    name, where = (named[1], named[2]) if named else (None, text)
    try:
        found = Principal.from_text(where)
    except PrincipalError as error:
        if "://" in where or Path(where).is_file():
            return name, where
        if Path(where).exists():  # reading a pipe would wait for ever
            raise UsageError(
                f"{printable(where)} is no regular file, so there is no store in it",
                hint="give the file of an SQLite store",
            ) from None
        told, why = printable(where), f": {error.message}, and there is no such file"
        if "password" in str(name).lower() or _SECRET.search(where):
            told, why = "one of the sources", ""
        raise UsageError(
            f"{told} is neither a canister's id nor a store{why}",
            hint="give an id such as rrkah-fqaaa-aaaaa-aaaaq-cai, the file of an SQLite store, "
            "or a URI that begins with postgresql://",
        ) from None
    if not found.is_canister:
        raise UsageError(
            f"{found} is no canister's id", hint="give one such as rrkah-fqaaa-aaaaa-aaaaq-cai"
        )
    return name, found


def asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options that all commands here have, given to one as ``sources``."""

    @functools.wraps(command)  # the name, the help, and the options that it has already
    def run(
        sources: tuple[str, ...],
        network: str,
        root_key: str | None,
        identity: Path | None,
        certified: bool,
        **options: Any,
    ) -> None:
        command(Sources(sources, network, root_key, identity, certified), **options)

    decorated: Callable[..., Any] = run
    for decorate in (
        click.option(
            "--certified",
            is_flag=True,
            help="Let a canister's subnet agree on its answers, instead of one node signing them.",
        ),
        click.option(
            "--identity",
            metavar="PEM",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Who asks canisters: a controller or listed monitor; anonymous if left out.",
        ),
        click.option(
            "--root-key", metavar="KEY", help="The root key of a network by URL, if not local."
        ),
        click.option(
            "--network",
            default="local",
            show_default=True,
            metavar="WHERE",
            help="Where the canisters are: local, dfx, icp, ic or a URL.",
        ),
        click.argument("sources", nargs=-1, required=True, metavar="SOURCE..."),
    ):
        decorated = decorate(decorated)
    return decorated
