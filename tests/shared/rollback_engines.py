"""The engines of rollback that work on this machine."""

from bridge.replica.execution import pages
from bridge.replica.execution.rollback import CopyUsedPages, TrackWhenLarge, TrackWrittenPages

AVAILABLE = [CopyUsedPages, *([TrackWrittenPages, TrackWhenLarge] if pages.can_watch() else [])]
