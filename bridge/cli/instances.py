"""Which replicas of this user run: one record each, held locked for as long as the process lives.

The lock, which the system drops at any end of the process, tells what runs; the record only says
what it is. Records and the logs of replicas in the background lie in a directory of mode 0700 under
``$XDG_STATE_HOME``.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bridge.errors import ReplicaError

if sys.platform != "win32":
    import fcntl

_WAIT_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Instance:
    """A replica that runs.

    Attributes:
        root_key: DER, in hexadecimal digits.
        state_dir: Where its state is kept; ``None`` for one in memory.
        log: The file that its messages go to; ``None`` if they go to a terminal.
        started: Seconds since 1970.
    """

    pid: int
    url: str
    port: int
    root_key: str
    admin: bool
    state_dir: str | None
    log: str | None
    started: float


def folder() -> Path:
    """The directory of the records.

    Raises:
        ReplicaError: If there can be none that only this user may enter.
    """
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    found = Path(base) / "ic-bridge" / "replicas"
    try:
        found.mkdir(parents=True, exist_ok=True, mode=0o700)
        found.chmod(0o700)
    except OSError as error:
        raise ReplicaError(
            f"the directory {found}, where running replicas are noted, cannot be used: "
            f"{error.strerror or error}",
            hint="set XDG_STATE_HOME to a directory of your own",
        ) from error
    return found


def _locked(handle: int) -> bool:
    """Whether another process holds the file; if not, this one does now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


@contextlib.contextmanager
def noted(instance: Instance) -> Iterator[None]:
    """Let others find this process while the block lasts, or the process."""
    if sys.platform == "win32":  # where no file can be locked this way
        yield
        return
    file = folder() / f"{instance.port}.json"
    handle = _own(file)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(instance)).encode(), 0)
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)


def _own(file: Path) -> int:
    """Open a record and lock it. The port is this process's: what held it before is ending."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)  # it was removed while this process waited


def running() -> list[Instance]:
    """The replicas that run, by port; records of those that ended in some other way are removed."""
    found = []
    for file in sorted(folder().glob("*.json"), key=lambda file: int(file.stem)):
        instance = _read(file)
        if instance is not None:
            found.append(instance)
    return found


def _read(file: Path) -> Instance | None:
    try:
        handle = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if not _locked(handle):
            file.unlink(missing_ok=True)
            return None
        return Instance(**json.loads(os.pread(handle, 1 << 20, 0)))
    except (ValueError, TypeError):
        return None  # it is being written just now
    finally:
        os.close(handle)


def stop(instance: Instance, seconds: float) -> bool:
    """Tell a replica to end, and wait for that; whether it has."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(instance.pid, signal.SIGTERM)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if instance not in running():
            return True
        time.sleep(_WAIT_SECONDS)
    return False
