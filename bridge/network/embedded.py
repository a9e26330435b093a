"""Runs an embedded replica as another process, for exactly as long as somebody needs it."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from bridge.errors import ReplicaError

_START_TIMEOUT: Final = 60.0
_STOP_TIMEOUT: Final = 10.0


async def _read_announcement(process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        assert process.stderr is not None
        words = (await process.stderr.read()).decode(errors="replace").strip()
        # A signal to one that has just ended would reap it, and asyncio then miss it aloud.
        await process.wait()
        said = words.splitlines()
        # Where the process ended as the command line does, its last words are an error and a hint.
        for at, spoken in enumerate(said):
            if spoken.startswith("ic-bridge: "):
                hint = " ".join(part.strip() for part in said[at + 1 :])
                raise ReplicaError(spoken.removeprefix("ic-bridge: "), hint=hint or None)
        raise ReplicaError(
            f"the embedded replica ended before it served: {words or 'it said nothing'}",
            hint=None if words else "install it with: pip install 'ic-bridge[replica]'",
        )
    announcement: dict[str, str] = json.loads(line)
    return announcement


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _drain(stream: asyncio.StreamReader) -> None:
    """Keep the replica from blocking on a full pipe; what it says is kept by nobody."""
    while await stream.read(65536):
        pass


@contextlib.asynccontextmanager
async def replica_process(
    *, admin: bool, state_dir: Path | None = None, system_canisters: bool = False
) -> AsyncIterator[tuple[str, bytes]]:
    """A replica on a free loopback port, stopped at the end of the block.

    Args:
        admin: Whether its admin interface is on.
        state_dir: Where its subnet is kept and found again; in memory by default.
        system_canisters: Whether the ledgers and the cycles minting canister are there.

    Yields:
        Its URL and its root key (DER).

    Raises:
        ReplicaError: If it does not come up within a minute, or the directory cannot be used.
    """
    command = [sys.executable, "-m", "bridge.cli", "replica", "start", "--until-eof"]
    if not system_canisters:
        command.append("--no-system-canisters")
    if admin:
        command.append("--admin")
    if state_dir is not None:
        command += ["--state-dir", str(state_dir)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,  # ends with this process, even if that is killed
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # An interrupt at the terminal is for this program, which may still need the replica.
        start_new_session=True,
    )
    drains: list[asyncio.Task[None]] = []
    try:
        try:
            # Not wait_for: before Python 3.12 it may swallow a cancellation.
            async with asyncio.timeout(_START_TIMEOUT):
                announcement = await _read_announcement(process)
        except TimeoutError:
            raise ReplicaError(
                f"the embedded replica did not serve within {_START_TIMEOUT:.0f} s"
            ) from None
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            drains.append(asyncio.create_task(_drain(stream)))
        yield announcement["url"], bytes.fromhex(announcement["root_key"])
    finally:
        await _stop(process)
        await asyncio.gather(*drains)
