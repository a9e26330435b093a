"""The embedded replica as one object: a subnet, its thread, and its HTTP server on loopback."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from bridge._version import __version__
from bridge.errors import ReplicaError
from bridge.replica import management, system_canisters
from bridge.replica.execution.engine import THREAD_STACK
from bridge.replica.http.load import HttpLimits
from bridge.replica.http.server import HttpServer
from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.machine import Limits, Machine
from bridge.replica.scheduler.rounds import Rounds
from bridge.replica.state.subnet import Subnet

_QUERY_THREADS: Final = 16
_STOP_SECONDS: Final = 2.0


def _executor() -> ThreadPoolExecutor:
    """Threads for queries, whose stacks are large enough to run canisters."""
    before = threading.stack_size(THREAD_STACK)
    try:
        pool = ThreadPoolExecutor(_QUERY_THREADS, "replica-query")
        # A pool makes its threads when they are first needed: they are, all at once.
        barrier = threading.Barrier(_QUERY_THREADS)
        for made in [pool.submit(barrier.wait) for _ in range(_QUERY_THREADS)]:
            made.result()
    finally:
        threading.stack_size(before)
    return pool


class Replica:
    """An IC subnet in this process, serving HTTP on 127.0.0.1.

    Args:
        port: The port; 0 picks a free one.
        admin: Whether the admin interface is on.
        seed: What all keys and randomness follow from; random if absent.
        limits: Instructions that one message may use.
        time: At which time it stands still from the start, in nanoseconds since 1970; by default
            time runs. With a seed, all that then happens follows from what is asked, in its order.
        fees: Whether memory and compute allocation cost cycles, so that canisters can be frozen.
        system_canisters: Whether the ICP ledger, the cycles minting canister and the cycles ledger
            stand at their mainnet ids, as the official command line expects.
        http_limits: What the HTTP server takes on at a time.

    Raises:
        ReplicaError: On entering, if the port cannot be had.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        admin: bool = False,
        seed: bytes | str | None = None,
        limits: Limits | None = None,
        time: int | None = None,
        fees: bool = False,
        system_canisters: bool = False,
        http_limits: HttpLimits | None = None,
    ) -> None:
        if isinstance(seed, str):
            seed = seed.encode()
        subnet = Subnet() if seed is None else Subnet(seed=seed)
        self._machine = Machine(
            subnet, Clock(time), management.handle, management.query, limits or Limits()
        )
        self._machine.log.enabled = admin
        self._machine.charge_fees(fees)
        self._rounds = Rounds(self._machine, management.ingress_filter)
        self._admin = admin
        self._system_canisters = system_canisters
        self._wanted_port = port
        self._port = 0
        self._http_limits = http_limits or HttpLimits()
        self._server: HttpServer | None = None
        self._executor: ThreadPoolExecutor | None = None

    @property
    def url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:4943``."""
        if not self._port:
            raise ReplicaError("the replica does not serve", hint="enter it with: async with")
        return f"http://127.0.0.1:{self._port}"

    @property
    def root_key(self) -> bytes:
        """The root key in DER form, by which all its certificates verify."""
        return self._machine.subnet.keys.root.public_key_der

    async def __aenter__(self) -> Self:
        self._executor = _executor()
        if self._system_canisters:
            await self._install_system_canisters(self._executor)
        self._server = HttpServer(
            self._rounds,
            self._executor,
            f"ic-bridge {__version__}",
            admin=self._admin,
            limits=self._http_limits,
        )
        try:
            self._port = await self._server.start(self._wanted_port)
        except ReplicaError:
            self._executor.shutdown()
            raise
        self._rounds.start()
        return self

    async def _install_system_canisters(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, system_canisters.compile_all, executor)
        await loop.run_in_executor(executor, system_canisters.install_missing, self._machine)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        assert self._executor is not None
        self._port = 0
        await self._server.stop()
        self._rounds.stop()
        await asyncio.to_thread(self._rounds.join, _STOP_SECONDS)
        self._executor.shutdown(wait=False, cancel_futures=True)
