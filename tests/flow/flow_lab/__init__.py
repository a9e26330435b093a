"""Tools that prove the protocol core: exploration, simulation, generated vectors, diagrams.

Run them through make (explore, simulate, vectors, diagrams, mutate); the tests use them too. The
checkers here know the protocol page, not the code of ``bridge.flow``.
"""
