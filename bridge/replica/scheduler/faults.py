"""Faults that may happen on the IC, made to happen on purpose, and the log of all messages.

A lost message is one that never reached its receiver: the sender learns it as the IC would tell it
(SYS_UNKNOWN for a bounded-wait call, SYS_TRANSIENT for another), an ingress message is just never
executed. Knows nothing of what the messages mean.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from bridge.principal import Principal

_MAX_ENTRIES: Final = 100_000
_MAX_ARG: Final = 64 * 1024
_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class Fault:
    """Loses the ``nth`` message that matches, counted from now.

    Attributes:
        sender: Only messages of this principal; ``None`` for all.
        receiver: Only messages to this canister; ``None`` for all.
        method: Only calls of this method; ``None`` for all.
        contains: Only messages whose argument contains these bytes; ``None`` for all.
        seen: Matching messages so far.
    """

    fault_id: int
    sender: Principal | None
    receiver: Principal | None
    method: str | None
    contains: bytes | None
    nth: int
    seen: int = 0

    def matches(self, sender: Principal, receiver: Principal, method: str, arg: bytes) -> bool:
        """Whether the message is one of those that count."""
        return (
            (self.sender is None or self.sender == sender)
            and (self.receiver is None or self.receiver == receiver)
            and (self.method is None or self.method == method)
            and (self.contains is None or self.contains in arg)
        )


class Faults:
    """The faults still to happen."""

    def __init__(self) -> None:
        self._pending: list[Fault] = []
        self._next = 1

    def add(
        self,
        *,
        sender: Principal | None,
        receiver: Principal | None,
        method: str | None,
        contains: bytes | None,
        nth: int,
    ) -> int:
        """Plan a fault; its id."""
        fault = Fault(self._next, sender, receiver, method, contains, nth)
        self._next += 1
        self._pending.append(fault)
        return fault.fault_id

    def clear(self) -> None:
        """Take back all that have not happened."""
        self._pending.clear()

    def pending(self) -> int:
        """How many have not happened."""
        return len(self._pending)

    def strikes(self, sender: Principal, receiver: Principal, method: str, arg: bytes) -> bool:
        """Count a message, and tell whether it is lost."""
        if not self._pending:
            return False
        struck: Fault | None = None
        for fault in self._pending:
            if fault.matches(sender, receiver, method, arg):
                fault.seen += 1
                if fault.seen >= fault.nth and struck is None:
                    struck = fault
        if struck is None:
            return False
        self._pending.remove(struck)
        return True


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
        self._bytes += min(len(arg), _MAX_ARG)
        while self._bytes > _MAX_BYTES:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._bytes -= len(self.entries.popleft().arg)

    def after(self, seq: int) -> list[LogEntry]:
        """The lines behind line ``seq``."""
        newest = self._next - 1
        missing = newest - seq
        if missing <= 0:
            return []
        entries = list(self.entries)
        return entries[-missing:] if missing < len(entries) else entries
