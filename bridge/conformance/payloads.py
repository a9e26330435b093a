"""Requests that fit what a receiver does with them, and what the right answer to each is."""

import zlib
from dataclasses import dataclass
from typing import Final, Self

from bridge import candid
from bridge.errors import CandidError
from bridge.flow import payload_hash
from bridge.reference import contract_method

_COMPUTE: Final = contract_method("compute", "compute")
_REQUEST: Final = candid.Codec(_COMPUTE.args)
_RESPONSE: Final = candid.Codec(_COMPUTE.results)
_LARGE: Final = 1_500_000
_REFUSAL: Final = b"failed for good"


class Application(str):
    """What a receiver does with a request, in the words of its entry, and what it understands.

    Args:
        does: As ``Entry.application`` has it.
        requests: Payloads that it understands; empty where it understands whatever comes.
    """

    __slots__ = ("requests",)

    requests: tuple[bytes, ...]

    def __new__(cls, does: str, requests: tuple[bytes, ...] = ()) -> Self:
        """The word, with the requests."""
        made = super().__new__(cls, does)
        made.requests = requests
        return made


@dataclass(frozen=True, slots=True)
class Request:
    """A request's payload, and what its answer says.

    Attributes:
        payload: The bytes.
        answer: The right response of an application that obeys: these bytes, or ``None`` for null.
    """

    payload: bytes
    answer: bytes | None

    @property
    def hash(self) -> int:
        """Of its payload."""
        return payload_hash(self.payload)

    def answer_hash(self, application: str) -> int | None:
        """Of the right response; ``None`` where its bytes are not known beforehand."""
        if application in ("echo", "player"):
            return payload_hash(self.answer)
        if application == "crc32":
            return payload_hash(str(zlib.crc32(self.payload)).encode())
        return None

    @classmethod
    def small(cls, application: str, number: int = 1) -> "Request":
        """An ordinary request; those of other numbers are others."""
        if isinstance(application, Application) and application.requests:
            payload = application.requests[(number - 1) % len(application.requests)]
            return cls(payload, payload)
        if application == "compute":
            return cls(_REQUEST.encode({"numbers": [number, 2, 3]}), None)
        payload = f"hello {number}".encode()
        return cls(payload, payload)

    @classmethod
    def empty(cls, application: str) -> "Request":
        """Without a payload; to `compute`, which then answers with an error."""
        del application
        return cls(b"", b"")

    @classmethod
    def large(cls, application: str) -> "Request":
        """A payload of 1.5 MB."""
        if application == "compute":
            head = len(_REQUEST.encode({"numbers": [1] * 1000})) - 8000
            return cls(_REQUEST.encode({"numbers": [3] * ((_LARGE - head) // 8)}), None)
        payload = b"\xff" + bytes(range(256)) * (_LARGE // 256)
        return cls(payload, payload)

    @classmethod
    def null(cls) -> "Request":
        """Has an application that obeys answer with null."""
        return cls(b"null", None)

    @classmethod
    def refused(cls, application: str) -> "Request | None":
        """One that is answered with an error; ``None`` where no such answer can be had."""
        if application == "player":
            return cls(b"fail", _REFUSAL)
        return cls.empty(application) if application == "compute" else None


def is_error(application: str, response: bytes | None) -> bool:
    """Whether an answer says that the work was not done; of applications with `Request.refused`."""
    if application == "compute":
        try:
            (answer,) = _RESPONSE.decode(response or b"")
        except CandidError:
            return False
        return bool(answer.label == "err")
    return application == "player" and response == _REFUSAL


def right_answer(
    application: str, request: Request, response: bytes | None, dialect: str
) -> str | None:
    """What is wrong with a response; ``None`` if nothing is."""
    if application in ("echo", "player"):
        wanted = request.answer
        if wanted is None and dialect != "unified":
            wanted = b""
        if not wanted and not response and dialect != "unified":
            return None
        return None if response == wanted else f"a response of {_size(response)}, not the right one"
    if application == "crc32":
        right = str(zlib.crc32(request.payload)).encode()
        return None if response == right else f"{(response or b'')[:40]!r} for {right!r}"
    if application == "compute":
        return _wrong_sum(request, response)
    return None


def _size(response: bytes | None) -> str:
    return "null" if response is None else f"{len(response)} bytes"


def _wrong_sum(request: Request, response: bytes | None) -> str | None:
    try:
        (answer,) = _RESPONSE.decode(response or b"")
    except CandidError as error:
        return f"not the application's response: {error.message}"
    try:
        (asked,) = _REQUEST.decode(request.payload)
    except CandidError:
        return None if answer.label == "err" else "a sum of what is no request"
    if answer.label != "ok":
        return f"the error {answer.value[:80]!r}"
    right = (sum(asked["numbers"]), zlib.crc32(request.payload))
    given = (answer.value["sum"], answer.value["crc32"])
    return None if given == right else f"another sum: {answer.value!r:.80}"
