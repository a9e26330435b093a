"""What a verified certificate, or a node's word, says of a request: reply, reject, or not yet.

Rules implemented: interface specification, sections Request status and Reject codes. Nothing here
talks to anyone.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from bridge.agent.quote import quote
from bridge.errors import (
    CallOutcomeUnknownError,
    CallRejectedError,
    CertificateError,
    TransportError,
)
from bridge.principal import Principal
from bridge.wire import Certificate, hashtree, leb128
from bridge.wire import _cbor as cbor
from bridge.wire.certificate import value_at
from bridge.wire.hashtree import Found, HashTree

REJECT_CODES: Final = {
    1: "SYS_FATAL",
    2: "SYS_TRANSIENT",
    3: "DESTINATION_INVALID",
    4: "CANISTER_REJECT",
    5: "CANISTER_ERROR",
    6: "SYS_UNKNOWN",
}

_LONGEST_SHOWN: Final = 2000
_LONGEST_CODE: Final = 32

_STATUSES: Final = (None, "received", "processing", "replied", "rejected", "done")

# What a replica says more exactly than by the reject code.
_HINTS_BY_ERROR: Final = {
    "IC0536": "check the method name, and whether it is an update or a query",
    "IC0537": "the canister is empty; install a module first",
    "IC0508": "the canister is stopped or stopping; start it, or call another",
    "IC0538": "install with mode upgrade to keep its state, or reinstall to drop it",
}

_HINTS: Final = {
    1: "the IC cannot run this call; trying again will not help",
    2: "a passing condition; call again later",
    3: "check the canister id and the method name",
    4: "the canister itself said no; its message tells why",
    5: "what the canister did for this message was undone; correct the argument or the canister",
    6: "the outcome is not known to the IC; ask the canister before calling again",
}


def rejected(
    what: str, *, code: int, message: str, error_code: str | None, certified: bool
) -> CallRejectedError:
    """The error for a reject.

    Args:
        what: The call, such as ``greet on rrkah-...``.
        code: The reject code.
        message: The reject message.
        error_code: The implementation's code, where given.
        certified: Whether a certificate proves the reject.
    """
    name = REJECT_CODES.get(code, "an unknown code")
    detail = f", {quote(error_code, _LONGEST_CODE)}" if error_code else ""
    proof = "" if certified else "; one node's word, not certified"
    shown = quote(message, _LONGEST_SHOWN)
    return CallRejectedError(
        f"{what} was rejected: {shown} (reject code {code} {name}{detail}{proof})",
        code=code,
        reject_message=message,
        error_code=error_code,
        certified=certified,
        hint=_HINTS_BY_ERROR.get(error_code or "") or _HINTS.get(code),
    )


def rejected_by_node(what: str, body: Mapping[Any, Any]) -> CallRejectedError:
    """The error for a reject that only a node vouches for.

    Raises:
        TransportError: If the body is no such reject.
    """
    code, message = body.get("reject_code"), body.get("reject_message")
    error_code = body.get("error_code")
    if not cbor.is_nat(code) or not isinstance(message, str):
        raise TransportError(
            f"the answer about {what} is neither a reply nor a reject",
            hint="this is no replica, or one that speaks another version",
        )
    return rejected(
        what,
        code=code,
        message=message,
        error_code=error_code if isinstance(error_code, str) else None,
        certified=False,
    )


class Outcome:
    """What a verified certificate tells of one request.

    Args:
        certificate: The certificate.
        request_id: The request.
        what: How messages name the call.

    Raises:
        CertificateError: If the certificate does not tell, or tells what makes no sense.
    """

    def __init__(
        self, certificate: Certificate, request_id: bytes, what: Callable[[], str]
    ) -> None:
        self._what = what
        path = (b"request_status", request_id)
        found = hashtree.lookup_subtree(certificate.tree, path)
        # A proof of absence ends above the request; then the certificate as a whole is asked.
        self._tree = found if isinstance(found, HashTree) else certificate.tree
        self._above = () if isinstance(found, HashTree) else path
        value = self._value(b"status")
        self.status: str | None = None if value is None else value.decode(errors="replace")
        if self.status not in _STATUSES:
            raise CertificateError(
                f"a certificate gives the request the unknown status {self.status!r}"
            )

    def _value(self, name: bytes) -> bytes | None:
        return value_at(self._tree, (*self._above, name))

    def reply(self) -> bytes | None:
        """The reply; ``None`` while the request is not finished.

        Raises:
            CallRejectedError: If it was rejected.
            CallOutcomeUnknownError: If it has finished and its answer is no longer kept.
            CertificateError: If the certificate does not tell.
        """
        if self.status == "replied":
            reply = self._value(b"reply")
            if reply is None:
                raise CertificateError(
                    f"the certificate says that {self._what()} replied, and shows no reply"
                )
            return reply
        if self.status == "rejected":
            raise self._reject()
        if self.status == "done":
            raise CallOutcomeUnknownError(
                f"{self._what()} has run, but its answer is no longer kept",
                hint="ask the canister what it did; do not call again before you know",
            )
        return None

    def _reject(self) -> CallRejectedError:
        code, message = self._value(b"reject_code"), self._value(b"reject_message")
        if code is None or message is None:
            raise CertificateError(
                f"the certificate says that {self._what()} was rejected, and not how"
            )
        found = hashtree.lookup(self._tree, (b"error_code",))
        return rejected(
            self._what(),
            code=leb128.decode(code),
            message=message.decode(errors="replace"),
            error_code=found.value.decode(errors="replace") if isinstance(found, Found) else None,
            certified=True,
        )


def describe(method: str, canister_id: Principal) -> str:
    """How messages name a call."""
    return f"{method!r} on {canister_id}"
