"""Time, queues and rounds: which message runs when, and what becomes of its effects."""
