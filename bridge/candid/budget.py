"""How much one message may cost to decode.

A few bytes can announce a billion values that take no room, a type table of any size, or nesting
without end. Each is bounded here in proportion to the message's length.
"""

from dataclasses import dataclass
from typing import Final

from bridge.errors import CandidError


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds on decoding one message; crossing one raises CandidError.

    The default suits untrusted input. One unit is about one value that takes no bytes of its own
    (``null``, ``reserved``, a record of such), one byte read a second time, or one comparison of
    types.

    Attributes:
        base: Units that any message may use.
        per_byte: Further units for each byte of the message.
        type_nodes: The largest type table, in entries, fields, arguments and methods.
        parts: How many parts of types (entries, fields, cases) code may be written for, to read one
            layout of messages, beyond four times those of the expected types. Only a recursive type
            can be met by more.
        depth: The deepest nesting of values of a recursive type.
    """

    base: int = 65_536
    per_byte: int = 16
    type_nodes: int = 10_000
    parts: int = 1024
    depth: int = 10_000

    def __post_init__(self) -> None:
        for name in ("base", "per_byte", "type_nodes", "parts", "depth"):
            if getattr(self, name) < 0:
                raise CandidError(f"a budget's {name} must not be negative")


DEFAULT: Final = Budget()
