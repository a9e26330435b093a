"""Dialect ``positional``: the specification's worked example. Contract: ``candid/positional.did``.

Plain arguments. The example also shows ``finish`` with an ``opt blob``: by Candid's rule for
``opt`` such a hash decodes as absent. A null response goes as an empty blob.
"""

from typing import ClassVar, Final

from bridge import candid
from bridge.dialects._base import Dialect
from bridge.flow import Ack, Fin, Message, New, kind_of

_METHODS: Final = {
    "NEW": "com_asyncFlow_newMessage",
    "ACK": "com_asyncFlow_ack",
    "FIN": "com_asyncFlow_finish",
}
_TYPES: Final[dict[str, tuple[candid.Type, ...]]] = {
    "NEW": (candid.Nat, candid.Blob),
    "ACK": (candid.Nat, candid.Opt(candid.Nat32), candid.Blob),
    "FIN": (candid.Nat, candid.Opt(candid.Nat32)),
}
_CODECS: Final = {kind: candid.Codec(types) for kind, types in _TYPES.items()}


class Positional(Dialect):
    """See the module."""

    name: ClassVar[str] = "positional"
    methods: ClassVar[dict[str, str]] = _METHODS
    arguments: ClassVar[dict[str, tuple[candid.Type, ...]]] = _TYPES

    def call_for(self, message: Message) -> tuple[str, bytes]:
        """See ``Dialect.call_for``."""
        values: tuple[object, ...]
        match message:
            case New(msg_id, payload):
                values = msg_id, payload
            case Ack(msg_id, response, hash_):
                values = msg_id, hash_, response or b""
            case Fin(msg_id, hash_):
                values = msg_id, hash_
        kind = kind_of(message)
        return _METHODS[kind], _CODECS[kind].encode(*values)

    def message_from(self, method: str, arg: bytes) -> Message:
        """See ``Dialect.message_from``."""
        kind = self.kind_called(method)
        values = _CODECS[kind].decode(arg)
        if kind == "NEW":
            return New(*values)
        if kind == "ACK":
            msg_id, hash_, payload = values
            return Ack(msg_id, payload, hash_)
        return Fin(*values)
