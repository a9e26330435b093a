"""Settings with short waits, so that a lost message is seen to be repeated.

They go through the same code and the same checks as the defaults of hours.
"""

import dataclasses
from typing import Any, Final

from bridge.flow import Policy

_MS: Final = 1_000_000
_SECOND: Final = 1_000 * _MS

SHORT_WAITS: Final[dict[str, Any]] = {
    "first_retry": 1_500 * _MS,
    "call_timeout": _SECOND,
    "call_margin": 200 * _MS,
    "send_retry": 300 * _MS,
    "echo_min": 200 * _MS,
    "lifetime": 300 * _SECOND,
    "slack": _SECOND,
    "horizon": 900 * _SECOND,
    "linger": 600 * _SECOND,
    "retention": 600 * _SECOND,
    "answer_within": 300 * _SECOND,
    "skew": 60 * _SECOND,
    "spread": 500 * _MS,
}
"""By name, in nanoseconds, as ``candid/settings.did`` and `Policy` name them."""

SHORT_POLICY: Final = dataclasses.replace(Policy(), **SHORT_WAITS).validate()
"""The same for the Python side."""
