"""The Python values that Candid needs beside the built-in ones.

Everything here is an immutable tuple with names: cheap to make by the thousand, and readable in a
``match`` statement. It must not know types or bytes.
"""

from typing import Any, NamedTuple

from bridge.principal import Principal


class Case(NamedTuple):
    """A variant's value: which case, and what it carries.

    Attributes:
        label: The case's name; its number where the name is not known.
        value: The payload; None for a case of type ``null``.
    """

    label: str | int
    value: Any = None


class Some(NamedTuple):
    """A present option, spelled out.

    Needed where the content may itself be None (``opt opt t``, ``opt null``, ``opt reserved``), so
    that a present null differs from an absent one. Accepted wherever an option is encoded.

    Attributes:
        value: The content.
    """

    value: Any


class FuncRef(NamedTuple):
    """A reference to one method of a service.

    Attributes:
        service: Who offers it.
        method: Its name.
    """

    service: Principal
    method: str


class ServiceRef(NamedTuple):
    """A reference to a service.

    Attributes:
        service: Who it is.
    """

    service: Principal
