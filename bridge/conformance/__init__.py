"""Conformance: which implementations of Async Flow really work together, shown as a matrix.

    async for event in runner.run([entries.shipped("motoko")], [entries.load(path)], seed=7):
        ...

Plays the scenarios of the protocol's matrix between pairs of implementations, each of which is an
entry of data, and judges them by the messages that passed.
"""
