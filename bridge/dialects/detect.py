"""Which dialect a peer speaks, told from its ``candid:service`` metadata."""

from bridge import candid
from bridge.dialects import batch
from bridge.dialects._base import Dialect
from bridge.dialects.registry import DIALECTS
from bridge.flow import batch as rules


def _takes(service: candid.Service, method: str, arguments: tuple[candid.Type, ...]) -> bool:
    """Whether a service has a method that takes our arguments and gives nothing back.

    With or without ``oneway``: callers accept both.
    """
    theirs = service.methods.get(method)
    if theirs is None or theirs.results:
        return False
    return candid.is_subtype(candid.Func(theirs.args), candid.Func(arguments))


def detect(service_text: str) -> str | None:
    """The dialect in which a flow can be opened to a peer; None if the peer takes no NEW of any.

    The dialects other than ``unified`` share the name of NEW's method, so its argument decides, and
    the method for FIN between those whose NEW looks alike.

    Args:
        service_text: The text of the metadata section ``candid:service``.

    Raises:
        CandidError: If the text is not a ``.did`` file.
    """
    service = candid.parse_did(service_text).service
    if service is None:
        return None
    for dialect in DIALECTS.values():
        if _receives(service, dialect):
            return dialect.name
    return None


def _receives(service: candid.Service, dialect: Dialect) -> bool:
    return all(
        _takes(service, dialect.methods[kind], dialect.arguments[kind]) for kind in ("NEW", "FIN")
    )


def offers_batch(service_text: str) -> bool:
    """Whether a peer offers ``asyncFlow_batch``.

    Raises:
        CandidError: If the text is not a ``.did`` file.
    """
    service = candid.parse_did(service_text).service
    return service is not None and _takes(service, rules.METHOD, (batch.ARGUMENT,))
