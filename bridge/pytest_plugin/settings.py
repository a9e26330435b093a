"""What the plugin was told, in this order: option, variable, ini file, bridge.toml, default."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.config import Configuration, variable


@dataclass(frozen=True, slots=True)
class Settings:
    """The plugin's settings.

    Attributes:
        network: The network, as `open_network` takes it.
        root_key: The root key's text, where given.
        identity: The PEM file of the default agent, where given.
        folder: Where the project is.
        system_canisters: Whether an embedded replica has the ledgers.
    """

    network: str
    root_key: str | None
    identity: str | None
    folder: Path
    system_canisters: bool = False

    @classmethod
    def of(cls, config: pytest.Config) -> "Settings":
        """Read them from pytest's configuration, the environment, and the project's other files.

        Raises:
            UsageError: If a file cannot be used.
        """
        files = Configuration.load(config.rootpath)

        def value(name: str) -> str | None:
            told = config.getoption(f"ic_{name}") or os.environ.get(variable(name))
            told = told or config.getini(f"ic_{name}") or files.shared(name).value
            return str(told) if told else None

        return cls(
            value("network") or "embedded",
            value("root_key"),
            value("identity"),
            config.rootpath,
            bool(config.getoption("ic_system_canisters") or config.getini("ic_system_canisters")),
        )
