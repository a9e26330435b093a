"""Async Flow for the Internet Computer: one-shot messages between agents and canisters."""

from bridge._version import __version__

__all__ = ["__version__"]
