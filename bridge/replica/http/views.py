"""What the admin interface shows of queues and call contexts, as plain values for JSON.

Called under the machine's lock; changes nothing.
"""

from typing import Any

from bridge.replica.scheduler.held import QUIET
from bridge.replica.scheduler.machine import Machine
from bridge.replica.state.canister import Callback, CallContext, Canister
from bridge.replica.state.messages import (
    FromCanister,
    FromUser,
    Message,
    Reply,
    Request,
    Response,
)


def queues(machine: Machine, most: int) -> dict[str, Any]:
    """What waits for each canister, first in line first, and what faults hold back.

    Args:
        machine: The subnet at work.
        most: Messages to show of each queue.
    """
    return {
        "queues": [
            {
                "canister": str(canister.canister_id),
                "busy": canister.busy,
                "length": len(canister.queue),
                "messages": [
                    _message(canister, message)
                    for message, _ in zip(canister.queue, range(most), strict=False)
                ],
                "in_flight": {
                    str(callee): count for callee, count in canister.in_flight.items() if count
                },
            }
            for canister in machine.subnet.canisters.values()
            if canister.queue or canister.busy or canister.in_flight
        ],
        "held": [
            {
                "to": str(held.message.receiver),
                **_message(machine.subnet.canisters.get(held.message.receiver), held.message),
                "until": held.until if held.until > 0 else None,
                "until_quiet": held.until == QUIET,
            }
            for held, _ in zip(machine.held, range(most), strict=False)
        ],
    }


def _message(canister: Canister | None, message: Message) -> dict[str, Any]:
    if isinstance(message, Request):
        return {
            "kind": "ingress" if isinstance(message.origin, FromUser) else "request",
            "from": str(message.sender),
            "method": message.method,
            "size": len(message.arg),
            "cycles": message.cycles,
            "deadline": message.deadline or None,
        }
    if isinstance(message, Response):
        callback = None if canister is None else canister.callbacks.get(message.callback_id)
        payload = message.payload
        return {
            "kind": "reply" if isinstance(payload, Reply) else "reject",
            "from": None if callback is None else str(callback.callee),
            "method": "" if callback is None else callback.method,
            "size": len(payload.data if isinstance(payload, Reply) else payload.message.encode()),
            "cycles": message.refund,
            "deadline": None,
        }
    return {
        "kind": "timer",
        "from": None,
        "method": message.value,
        "size": 0,
        "cycles": 0,
        "deadline": None,
    }


def call_contexts(machine: Machine, most: int) -> list[dict[str, Any]]:
    """The calls in progress, oldest first, each with those that it waits for.

    Args:
        machine: The subnet at work.
        most: Contexts to show, and calls of each.
    """
    found: list[tuple[CallContext, Canister, list[Callback]]] = []
    for canister in machine.subnet.canisters.values():
        calls: dict[int, list[Callback]] = {number: [] for number in canister.contexts}
        for callback in canister.callbacks.values():
            calls[callback.context_id].append(callback)
        found += [
            (context, canister, calls[number]) for number, context in canister.contexts.items()
        ]
    found.sort(key=lambda one: one[0].context_id)
    return [_context(*one, most) for one in found[:most]]


def _context(
    context: CallContext, canister: Canister, calls: list[Callback], most: int
) -> dict[str, Any]:
    origin = context.origin
    if isinstance(origin, FromUser):
        kind = "user"
    else:
        kind = "canister" if isinstance(origin, FromCanister) else "system"
    return {
        "id": context.context_id,
        "canister": str(canister.canister_id),
        "origin": kind,
        "caller": str(context.caller),
        "method": context.method,
        "request_id": origin.request_id.hex() if isinstance(origin, FromUser) else None,
        "created": context.created,
        "deadline": context.deadline or None,
        "responded": context.responded,
        "cycles": context.available,
        "instructions": context.instructions,
        "calls": [
            {
                "to": str(callback.callee),
                "method": callback.method,
                "cycles": callback.cycles,
                "deadline": callback.deadline or None,
                "answered": callback.answered,
            }
            for callback in calls[:most]
        ],
    }
