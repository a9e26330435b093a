"""A state directory: private to its user, and held by one process at a time."""

import os
import sys
from pathlib import Path
from typing import Final, Self

from bridge.errors import StateDirectoryError

if sys.platform != "win32":
    import fcntl

_LOCK: Final = "lock"
_DATABASE: Final = "state.sqlite3"


class StateDirectory:
    """Holds a directory until it is closed, or the process ends in whatever way.

    Args:
        path: The directory; it is made if it is not there.

    Raises:
        StateDirectoryError: If another process holds it, or it cannot be made or used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if sys.platform == "win32":
            raise StateDirectoryError(
                "state directories are not supported on Windows", hint="start without one"
            )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateDirectoryError(
                f"the state directory {path} cannot be used: {error.strerror or error}",
                hint="name a directory that you may write to",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._lock, 20).decode(errors="replace").strip()
            os.close(self._lock)
            raise StateDirectoryError(
                f"the state directory {path} is in use by another replica"
                + (f", process {holder}" if holder.isdigit() else ""),
                hint=f"stop it with: ic-bridge replica stop --state-dir {path}",
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    @property
    def database(self) -> Path:
        """The file that holds the state."""
        return self.path / _DATABASE

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
