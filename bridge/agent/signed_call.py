"""An update call that is signed and ready to be sent, now or later, here or elsewhere."""

import base64
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from bridge.errors import BridgeError, UsageError
from bridge.principal import Principal
from bridge.wire import CallRequest, Envelope, parse_request

_FORMAT: Final = "ic-bridge signed call, version 1"


@dataclass(frozen=True)
class SignedCall:
    """A signed update call.

    Sending it twice runs it once: the IC tells calls apart by their request id.

    Args:
        envelope: The call.
        effective_canister_id: The canister it is routed by.
        status_envelope: A signed request for the call's status, so that who does not hold the key
            can wait for the answer; ``None`` where the sender's identity is at hand.
    """

    envelope: Envelope
    effective_canister_id: Principal
    status_envelope: Envelope | None = None

    @cached_property
    def request(self) -> CallRequest:
        """What is called, by whom, with what, until when.

        Raises:
            UsageError: If the envelope does not hold an update call.
        """
        request = parse_request(self.envelope.content)
        if not isinstance(request, CallRequest):
            raise UsageError(f"a signed {request.request_type} is not a signed call")
        return request

    @property
    def request_id(self) -> bytes:
        """The request's id, 32 bytes."""
        return self.envelope.request_id

    def to_json(self) -> str:
        """Write it as text that :meth:`from_json` reads; it holds no private key."""
        request = self.request
        status = self.status_envelope
        return json.dumps(
            {
                "format": _FORMAT,
                "request_id": self.request_id.hex(),
                "sender": str(request.sender),
                "canister_id": str(request.canister_id),
                "method_name": request.method_name,
                "arg": request.arg.hex(),
                "ingress_expiry": request.ingress_expiry,
                "effective_canister_id": str(self.effective_canister_id),
                "envelope": _text(self.envelope),
                "status_envelope": None if status is None else _text(status),
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read it back. What is shown beside the envelope must be what the envelope says.

        Raises:
            UsageError: If the text is no signed call, or shows other things than were signed.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            status = raw["status_envelope"]
            call = cls(
                _envelope(raw["envelope"]),
                Principal.from_text(raw["effective_canister_id"]),
                None if status is None else _envelope(status),
            )
            shown = json.loads(call.to_json())
        except (ValueError, TypeError, KeyError, RecursionError, BridgeError) as cause:
            raise UsageError(
                f"this is not a signed call: {cause!r}", hint=f"expected format: {_FORMAT}"
            ) from None
        for name, value in shown.items():
            if raw.get(name) != value:
                raise UsageError(
                    f"the signed call shows {name} {raw.get(name)!r}, but signed is {value!r}",
                    hint="the text was changed after it was signed; do not send it",
                )
        return call


def _text(envelope: Envelope) -> str:
    return base64.b64encode(envelope.to_cbor()).decode()


def _envelope(text: str) -> Envelope:
    return Envelope.from_cbor(base64.b64decode(text, validate=True))
