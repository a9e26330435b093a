"""How a scenario ends early: with what it expected and did not see, or with what is lacking."""

from bridge.conformance.results import Hazard


class NotHeldError(Exception):
    """What had to hold did not.

    Args:
        expected: What had to be seen.
        observed: What was seen.
        hazard: The known danger that this shows, if any.
    """

    def __init__(self, expected: str, observed: str, hazard: Hazard | None = None) -> None:
        super().__init__(f"expected {expected}; observed {observed}")
        self.expected = expected
        self.observed = observed
        self.hazard = hazard


class LackingError(Exception):
    """A dialect, an entry or the place states that it has not got what the scenario needs.

    Args:
        reason: What is lacking, and by whose word.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
