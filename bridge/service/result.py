"""The custom of responses: a Candid ``variant { ok : T; err : E }`` inside the opaque bytes."""

from typing import Any, Self

from bridge import candid
from bridge.errors import CandidError


class ResultCodec:
    """Writes and reads responses of the form ``variant { ok : T; err : E }``.

    Args:
        ok: The Candid type of a success.
        err: The Candid type of a failure.
    """

    def __init__(self, ok: candid.Type, err: candid.Type = candid.Text) -> None:
        self._codec = candid.Codec([candid.Variant({"ok": ok, "err": err})])

    @classmethod
    def of(cls, variant: candid.Type) -> Self:
        """The codec for a variant type that was read from an interface.

        Raises:
            CandidError: If it is no variant of ``ok`` and ``err``.
        """
        resolved = candid.resolve(variant)
        if isinstance(resolved, candid.Variant):
            cases = {str(field.label): field.type for field in resolved.fields}
            if set(cases) == {"ok", "err"}:
                return cls(cases["ok"], cases["err"])
        raise CandidError(f"{variant} is not of the form variant {{ ok : T; err : E }}")

    def ok(self, value: Any) -> bytes:
        """A response that says success.

        Raises:
            CandidError: If the value is not of the ``ok`` type.
        """
        return self._codec.encode(candid.Case("ok", value))

    def err(self, value: Any) -> bytes:
        """A response that says failure.

        Raises:
            CandidError: If the value is not of the ``err`` type.
        """
        return self._codec.encode(candid.Case("err", value))

    def read(self, response: bytes | None) -> candid.Case:
        """The response as ``Case("ok", ...)`` or ``Case("err", ...)``.

        Raises:
            CandidError: If it is null or no such value.
        """
        (case,) = self._codec.decode(response or b"")
        assert isinstance(case, candid.Case)
        return case
