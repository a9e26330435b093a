"""The `compute` application (``candid/compute.did``) in Python: what a right response is."""

import random
import zlib
from typing import Final

from bridge import candid
from bridge.errors import CandidError
from bridge.reference import contract_method
from bridge.service import FinalFailure, Request, ResultCodec

_METHOD: Final = contract_method("compute", "compute")
_REQUEST: Final = candid.Codec(_METHOD.args)
_RESPONSE: Final = ResultCodec.of(_METHOD.results[0])


def random_payload(draw: random.Random) -> bytes:
    """A request with some random numbers."""
    numbers = [draw.randrange(2**64) for _ in range(draw.randint(1, 12))]
    return _REQUEST.encode({"numbers": numbers})


def right_response(payload: bytes) -> bytes:
    """The response that a right receiver gives to this payload.

    Raises:
        CandidError: If the payload is no request of the application.
    """
    (request,) = _REQUEST.decode(payload)
    numbers = request["numbers"]
    return _RESPONSE.ok(
        {
            "sum": sum(numbers),
            "largest": max(numbers, default=None),
            "crc32": zlib.crc32(payload),
        }
    )


def means_the_same(response: bytes | None, expected: bytes) -> bool:
    """Whether two responses say the same, however their bytes are laid out."""
    try:
        return _RESPONSE.read(response) == _RESPONSE.read(expected)
    except CandidError:
        return False


async def compute(request: Request) -> bytes:
    """The application as a handler for a `Bridge`."""
    try:
        return right_response(request.payload)
    except CandidError as error:
        raise FinalFailure(_RESPONSE.err(str(error))) from error
