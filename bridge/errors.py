"""The one tree of errors that this package raises on purpose.

Every message says what was wrong and what was expected; the ``hint`` says what to do about it.
The command line prints both and leaves with ``exit_code``, never with a traceback of one of these.
"Certainly never left" and "outcome unknown" are different classes, because the caller's next step
differs. Nothing here imports anything: every room may raise from this tree.
"""

from typing import ClassVar


class BridgeError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What was wrong, and what was expected.
        hint: What to do about it, as one sentence.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


# --- The caller's own mistakes: nothing was sent, nothing changed -------------------------------


class UsageError(BridgeError):
    """An argument, a file or a setting given to this package cannot be used."""

    exit_code = 2


class PrincipalError(UsageError, ValueError):
    """The text or bytes are not a principal."""


class IdentityError(UsageError):
    """A key cannot be read, or its file is readable by others."""


class PolicyError(UsageError, ValueError):
    """A setting of the protocol is out of range or contradicts another."""


class LocalProtocolError(UsageError):
    """The application asked for something that the flow's state does not allow."""


# --- Data ---------------------------------------------------------------------------------------


class CandidError(BridgeError, ValueError):
    """A Candid message, value, type or ``.did`` text is malformed or ill-typed.

    Args:
        message: What was wrong, and what was expected.
        path: Where in the value, as a path such as ``.payload[3]``; empty at the top.
        offset: Byte offset in the message, or character offset in the text, where known.
        hint: What to do about it.

    Attributes:
        told: The message without the place.
    """

    exit_code = 2

    def __init__(
        self, message: str, *, path: str = "", offset: int | None = None, hint: str | None = None
    ) -> None:
        place = f" at {path}" if path else ""
        if offset is not None:
            place += f" (offset {offset})"
        super().__init__(message + place, hint=hint)
        self.told = message
        self.path = path
        self.offset = offset


# --- Talking to a replica -----------------------------------------------------------------------


class TransportError(BridgeError):
    """The replica could not be reached or did not speak the IC's HTTP interface."""

    exit_code = 3


class NotSentError(TransportError):
    """No byte of the request left this machine: the call certainly did not happen."""


class RequestRefusedError(TransportError):
    """The replica refused the request itself, before any canister saw it (HTTP 4xx).

    Args:
        message: What was wrong.
        status: The HTTP status code.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class CallRejectedError(BridgeError):
    """The IC answered the call with a reject.

    Args:
        message: What was rejected and why.
        code: The reject code (1 to 6), as in the interface specification, section Reject codes.
        reject_message: The replica's own text.
        error_code: The implementation's own code, such as ``IC0301``, where given.
        certified: Whether a certificate proves the reject; where not, the call may yet run.
        hint: What to do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int,
        reject_message: str,
        error_code: str | None = None,
        certified: bool,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.reject_message = reject_message
        self.error_code = error_code
        self.certified = certified


class CallNeverExecutedError(BridgeError):
    """Certified time has passed the call's expiry and its status is absent: it will never run."""


class CallOutcomeUnknownError(TransportError):
    """The call may or may not have run, or its answer is no longer kept."""


# --- Answers that cannot be believed ------------------------------------------------------------


class TrustError(BridgeError):
    """An answer carries no proof, or a wrong one. It was not used."""

    exit_code = 4


class CertificateError(TrustError):
    """A certificate is malformed, forged, stale, or speaks of another canister or request."""


class QuerySignatureError(TrustError):
    """A query answer is not signed by a node that a certificate vouches for."""


class SignatureError(TrustError):
    """A signature is not the key's, or the key is of a scheme that is not taken."""


class EnvelopeError(TrustError):
    """A request's envelope is malformed, expired, or not signed by its sender."""


# --- Flows --------------------------------------------------------------------------------------


class FlowFailedError(BridgeError):
    """A flow ended without a response.

    Args:
        message: Which flow failed, and how.
        failure: ``unsent``, ``refused``, ``cancelled``, ``corrupt`` or ``unknown``.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, failure: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.failure = failure

    @property
    def certainly_not_done(self) -> bool:
        """Whether the receiver certainly did not process the request."""
        return self.failure in ("unsent", "refused")


# --- The running parts --------------------------------------------------------------------------


class StoreError(BridgeError):
    """The store of flows cannot be opened, read or written."""


class StoreConflictError(StoreError):
    """Another worker changed the flow since it was read; read it again and decide anew."""


class ReplicaError(BridgeError):
    """The embedded replica cannot be started, or refuses what its admin interface was asked."""
