"""The message trace of a run: one JSON object a line, one line a message between two peers."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import IO, Any, Literal

from bridge.errors import UsageError

Kind = Literal["NEW", "ACK", "FIN"]
Outcome = Literal["delivered", "lost"]
Way = Literal["call", "outbox"]


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """One transmission, as an observer saw it.

    Attributes:
        time: When it was seen, in nanoseconds since 1970.
        flow: The name of the flow it belongs to, for people.
        sender: Who sent this message.
        receiver: Whom it was for.
        message: ``NEW``, ``ACK`` or ``FIN``.
        size: Bytes of payload it carries.
        attempt: Which transmission of this message of this flow it is, counted from 1.
        outcome: ``delivered`` or ``lost``.
        by: How it travelled: ``call``, or ``outbox`` where the peer fetched it.
    """

    time: int
    flow: str
    sender: str
    receiver: str
    message: Kind
    size: int
    attempt: int
    outcome: Outcome = "delivered"
    by: Way = "call"


_TYPES: dict[str, type] = {
    "time": int,
    "flow": str,
    "sender": str,
    "receiver": str,
    "message": str,
    "size": int,
    "attempt": int,
    "outcome": str,
    "by": str,
}
_CHOICES = {
    "message": {"NEW", "ACK", "FIN"},
    "outcome": {"delivered", "lost"},
    "by": {"call", "outbox"},
}


def write_trace(records: Iterable[MessageRecord], file: IO[str]) -> None:
    """Write records as JSON lines."""
    for record in records:
        file.write(json.dumps(asdict(record)) + "\n")


def read_trace(file: IO[str]) -> list[MessageRecord]:
    """Read what `write_trace` wrote.

    Raises:
        UsageError: If a line is not such a record; the text names the line and the fault.
    """
    try:
        return [_parse(line, number) for number, line in enumerate(file, 1) if line.strip()]
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the trace is not text in UTF-8: {error.reason}",
            hint="give the file that ic-bridge demo --trace wrote",
        ) from error


def _parse(line: str, number: int) -> MessageRecord:
    try:
        fields: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"line {number} of the trace is not JSON: {error}",
            hint="give the file that ic-bridge demo --trace wrote",
        ) from error
    if not isinstance(fields, dict) or set(fields) != set(_TYPES):
        raise UsageError(
            f"line {number} of the trace is not a message record",
            hint="a record has the fields " + ", ".join(_TYPES),
        )
    for name, expected in _TYPES.items():
        value = fields[name]
        if type(value) is not expected or not _is_good(name, value):
            raise UsageError(
                f"line {number} of the trace: {name} cannot be {value!r:.100}",
                hint="numbers are from 0 to 2^63-1, names are printable",
            )
    return MessageRecord(**fields)


def _is_good(name: str, value: Any) -> bool:
    if isinstance(value, int):
        return 0 <= value < 1 << 63
    return value in _CHOICES.get(name, {value}) and value.isprintable()
