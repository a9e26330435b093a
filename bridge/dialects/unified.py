"""Dialect ``unified``: one method carries the three messages. Contract: ``candid/unified.did``."""

from typing import Any, ClassVar, Final

from bridge import candid
from bridge.dialects._base import Dialect, decode_one
from bridge.errors import CandidError
from bridge.flow import Ack, Fin, Message, New

METHOD: Final = "asyncFlow"

MESSAGE_TYPE: Final = candid.Variant(
    {
        "NEW": candid.Record({"msg_id": candid.Nat, "payload": candid.Blob}),
        "ACK": candid.Record(
            {
                "msg_id": candid.Nat,
                "payload": candid.Opt(candid.Blob),
                "hash": candid.Opt(candid.Nat32),
            }
        ),
        "FIN": candid.Record({"msg_id": candid.Nat, "hash": candid.Opt(candid.Nat32)}),
    }
)
_CODEC: Final = candid.Codec([MESSAGE_TYPE])


def to_case(message: Message) -> candid.Case:
    """A message as a value of ``MessageType``."""
    match message:
        case New(msg_id, payload):
            return candid.Case("NEW", {"msg_id": msg_id, "payload": payload})
        case Ack(msg_id, response, hash_):
            return candid.Case("ACK", {"msg_id": msg_id, "payload": response, "hash": hash_})
        case Fin(msg_id, hash_):
            return candid.Case("FIN", {"msg_id": msg_id, "hash": hash_})


def from_case(case: Any) -> Message:
    """The message in a decoded value of ``MessageType``."""
    match case:
        case candid.Case("NEW", {"msg_id": int(msg_id), "payload": bytes(payload)}):
            return New(msg_id, payload)
        case candid.Case("ACK", {"msg_id": int(msg_id), "payload": payload, "hash": hash_}):
            return Ack(msg_id, payload, hash_)
        case candid.Case("FIN", {"msg_id": int(msg_id), "hash": hash_}):
            return Fin(msg_id, hash_)
    raise CandidError(f"{case!r} is not a message of Async Flow")


class Unified(Dialect):
    """See the module."""

    name: ClassVar[str] = "unified"
    methods: ClassVar[dict[str, str]] = dict.fromkeys(("NEW", "ACK", "FIN"), METHOD)
    arguments: ClassVar[dict[str, tuple[candid.Type, ...]]] = dict.fromkeys(
        ("NEW", "ACK", "FIN"), (MESSAGE_TYPE,)
    )

    def call_for(self, message: Message) -> tuple[str, bytes]:
        """See ``Dialect.call_for``."""
        return METHOD, _CODEC.encode(to_case(message))

    def message_from(self, method: str, arg: bytes) -> Message:
        """See ``Dialect.message_from``."""
        if method != METHOD:
            raise self.foreign_method(method)
        return from_case(decode_one(_CODEC, arg))
