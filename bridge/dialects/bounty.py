"""Dialect ``bounty``: the first specification; a record a method. Contract: ``candid/bounty.did``.

FIN is called ackack. The payload of an ACK is a plain blob: a null response goes as an empty one.
"""

from typing import ClassVar, Final

from bridge import candid
from bridge.dialects._base import Dialect, decode_one
from bridge.flow import Ack, Fin, Message, New, kind_of

_METHODS: Final = {
    "NEW": "com_asyncFlow_newMessage",
    "ACK": "com_asyncFlow_ack",
    "FIN": "com_asyncFlow_ackack",
}
_TYPES: Final[dict[str, candid.Type]] = {
    "NEW": candid.Record({"msg_id": candid.Nat, "payload": candid.Blob}),
    "ACK": candid.Record(
        {"msg_id": candid.Nat, "hash": candid.Opt(candid.Nat32), "payload": candid.Blob}
    ),
    "FIN": candid.Record({"msg_id": candid.Nat, "hash": candid.Opt(candid.Nat32)}),
}
_CODECS: Final = {kind: candid.Codec([type_]) for kind, type_ in _TYPES.items()}


class Bounty(Dialect):
    """See the module."""

    name: ClassVar[str] = "bounty"
    methods: ClassVar[dict[str, str]] = _METHODS
    arguments: ClassVar[dict[str, tuple[candid.Type, ...]]] = {
        kind: (type_,) for kind, type_ in _TYPES.items()
    }

    def call_for(self, message: Message) -> tuple[str, bytes]:
        """See ``Dialect.call_for``."""
        value: dict[str, object] = {"msg_id": message.msg_id}
        if not isinstance(message, New):
            value["hash"] = message.hash
        if not isinstance(message, Fin):
            value["payload"] = message.payload or b""
        kind = kind_of(message)
        return _METHODS[kind], _CODECS[kind].encode(value)

    def message_from(self, method: str, arg: bytes) -> Message:
        """See ``Dialect.message_from``."""
        kind = self.kind_called(method)
        value = decode_one(_CODECS[kind], arg)
        if kind == "NEW":
            return New(value["msg_id"], value["payload"])
        if kind == "ACK":
            return Ack(value["msg_id"], value["payload"], value["hash"])
        return Fin(value["msg_id"], value["hash"])
