"""``asyncFlow_batch``: several messages of the unified dialect in one call.

Contract: ``candid/batch.did``. Which messages may travel together is for ``bridge.flow.batch`` to
say.
"""

from collections.abc import Iterable
from typing import Final

from bridge import candid
from bridge.dialects._base import decode_one
from bridge.dialects.unified import MESSAGE_TYPE, from_case, to_case
from bridge.flow import Message
from bridge.flow import batch as rules

ARGUMENT: Final = candid.Vec(MESSAGE_TYPE)
_CODEC: Final = candid.Codec([ARGUMENT])


def call_for(messages: Iterable[Message]) -> tuple[str, bytes]:
    """The method and the encoded argument that carry a batch."""
    return rules.METHOD, _CODEC.encode([to_case(message) for message in messages])


def messages_from(arg: bytes) -> list[Message]:
    """The messages of a batch, in their order.

    Raises:
        CandidError: If the argument does not decode; the whole batch is as lost.
    """
    return [from_case(case) for case in decode_one(_CODEC, arg)]
