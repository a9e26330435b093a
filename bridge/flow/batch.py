"""Batches: up to 100 messages for one peer in one call.

Rule implemented: the protocol page, section Batch. What a batch carries are ordinary messages;
these functions only decide which travel together, and which of a received batch are passed on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bridge.flow.effects import Transmit
from bridge.flow.messages import Message, New
from bridge.flow.policy import Policy
from bridge.principal import Principal

METHOD: Final = "asyncFlow_batch"
MESSAGES_A_BATCH: Final = 100
BYTES_A_BATCH: Final = 1_900_000
# Encoding of a message around its payload: id, hash, labels and lengths, rounded up.
_OVERHEAD: Final = 64


def may_join(transmit: Transmit) -> bool:
    """Whether a transmission may travel in a batch.

    What went in a batch and was not answered is retried alone: every second attempt goes alone, so
    one message that makes the whole call fail cannot hold the others up for ever.
    """
    return transmit.attempt % 2 == 1


def _size(message: Message) -> int:
    return len(getattr(message, "payload", None) or b"") + _OVERHEAD


def pack(
    transmits: Iterable[Transmit], offers_batch: Callable[[Principal], bool]
) -> list[tuple[Transmit, ...]]:
    """Group transmissions into calls; a group of one is an ordinary call.

    Args:
        transmits: In the order in which they have room.
        offers_batch: Whether a peer offers the method.
    """
    groups: list[list[Transmit]] = []
    filling: dict[Principal, tuple[list[Transmit], int]] = {}
    for transmit in transmits:
        if not (may_join(transmit) and offers_batch(transmit.peer)):
            groups.append([transmit])
            continue
        size = _size(transmit.message)
        group, used = filling.get(transmit.peer, ([], BYTES_A_BATCH))
        if not group or len(group) >= MESSAGES_A_BATCH or used + size > BYTES_A_BATCH:
            group, used = [], 0
            groups.append(group)
        group.append(transmit)
        filling[transmit.peer] = group, used + size
    return [tuple(group) for group in groups]


@dataclass(frozen=True, slots=True)
class Opened:
    """What is done with a received batch.

    Args:
        forward: The messages to be sent on to ourselves, one call each.
        accept_cycles: How many of the attached cycles to accept.
        paid: Ids of the NEWs that were paid for just now, to be remembered for ``lifetime``.
        refused: How many entries are dropped: beyond the bounds, not admitted, or not paid for.
    """

    forward: tuple[Message, ...]
    accept_cycles: int
    paid: tuple[int, ...]
    refused: int


def open_batch(
    entries: Sequence[Message],
    *,
    cycles: int,
    admits: Callable[[Message], bool],
    is_paid: Callable[[int], bool],
    marks_left: int,
    policy: Policy,
) -> Opened:
    """Decide about a received batch; it stores no flow.

    Args:
        entries: The messages, in their order.
        cycles: Attached cycles.
        admits: Whether the checks of a single message, by lists and quotas, let one pass. What they
            refuse pays nothing and goes no further.
        is_paid: Whether the caller's flow with this id is known, or its paid mark is kept.
        marks_left: How many more paid marks of the caller may be kept; what cannot be marked is not
            charged and goes no further.
        policy: The settings.
    """
    forward: list[Message] = []
    paid: list[int] = []
    left = cycles
    size = 0
    for entry in entries[:MESSAGES_A_BATCH]:
        size += _size(entry)
        if size > BYTES_A_BATCH:
            break
        if not admits(entry):
            continue
        owes = isinstance(entry, New) and policy.min_cycles > 0 and entry.msg_id not in paid
        if owes and not is_paid(entry.msg_id):
            if left < policy.min_cycles or len(paid) >= marks_left:
                continue
            left -= policy.min_cycles
            paid.append(entry.msg_id)
        forward.append(entry)
    return Opened(tuple(forward), cycles - left, tuple(paid), len(entries) - len(forward))
