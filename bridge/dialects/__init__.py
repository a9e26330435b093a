"""Messages to and from calls: the same three messages as they are spoken in the wild.

    method, arg = dialects.get("unified").call_for(message)
    message = dialects.get("unified").message_from(method, arg)

Each dialect has a file of its own here, and its contract in ``candid/``.
"""

from bridge.dialects import batch
from bridge.dialects._base import Dialect
from bridge.dialects.detect import detect, offers_batch
from bridge.dialects.registry import DIALECTS, get

__all__ = ["DIALECTS", "Dialect", "batch", "detect", "get", "offers_batch"]
