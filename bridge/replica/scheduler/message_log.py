"""The log of all messages, as the admin interface shows it. Knows nothing of what they mean."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from bridge.principal import Principal

_MAX_ENTRIES: Final = 100_000
_MAX_ARG: Final = 64 * 1024
_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class LogEntry:
    """One message as it was processed."""

    seq: int
    time: int
    sender: Principal | None
    receiver: Principal
    method: str
    arg: bytes
    arg_size: int
    kind: str
    outcome: str
    text: str


def _size(entry: LogEntry) -> int:
    """Bytes of what others have chosen."""
    return len(entry.arg) + len(entry.method) + len(entry.text)


@dataclass(slots=True)
class MessageLog:
    """The newest messages, oldest first; off unless asked for."""

    enabled: bool = False
    entries: deque[LogEntry] = field(default_factory=deque)
    _next: int = 1
    _bytes: int = 0

    def add(
        self,
        time: int,
        sender: Principal | None,
        receiver: Principal,
        method: str,
        arg: bytes,
        kind: str,
        outcome: str,
        text: str = "",
    ) -> None:
        """Write one line."""
        if not self.enabled:
            return
        if len(self.entries) == _MAX_ENTRIES:
            self._drop_oldest()
        self.entries.append(
            LogEntry(
                self._next, time, sender, receiver, method, arg[:_MAX_ARG], len(arg), kind,
                outcome, text,
            )
        )  # fmt: skip
        self._next += 1
        self._bytes += _size(self.entries[-1])
        while self._bytes > _MAX_BYTES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._bytes -= _size(self.entries.popleft())

    def after(self, seq: int) -> list[LogEntry]:
        """The lines behind line ``seq``."""
        newest = self._next - 1
        missing = newest - seq
        if missing <= 0:
            return []
        entries = list(self.entries)
        return entries[-missing:] if missing < len(entries) else entries
