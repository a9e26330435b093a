"""What a replica's own error codes say of a canister: not there, empty, refusing and the like.

The interface specification leaves these codes to the implementation; they are those of the public
sources of the replica (its ``ErrorCode``), older ones included: what is an error of the canister
now (5xx) was an invalid destination then (3xx).
"""

from typing import Final

from bridge.errors import CallRejectedError

NO_SUCH_CANISTER: Final = frozenset({"IC0301"})
NO_MODULE: Final = frozenset({"IC0537", "IC0304"})
NO_SUCH_METHOD: Final = frozenset({"IC0536", "IC0302"})
NO_SUCH_TARGET: Final = NO_SUCH_CANISTER | NO_MODULE | NO_SUCH_METHOD  # nothing was executed
OWN_REFUSAL: Final = frozenset({"IC0406", "IC0516", "IC0503"})  # rejected, or trapped with a text

_DESTINATION_INVALID: Final = 3
_CANISTER_REJECT: Final = 4


def stands(error: CallRejectedError) -> bool:
    """Whether the same call is likely to be rejected ever after, until somebody changes something.

    What a canister lacks, and what it refuses, stands; that it is stopped, as for an upgrade, or is
    out of cycles or memory, or that the IC is busy, passes.
    """
    return (
        error.code in (_DESTINATION_INVALID, _CANISTER_REJECT)
        or error.error_code in NO_MODULE | NO_SUCH_METHOD | OWN_REFUSAL
    )
