"""Settings from files: the project's ``bridge.toml`` and the user's own, with each value's origin.

A setting is taken from the first that has it: an option, a variable ``IC_BRIDGE_*``, the project's
file, the user's file, the default. Options and variables belong to who declares them; here are the
files. Tables in them are named as the commands are::

    network = "local"

    [replica.start]
    port = 4943

Knows no commands.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Self

from bridge.errors import UsageError

PROJECT_FILE: Final = "bridge.toml"
USER_FILE: Final = "ic-bridge/config.toml"
"""Below ``$XDG_CONFIG_HOME``, by default ``~/.config``."""

SHARED: Final[Mapping[str, str]] = {
    "network": "where canisters run: embedded, local, dfx, icp, ic, or a URL",
    "root_key": "root key of a network that is not on this machine: hexadecimal, or a file",
    "identity": "PEM file of the key that signs",
}
"""Settings outside of all tables, by name, and what each says; options of these names use them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and where it comes from.

    Attributes:
        value: The value.
        origin: A variable's name, a file, or ``default``.
    """

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    content: Mapping[str, Any]


def unknown_name(name: str, known: Iterable[str], place: str) -> UsageError:
    """The error about a name that nothing reads, with the nearest one that something does."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(names)
    return UsageError(f"{place}: there is no setting {name!r}", hint=hint)


def variable(*path: str) -> str:
    """The environment variable of a setting, such as ``IC_BRIDGE_REPLICA_START_PORT``."""
    return "_".join(["IC_BRIDGE", *path]).upper().replace("-", "_")


class Configuration:
    """What the files say, the project's before the user's.

    Args:
        files: The files, strongest first; ``None`` if none were looked for.

    Attributes:
        is_loaded: Whether files were looked for: not by who only asks for help.
    """

    def __init__(self, files: Iterable[_File] | None = None) -> None:
        self._files = tuple(files or ())
        self.is_loaded = files is not None

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Read the nearest ``bridge.toml`` from a folder upwards, and the user's file.

        Args:
            folder: Where to begin; by default the working directory.

        Raises:
            UsageError: If a file cannot be read or is no TOML.
        """
        start = (folder or Path.cwd()).resolve()
        base = os.environ.get("XDG_CONFIG_HOME")
        paths = [
            next(
                (
                    place / PROJECT_FILE
                    for place in (start, *start.parents)
                    if (place / PROJECT_FILE).is_file()
                ),
                None,
            ),
            (Path(base) if base else Path.home() / ".config") / USER_FILE,
        ]
        return cls(_File(path, _read(path)) for path in paths if path and path.is_file())

    @property
    def paths(self) -> list[Path]:
        """The files that were read, strongest first."""
        return [file.path for file in self._files]

    def names(self, *path: str) -> dict[str, Path]:
        """Each name in a table, by default the top, with the strongest file that has it."""
        found = {}
        for file in reversed(self._files):
            table: Any = file.content
            for name in path:
                table = table.get(name, {}) if isinstance(table, Mapping) else {}
            if isinstance(table, Mapping):
                found.update(dict.fromkeys(table, file.path))
        return found

    def get(self, *path: str) -> Setting | None:
        """The value that the files give, such as ``get("replica", "start", "port")``."""
        for file in self._files:
            value: Any = file.content
            for name in path:
                value = value.get(name) if isinstance(value, Mapping) else None
            if value is not None:
                return Setting(value, str(file.path))
        return None

    @staticmethod
    def in_environment(name: str) -> bool:
        """Whether a variable is set to something."""
        return bool(os.environ.get(name))

    def shared(self, name: str) -> Setting:
        """A shared setting by variable, file or default.

        Raises:
            UsageError: If a file gives something else than text.
        """
        if self.in_environment(variable(name)):
            return Setting(os.environ[variable(name)], variable(name))
        if self.get(name) is not None:
            return self.from_files(name)
        return Setting("embedded" if name == "network" else None, "default")

    def from_files(self, name: str) -> Setting:
        """A shared setting that a file has; where it names a file, relative to its own.

        Raises:
            UsageError: If it is not text.
        """
        found = self.get(name)
        assert found is not None
        if not isinstance(found.value, str):
            raise UsageError(
                f"{found.origin}: {name} is not text but {found.value!r}",
                hint=f"write it in quotes: {SHARED[name]}",
            )
        beside = Path(found.origin).parent / found.value
        if name != "network" and len(found.value) < 256 and beside.is_file():
            return Setting(str(beside), found.origin)
        return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return _underscored(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as cause:
        raise UsageError(
            f"{path} cannot be read: {cause.strerror}", hint="let it be read, or remove it"
        ) from None
    except ValueError as cause:
        raise UsageError(f"{path} cannot be read: {cause}", hint="correct or remove it") from None


def _underscored(table: Mapping[str, Any]) -> dict[str, Any]:
    """Names with underscores, as options' names are inside; both spellings are taken."""
    return {
        name.replace("-", "_"): _underscored(value) if isinstance(value, dict) else value
        for name, value in table.items()
    }
