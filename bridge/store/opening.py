"""Which store a place is: a file, or a PostgreSQL database."""

from pathlib import Path

from bridge.errors import UsageError
from bridge.store.base import StoreView
from bridge.store.postgres import SCHEMES, PostgresView
from bridge.store.sqlite import SQLiteView


def view(location: str | Path) -> StoreView:
    """A view of the flows in a place, for reading beside the bridge that works on them.

    Args:
        location: The path of a `SQLiteStore`'s file; or where a `PostgresStore` is, as a URI of
            PostgreSQL's, with the schema, where it is not ``ic_bridge``, as one more parameter:
            ``postgresql://user@host/database?schema=orders``.

    Raises:
        UsageError: If the location names another database, or the extra for it is missing.
    """
    text = str(location)
    if isinstance(location, Path) or "://" not in text:
        return SQLiteView(location)
    if not text.startswith(SCHEMES):
        raise UsageError(
            f"no store is of the kind {text.partition('://')[0]}://",
            hint="give the path of a file, or postgresql://user@host/database",
        )
    return PostgresView(text)
