"""Dialect ``maf``: the published Motoko package. Contract: ``candid/maf.did``.

A method a kind, yet each takes the whole variant. The payload of an ACK is a plain blob: an ``opt``
would not decode there, so a null response goes as an empty blob. No hash is carried.
"""

from typing import ClassVar, Final

from bridge import candid
from bridge.dialects._base import Dialect, decode_one
from bridge.errors import CandidError
from bridge.flow import Ack, Fin, Message, New, kind_of

MESSAGE_TYPE: Final = candid.Variant(
    {
        "NEW": candid.Record({"msg_id": candid.Nat, "payload": candid.Blob}),
        "ACK": candid.Record({"msg_id": candid.Nat, "payload": candid.Blob}),
        "FIN": candid.Record({"msg_id": candid.Nat}),
    }
)
_CODEC: Final = candid.Codec([MESSAGE_TYPE])
_METHODS: Final = {
    "NEW": "com_asyncFlow_newMessage",
    "ACK": "com_asyncFlow_ack",
    "FIN": "com_asyncFlow_fin",
}


class Maf(Dialect):
    """See the module."""

    name: ClassVar[str] = "maf"
    methods: ClassVar[dict[str, str]] = _METHODS
    arguments: ClassVar[dict[str, tuple[candid.Type, ...]]] = dict.fromkeys(
        _METHODS, (MESSAGE_TYPE,)
    )

    def call_for(self, message: Message) -> tuple[str, bytes]:
        """See ``Dialect.call_for``."""
        kind = kind_of(message)
        value: dict[str, object] = {"msg_id": message.msg_id}
        if not isinstance(message, Fin):
            value["payload"] = message.payload or b""
        return _METHODS[kind], _CODEC.encode(candid.Case(kind, value))

    def message_from(self, method: str, arg: bytes) -> Message:
        """See ``Dialect.message_from``."""
        if method not in _METHODS.values():
            raise self.foreign_method(method)
        case = decode_one(_CODEC, arg)
        if _METHODS[case.label] != method:
            raise CandidError(f"{method} was called with a {case.label}")
        match case:
            case candid.Case("NEW", {"msg_id": msg_id, "payload": payload}):
                return New(msg_id, payload)
            case candid.Case("ACK", {"msg_id": msg_id, "payload": payload}):
                return Ack(msg_id, payload)
            case _:
                return Fin(case.value["msg_id"])
