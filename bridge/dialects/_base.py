"""What every dialect is: messages to calls and back.

Knows messages and Candid; no state of a flow, no network.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from bridge import candid
from bridge.errors import CandidError
from bridge.flow import Message


class Dialect(ABC):
    """One way of speaking the three messages as one-way calls.

    Attributes:
        name: Its name in configuration and in stored flows.
        methods: The method for each kind of message.
        arguments: The types of its arguments, by kind.
    """

    name: ClassVar[str]
    methods: ClassVar[dict[str, str]]
    arguments: ClassVar[dict[str, tuple[candid.Type, ...]]]

    @abstractmethod
    def call_for(self, message: Message) -> tuple[str, bytes]:
        """The method and the encoded argument that carry a message.

        What the dialect cannot carry is left out: a hash, or a null, which goes as an empty blob.
        """

    @abstractmethod
    def message_from(self, method: str, arg: bytes) -> Message:
        """The message that a call carries.

        Args:
            method: Name of the called method.
            arg: Encoded argument, which a stranger chose.

        Raises:
            CandidError: If the method is none of this dialect's, or the argument does not decode to
                a message that it may carry. To the caller this is as a lost message.
        """

    def kind_called(self, method: str) -> str:
        """The kind of message that a method of its own carries.

        Raises:
            CandidError: If the method is none of this dialect's.
        """
        for kind, name in self.methods.items():
            if name == method:
                return kind
        raise self.foreign_method(method)

    def foreign_method(self, method: str) -> CandidError:
        """The error for a method that is none of this dialect's."""
        return CandidError(f"the dialect {self.name} has no method {method!r}")


def decode_one(codec: candid.Codec, arg: bytes) -> Any:
    """The single value of an argument list."""
    (value,) = codec.decode(arg)
    return value
