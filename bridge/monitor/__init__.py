"""What flows looked like, after the fact: the message trace of a run and its pictures."""

from bridge.monitor.timeline import arrow_heads, draw_timeline
from bridge.monitor.trace import MessageRecord, read_trace, write_trace

__all__ = ["MessageRecord", "arrow_heads", "draw_timeline", "read_trace", "write_trace"]
