"""Other libraries' principals and identities, accepted by their shape and never imported.

The shapes are those of ic-py: a principal has ``bytes``; an identity has ``sender()`` and
``sign(message)``, which returns the public key in DER form and the signature, both ``None`` where
it is anonymous; a delegated one has ``delegations`` and ``der_pubkey`` besides. Text is taken for a
principal too.
"""

from functools import lru_cache
from typing import Any, Protocol, TypeAlias, runtime_checkable

from bridge.agent.identity import Identity
from bridge.errors import EnvelopeError, IdentityError, PrincipalError
from bridge.principal import Principal
from bridge.wire import SignedDelegation


@runtime_checkable
class ForeignPrincipal(Protocol):
    """A principal of another library."""

    @property
    def bytes(self) -> bytes:
        """The binary form."""


@runtime_checkable
class ForeignIdentity(Protocol):
    """An identity of another library."""

    def sender(self) -> Any:
        """Who signs."""

    def sign(self, msg: bytes) -> Any:
        """The public key in DER form, and the signature."""


PrincipalLike: TypeAlias = Principal | str | ForeignPrincipal
IdentityLike: TypeAlias = Identity | ForeignIdentity


# The same few canisters are called again and again.
_from_text = lru_cache(maxsize=1024)(Principal.from_text)


def as_principal(value: PrincipalLike) -> Principal:
    """Take a principal in any accepted form.

    Raises:
        PrincipalError: If it is none.
    """
    if isinstance(value, Principal):
        return value
    if isinstance(value, str):
        return _from_text(value)
    raw = getattr(value, "bytes", None)
    if isinstance(raw, bytes):
        return Principal(raw)
    raise PrincipalError(f"a {type(value).__name__} is not a principal", hint="pass its text")


def as_identity(value: IdentityLike | None) -> Identity:
    """Take an identity in any accepted form; ``None`` is the anonymous one.

    Raises:
        IdentityError: If it is none, or signs for another principal than it names.
    """
    if value is None:
        return Identity.anonymous()
    if isinstance(value, Identity):
        return value
    if not isinstance(value, ForeignIdentity):
        raise IdentityError(
            f"a {type(value).__name__} is not an identity", hint="use Identity.from_pem(path)"
        )
    sender = as_principal(value.sender())
    if sender.is_anonymous:
        return Identity.anonymous()
    identity = _with_delegations(_ForeignKey(value), value)
    if identity.principal != sender:
        raise IdentityError(
            f"the identity says that it is {sender}, but its key is that of {identity.principal}",
            hint="for a delegated identity build Identity(key, delegations, sender_public_key)",
        )
    return identity


def _with_delegations(key: "_ForeignKey", identity: object) -> Identity:
    chain = getattr(identity, "delegations", None)
    if not chain:
        return Identity(key)
    sender_public_key = getattr(identity, "der_pubkey", None)
    if not isinstance(chain, list | tuple) or not isinstance(sender_public_key, bytes | bytearray):
        raise IdentityError("the delegated identity has no list of delegations and no der_pubkey")
    try:
        links = [SignedDelegation.from_raw(link) for link in chain]
    except EnvelopeError as cause:
        raise IdentityError(f"the identity's delegations: {cause.message}") from None
    return Identity(key, links, bytes(sender_public_key))


class _ForeignKey:
    """The signing half of a foreign identity."""

    __slots__ = ("_identity", "_public_key_der")

    def __init__(self, identity: ForeignIdentity) -> None:
        self._identity = identity
        self._public_key_der = self._ask(b"")[0]

    def _ask(self, message: bytes) -> tuple[bytes, bytes]:
        match self._identity.sign(message):
            case [bytes() | bytearray() as public_key, bytes() | bytearray() as signature]:
                return bytes(public_key), bytes(signature)
        raise IdentityError("the identity's sign() does not return a public key and a signature")

    @property
    def public_key_der(self) -> bytes:
        return self._public_key_der

    def sign(self, message: bytes) -> bytes:
        return self._ask(message)[1]
