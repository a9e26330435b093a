"""The dialects by name."""

from typing import Final

from bridge.dialects._base import Dialect
from bridge.dialects.bounty import Bounty
from bridge.dialects.maf import Maf
from bridge.dialects.positional import Positional
from bridge.dialects.unified import Unified
from bridge.errors import UsageError
from bridge.flow import DIALECT_NAMES

_SPOKEN = {dialect.name: dialect for dialect in (Unified(), Maf(), Bounty(), Positional())}
# Settings speak of dialects too, and know them by their names alone.
DIALECTS: Final[dict[str, Dialect]] = {name: _SPOKEN[name] for name in DIALECT_NAMES}


def get(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        UsageError: If there is none.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        raise UsageError(
            f"there is no dialect {name!r}", hint="choose one of " + ", ".join(DIALECTS)
        ) from None
