"""``ic-bridge replica``: the embedded replica from the command line."""

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable

import click

from bridge.errors import ReplicaError


@click.group()
def replica() -> None:
    """An IC replica in one process, for development and tests."""


@replica.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Loopback port; 0 picks a free one."
)
@click.option("--admin", is_flag=True, help="Switch the admin interface on (faults, message log).")
@click.option(
    "--system-canisters/--no-system-canisters",
    default=True,
    show_default=True,
    help="The ICP ledger, cycles minting canister and cycles ledger that the icp command expects.",
)
@click.option(
    "--until-eof",
    is_flag=True,
    help="Stop when standard input ends, as it does when whoever holds the other end is gone.",
)
def start(port: int, admin: bool, system_canisters: bool, until_eof: bool) -> None:
    """Serve until interrupted. Prints one JSON line with url and root_key when it is ready."""
    asyncio.run(_serve(port, admin=admin, system_canisters=system_canisters, until_eof=until_eof))


async def _serve(port: int, *, admin: bool, system_canisters: bool, until_eof: bool) -> None:
    try:
        from bridge.replica import Replica  # noqa: PLC0415 - wasmtime is an extra
    except ModuleNotFoundError as error:
        raise ReplicaError(
            f"the embedded replica needs {error.name}, which is not installed",
            hint="pip install 'ic-bridge[replica]'",
        ) from error

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        threading.Thread(
            target=_call_at_eof, args=(lambda: loop.call_soon_threadsafe(stop.set),), daemon=True
        ).start()
    async with Replica(port=port, admin=admin, system_canisters=system_canisters) as running:
        click.echo(
            json.dumps({"url": running.url, "root_key": running.root_key.hex(), "admin": admin})
        )
        await stop.wait()


def _call_at_eof(call: Callable[[], object]) -> None:
    """Block until standard input has ended."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop may have ended first
        call()
