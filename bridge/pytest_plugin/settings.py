"""What the plugin was told: option, environment variable, ini file, default, in this order."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Settings:
    """The plugin's settings.

    Attributes:
        network: The network, as `open_network` takes it.
        root_key: The root key's text, where given.
        identity: The PEM file of the default agent, where given.
        folder: Where the project is.
    """

    network: str
    root_key: str | None
    identity: str | None
    folder: Path

    @classmethod
    def of(cls, config: pytest.Config) -> "Settings":
        """Read them from pytest's configuration and the environment."""

        def value(name: str) -> str | None:
            told = (
                config.getoption(f"ic_{name}")
                or os.environ.get(f"IC_BRIDGE_{name.upper()}")
                or config.getini(f"ic_{name}")
            )
            return str(told) if told else None

        return cls(
            value("network") or "embedded", value("root_key"), value("identity"), config.rootpath
        )
