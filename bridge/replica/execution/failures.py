"""Why an execution ended badly: one class a cause, with the replica's error code and text.

The texts follow the public replica, because people and tools read them; the reject code follows
from the error code's first digit (interface specification, section Error codes). Knows nothing of
Wasm.
"""

from typing import ClassVar

from bridge.errors import ReplicaError
from bridge.principal import Principal

_MAX_TEXT = 10_000


class ExecutionError(ReplicaError):
    """A message execution failed; everything that it did is undone.

    Args:
        message: What happened, without the canister's name.
    """

    error_code: ClassVar[str] = "IC0502"
    reject_code: ClassVar[int] = 5

    def text_for(self, canister: Principal) -> str:
        """The reject message that the caller sees."""
        return f"Error from Canister {canister}: {self.message}"[:_MAX_TEXT]


class InterruptedRunError(BaseException):
    """The replica ends while a canister runs.

    No ``Exception``, because nobody may take it for a failure of the canister: the message has
    neither been executed nor failed, and what it did to memories that are in no use any more stays.
    """


class TrapError(ExecutionError):
    """The Wasm code trapped, as by ``unreachable`` or an access out of bounds."""

    error_code = "IC0502"


class ExplicitTrapError(ExecutionError):
    """The canister called ``ic0.trap``."""

    error_code = "IC0503"


class ContractViolationError(ExecutionError):
    """The canister used the System API against its rules."""

    error_code = "IC0504"


class InvalidModuleError(ExecutionError):
    """The module breaks a rule for canister modules, or is no Wasm at all."""

    error_code = "IC0505"

    def text_for(self, canister: Principal) -> str:
        """The reject message that the caller sees."""
        return (
            f"Error from Canister {canister}: Canister's Wasm module is not valid: {self.message}"
        )[:_MAX_TEXT]


class InstructionLimitError(ExecutionError):
    """One message took more instructions than a message may."""

    error_code = "IC0522"


class MemoryLimitError(ExecutionError):
    """The canister's Wasm memory exceeds the limit in its settings."""

    error_code = "IC0539"


class FunctionNotFoundError(ExecutionError):
    """A callback's index names no function of the table, or one of another type."""

    error_code = "IC0513"


class EngineFailureError(ExecutionError):
    """The replica itself failed while it ran a canister; its log says how."""

    error_code = "IC0521"
