"""Which store a place is."""

from pathlib import Path

from bridge.errors import UsageError
from bridge.store.base import StoreView
from bridge.store.sqlite import SQLiteView


def view(location: str | Path) -> StoreView:
    """A view of the flows in a place, for reading beside the bridge that works on them.

    Args:
        location: The path of a `SQLiteStore`'s file.

    Raises:
        UsageError: If the location is of another kind.
    """
    text = str(location)
    if isinstance(location, Path) or "://" not in text:
        return SQLiteView(location)
    raise UsageError(
        f"no store is of the kind {text.partition('://')[0]}://",
        hint="give the path of a file",
    )
