"""The one tree of errors that this package raises on purpose.

Every message says what was wrong and what was expected; the ``hint`` says what to do about it.
The command line prints both and leaves with ``exit_code``, never with a traceback of one of these.
"Certainly never left" and "outcome unknown" are different classes, because the caller's next step
differs. Nothing here imports anything: every room may raise from this tree.
"""

from typing import ClassVar


class BridgeError(Exception):
    """Base of all errors raised on purpose.

    What to do: do what the text says in parentheses, or what the row of its own class here says.

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
    """An argument, a file or a setting given to this package cannot be used.

    What to do: change the argument, file or setting that the message names; nothing was sent.
    """

    exit_code = 2


class PrincipalError(UsageError, ValueError):
    """The text or bytes are not a principal.

    What to do: copy the id again, whole; its last letters are a checksum over the first.
    """


class IdentityError(UsageError):
    """A key cannot be read, or its file is readable by others.

    What to do: run the command that the message gives, mostly ``chmod 600 FILE``, or name
    another key.
    """


class PolicyError(UsageError, ValueError):
    """A setting of the protocol is out of range or contradicts another.

    What to do: change the setting that the message names; `Policy`'s documentation gives unit
    and range.
    """


class LocalProtocolError(UsageError):
    """The application asked for something that the flow's state does not allow.

    What to do: look at the flow's state first; an answer can be given once, a handed-over flow
    cannot be cancelled.
    """


# --- Data ---------------------------------------------------------------------------------------


class CandidError(BridgeError, ValueError):
    """A Candid message, value, type or ``.did`` text is malformed or ill-typed.

    What to do: compare the value, at the path that the message gives, with the interface of
    whoever made or reads it.

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
    """The replica could not be reached or did not speak the IC's HTTP interface.

    What to do: see whether the URL is right and the replica runs; calls that only read may be
    repeated.
    """

    exit_code = 3


class NotSentError(TransportError):
    """No byte of the request left this machine: the call certainly did not happen.

    What to do: repeat it when the network is back.
    """


class RequestRefusedError(TransportError):
    """The replica refused the request itself, before any canister saw it (HTTP 4xx).

    What to do: 400 means that the request is wrong as it stands; 429 and 503 that it may be
    repeated later.

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

    What to do: read the reject code: 2 may be repeated, 3 names a canister or method that is
    not there, 4 is the canister's own refusal, 5 its failure.

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
    """Certified time has passed the call's expiry and its status is absent: it will never run.

    What to do: repeat it; it is as if it had not been made.
    """


class CallOutcomeUnknownError(TransportError):
    """The call may or may not have run, or its answer is no longer kept.

    What to do: ask the canister for the effect before you repeat a call that must not run
    twice.
    """


# --- Answers that cannot be believed ------------------------------------------------------------


class TrustError(BridgeError):
    """An answer carries no proof, or a wrong one. It was not used.

    What to do: find out who answers at that URL, and compare its root key with the one that was
    given.
    """

    exit_code = 4


class CertificateError(TrustError):
    """A certificate is malformed, forged, stale, or speaks of another canister or request.

    What to do: see that the root key is this network's and that this machine's clock is right.
    """


class QuerySignatureError(TrustError):
    """A query answer is not signed by a node that a certificate vouches for.

    What to do: repeat it by ``update``, which is certified; if that fails too, do not trust the
    URL.
    """


class SignatureError(TrustError):
    """A signature is not the key's, or the key is of a scheme that is not taken.

    What to do: sign with the key that belongs to the sender, of a scheme that the IC takes.
    """


class EnvelopeError(TrustError):
    """A request's envelope is malformed, expired, or not signed by its sender.

    What to do: see that the clock is right and that the delegation is for this key, canister
    and time.
    """


class WatchContractError(TrustError):
    """What a canister tells of its flows does not keep the contract ``candid/watch.did``.

    What to do: see that it is a canister that uses an Async Flow library of this version; one that
    contradicts itself should be asked certified, by ``update``.
    """


# --- Flows --------------------------------------------------------------------------------------


class FlowFailedError(BridgeError):
    """A flow ended without a response.

    What to do: after ``unsent`` and ``refused`` it may be sent anew; after any other failure
    ask the receiver first.

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


class PeerUnusableError(BridgeError):
    """`Bridge.check` found that no flow with this canister can come to its end as things stand.

    What to do: do what the message says, mostly list the agent's principal in ``access.agents`` of
    the canister, or correct its id; nothing was opened or sent.

    Args:
        message: What stands in the way.
        reason: ``no_canister``, ``no_module``, ``no_dialect``, ``no_outbox`` or ``not_listed``.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class WatchRefusedError(BridgeError):
    """A canister does not let this identity watch its flows.

    What to do: ask as a controller of the canister, or let a controller list this identity among
    its monitors by ``asyncFlow_configure``.
    """


# --- The running parts --------------------------------------------------------------------------


class StoreError(BridgeError):
    """The store of flows cannot be opened, read or written; `ic-bridge watch` leaves with 3.

    What to do: see that the file's folder exists, is writable, not full, and not used by
    another bridge; of a database server, that it runs, has room, and lets this role in.
    """


class StoreConflictError(StoreError):
    """Another worker changed the flow since it was read; read it again and decide anew.

    What to do: read the flow again and decide anew.
    """


class StoreLostError(StoreError):
    """The store was lost for good: another bridge took it over, or its server stayed away.

    What to do: end this bridge and start a new one on the store; what was committed is there, and
    a bridge that stands by goes on with it meanwhile.
    """


class ReplicaError(BridgeError):
    """The embedded replica cannot be started, or refuses what its admin interface was asked.

    What to do: do what the message says; ``ic-bridge replica start --help`` lists what can be
    set.
    """


class StateDirectoryError(ReplicaError):
    """The embedded replica's state directory is in use, damaged, of another version, or full.

    What to do: do what the message says. A replica that can no longer write ends; after the cause
    is gone and it was started again, everything is there that a client has a certificate for.
    """
