"""Where scenarios are played: on embedded replicas of one's own, or on a network by URL."""

from dataclasses import dataclass

from bridge.agent import Identity


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is played.

    Attributes:
        url: The network's URL; ``None`` plays on embedded replicas, whose time is virtual.
        root_key: Its root key (DER); ``None`` fetches it where the URL is on this machine, and is
            mainnet's elsewhere.
        identity: Who deploys and asks there; a fresh one where ``None``. On embedded replicas each
            worker has its own.
        word: What a command line calls it, where that is not its URL.
    """

    url: str | None = None
    root_key: bytes | None = None
    identity: Identity | None = None
    word: str = ""

    @property
    def name(self) -> str:
        """What a report calls it."""
        return self.url or "embedded"

    @property
    def choice(self) -> str | None:
        """What the option ``--network`` has to say; ``None`` for embedded replicas."""
        return None if self.url is None else self.word or self.url
