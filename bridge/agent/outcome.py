"""What a verified certificate, or a node's word, says of a request: reply, reject, or not yet.

Rules implemented: interface specification, sections Request status and Reject codes. Nothing here
talks to anyone.
"""

from collections.abc import Mapping
from typing import Any, Final

from bridge.errors import (
    CallOutcomeUnknownError,
    CallRejectedError,
    CertificateError,
    TransportError,
)
from bridge.principal import Principal
from bridge.wire import Certificate, leb128

REJECT_CODES: Final = {
    1: "SYS_FATAL",
    2: "SYS_TRANSIENT",
    3: "DESTINATION_INVALID",
    4: "CANISTER_REJECT",
    5: "CANISTER_ERROR",
    6: "SYS_UNKNOWN",
}

_HINTS: Final = {
    1: "the IC cannot run this call; retrying will not help",
    2: "a passing condition; call again later",
    3: "check the canister id and the method name",
    4: "the canister itself said no; its message tells why",
    5: "the canister trapped or is not running; what it did in this message was undone",
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
    detail = f", {error_code}" if error_code else ""
    proof = "" if certified else "; one node's word, not certified"
    return CallRejectedError(
        f"{what} was rejected: {message} (reject code {code} {name}{detail}{proof})",
        code=code,
        reject_message=message,
        error_code=error_code,
        certified=certified,
        hint=_HINTS.get(code),
    )


def rejected_by_node(what: str, body: Mapping[Any, Any]) -> CallRejectedError:
    """The error for a reject that only a node vouches for.

    Raises:
        TransportError: If the body is no such reject.
    """
    code, message = body.get("reject_code"), body.get("reject_message")
    error_code = body.get("error_code")
    if type(code) is not int or not isinstance(message, str):
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


def status_of(certificate: Certificate, request_id: bytes) -> str | None:
    """The certified status of a request; ``None`` where it is proved that there is none.

    Raises:
        CertificateError: If the certificate does not tell, or tells no status that exists.
    """
    value = certificate.value((b"request_status", request_id, b"status"))
    if value is None:
        return None
    status = value.decode(errors="replace")
    if status not in ("received", "processing", "replied", "rejected", "done"):
        raise CertificateError(f"a certificate gives the request the unknown status {status!r}")
    return status


def result_of(certificate: Certificate, request_id: bytes, what: str) -> bytes | None:
    """The reply of a finished request; ``None`` while it is not finished.

    Raises:
        CallRejectedError: If it was rejected.
        CallOutcomeUnknownError: If it has finished and its answer is no longer kept.
        CertificateError: If the certificate does not tell.
    """
    status = status_of(certificate, request_id)
    if status == "replied":
        reply = certificate.value((b"request_status", request_id, b"reply"))
        if reply is None:
            raise CertificateError(f"the certificate says that {what} replied, and shows no reply")
        return reply
    if status == "rejected":
        raise _certified_reject(certificate, request_id, what)
    if status == "done":
        raise CallOutcomeUnknownError(
            f"{what} has run, but its answer is no longer kept",
            hint="ask the canister what it did; do not call again before you know",
        )
    return None


def _certified_reject(certificate: Certificate, request_id: bytes, what: str) -> CallRejectedError:
    code = certificate.value((b"request_status", request_id, b"reject_code"))
    message = certificate.value((b"request_status", request_id, b"reject_message"))
    if code is None or message is None:
        raise CertificateError(f"the certificate says that {what} was rejected, and not how")
    found = certificate.lookup((b"request_status", request_id, b"error_code"))
    error_code = getattr(found, "value", None)
    return rejected(
        what,
        code=leb128.decode(code),
        message=message.decode(errors="replace"),
        error_code=error_code.decode(errors="replace") if error_code else None,
        certified=True,
    )


def describe(method: str, canister_id: Principal) -> str:
    """How messages name a call."""
    return f"{method!r} on {canister_id}"
