"""The embedded replica as one object: a subnet, its thread, and its HTTP server on loopback."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bridge._version import __version__
from bridge.errors import ReplicaError, StateDirectoryError
from bridge.replica import management, system_canisters
from bridge.replica.execution.engine import large_stacks
from bridge.replica.execution.host import interrupt
from bridge.replica.http.load import HttpLimits
from bridge.replica.http.server import HttpServer
from bridge.replica.scheduler.clock import Clock
from bridge.replica.scheduler.machine import Limits, Machine
from bridge.replica.scheduler.rounds import Rounds
from bridge.replica.state.subnet import Subnet
from bridge.replica.storage.database import Database
from bridge.replica.storage.directory import StateDirectory
from bridge.replica.storage.keeper import Keeper, seed_in

_QUERY_THREADS: Final = 16
_STOP_SECONDS: Final = 2.0
_INTERRUPT_SECONDS: Final = 0.01


def _executor() -> tuple[ThreadPoolExecutor, list[threading.Thread]]:
    """Threads for queries, whose stacks are large enough to run canisters."""
    pool = ThreadPoolExecutor(_QUERY_THREADS, "replica-query")
    # A pool makes its threads when they are first needed: they are, all at once.
    barrier = threading.Barrier(_QUERY_THREADS)

    def meet() -> threading.Thread:
        barrier.wait()
        return threading.current_thread()

    try:
        with large_stacks():
            made = [pool.submit(meet) for _ in range(_QUERY_THREADS)]
        threads = [one.result() for one in made]
    except BaseException:
        # If one cannot be had, those that are there would wait for it for ever.
        barrier.abort()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    return pool, threads


def _end(threads: Iterable[threading.Thread], seconds: float) -> None:
    """Interrupt what canisters run on threads that are to end, until they have, or time is up."""
    end = time.monotonic() + seconds
    left = [thread for thread in threads if thread.is_alive()]
    while left and time.monotonic() < end:
        interrupt({thread.ident for thread in left if thread.ident is not None})
        left[0].join(_INTERRUPT_SECONDS)
        left = [thread for thread in left if thread.is_alive()]


async def _wholly(action: Callable[..., None], *args: object) -> None:
    """Do something on another thread; a cancellation is heeded only when it is done."""
    work = asyncio.ensure_future(asyncio.to_thread(action, *args))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from work.exception()
    work.result()


class _Storage:
    """A state directory with the database in it, and what keeps the subnet there.

    Args:
        path: The directory.

    Raises:
        StateDirectoryError: If it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._directory = StateDirectory(path)
        try:
            self._database = Database(self._directory.database)
            self.seed = seed_in(self._database)
        except BaseException:
            self._directory.close()
            raise
        self._keeper: Keeper | None = None

    def keep(self, machine: Machine) -> bool:
        """Keep the machine's subnet from now on; whether there was one, which it now has."""
        self._keeper = Keeper(machine, self._database)
        return self._keeper.load()

    def close(self) -> None:
        """Write what there is, and let another process have the directory."""
        try:
            if self._keeper is not None:
                self._keeper.close()
            else:
                self._database.close()
        finally:
            self._directory.close()


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
        state_dir: A directory in which the subnet is kept, and found again; by default it ends with
            this object. Seed and fees need not be given again; a time may not be earlier than the
            last.

    Attributes:
        failed: Set when the replica has ended because its state can no longer be written; leaving
            it then raises the ``StateDirectoryError``.

    Raises:
        ReplicaError: On entering, if the port cannot be had.
        StateDirectoryError: On entering, if the state directory is in use, damaged, of another
            version, or cannot be used.
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
        state_dir: Path | str | None = None,
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
        self._seed = seed
        self._time = time
        self._fees = fees
        self._state_dir = None if state_dir is None else Path(state_dir)
        self._storage: _Storage | None = None
        self.failed = asyncio.Event()
        self._system_canisters = system_canisters
        self._wanted_port = port
        self._port = 0
        self._http_limits = http_limits or HttpLimits()
        self._server: HttpServer | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._query_threads: list[threading.Thread] = []
        self._ending: asyncio.Future[None] | None = None

    @property
    def url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:4943``."""
        if self._rounds.failure is not None:
            raise self._rounds.failure
        if not self._port:
            raise ReplicaError("the replica does not serve", hint="enter it with: async with")
        return f"http://127.0.0.1:{self._port}"

    @property
    def root_key(self) -> bytes:
        """The root key in DER form, by which all its certificates verify."""
        return self._machine.subnet.keys.root.public_key_der

    async def __aenter__(self) -> Self:
        self._executor, self._query_threads = _executor()
        try:
            await self._prepare(self._executor)
        except BaseException:
            self._close_storage()
            self._executor.shutdown()
            raise
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
            self._close_storage()
            self._executor.shutdown()
            raise
        loop = asyncio.get_running_loop()

        def failed() -> None:
            loop.call_soon_threadsafe(self._end_serving)

        self._rounds.on_failure = failed
        self._rounds.start()
        return self

    async def _prepare(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        if self._state_dir is not None:
            await loop.run_in_executor(executor, self._open_storage, self._state_dir)
        if self._system_canisters:
            await self._install_system_canisters(executor)

    def _open_storage(self, path: Path) -> None:
        """Find the subnet in its directory, or begin one there."""
        machine = self._machine
        self._storage = _Storage(path)
        known = self._storage.seed
        if known is not None:
            if self._seed is not None and known != self._seed:
                raise StateDirectoryError(
                    f"the subnet in {path} has another seed than the one given",
                    hint="leave the seed out, or name another state directory",
                )
            machine.subnet = Subnet(seed=known)
        given = self._time
        if self._storage.keep(machine):
            if self._fees and not machine.fees:
                machine.charge_fees(True)
            if given is not None:
                if given < machine.clock.now():
                    raise StateDirectoryError(
                        f"the subnet in {path} has had the time {machine.clock.now()}, and time "
                        f"never goes back to {given}",
                        hint="give a later time, or none",
                    )
                machine.clock.stand_at(given)

    def _close_storage(self) -> None:
        if self._storage is not None:
            storage, self._storage = self._storage, None
            storage.close()

    def _end_serving(self) -> None:
        """Serve no more, because what happens can no longer be kept."""
        self._port = 0
        self.failed.set()
        if self._server is not None:
            self._ending = asyncio.ensure_future(self._server.stop())

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
        self._port = 0
        failure: StateDirectoryError | None = None
        # Each of these is done whatever becomes of the others: what is not let go of here stays.
        try:
            if self._ending is None:
                await self._server.stop()
            else:
                await self._ending
        finally:
            self._rounds.stop()
            try:
                await _wholly(self._rounds.join, _STOP_SECONDS)
            finally:
                failure = await self._end_keeping()
        if failure is not None and error is None:
            raise failure

    async def _end_keeping(self) -> StateDirectoryError | None:
        """Let go of the state directory and the threads; why not all could be kept, if so."""
        assert self._executor is not None
        self._executor.shutdown(wait=False, cancel_futures=True)
        failure = self._rounds.failure
        try:
            await _wholly(self._close_storage)
        except StateDirectoryError as late:
            failure = failure or late
        finally:
            # Only now: what is broken off here is kept as what has not been executed yet.
            threads = [*self._query_threads, *self._rounds.threads]
            await _wholly(_end, threads, _STOP_SECONDS)
        return failure
