"""`Bridge`: agent, store and flow as one running thing."""

from bridge.service.application import (
    DEFERRED,
    FinalFailure,
    Outcome,
    Request,
    RetryLater,
)
from bridge.service.bridge import Bridge
from bridge.service.checking import CheckedPeer
from bridge.service.mailbox import mailbox_argument
from bridge.service.performer import Sighting
from bridge.service.result import ResultCodec

__all__ = [
    "DEFERRED",
    "Bridge",
    "CheckedPeer",
    "FinalFailure",
    "Outcome",
    "Request",
    "ResultCodec",
    "RetryLater",
    "Sighting",
    "mailbox_argument",
]
