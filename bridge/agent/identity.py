"""Identities: who signs a request, with which key, in whose place.

Keys are read from PEM files that nobody else can read, made, and written. A private key is never
part of a repr, a message or an exception.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bridge.agent.chain_json import chain_from_json, chain_to_json
from bridge.agent.pem import load_key, read_private_file
from bridge.errors import IdentityError
from bridge.principal import Principal
from bridge.wire import Delegation, Envelope, SignedDelegation, Value
from bridge.wire.keys import ECDSAKey, Ed25519Key, SigningKey

if TYPE_CHECKING:
    from bridge.agent.seed_phrase import Curve

Kind: TypeAlias = Literal["ed25519", "secp256k1", "p256"]

_CURVES: Final[dict[str, ec.EllipticCurve]] = {"secp256k1": ec.SECP256K1(), "p256": ec.SECP256R1()}


class Identity:
    """A signer of requests; immutable.

    Args:
        key: What signs; ``None`` for the anonymous identity.
        delegations: The chain of delegations that ends at ``key``, where it signs in the place of
            another key.
        sender_public_key: The key that the chain starts at, in DER form.
    """

    __slots__ = ("_delegations", "_key", "_principal", "_sender_public_key")

    def __init__(
        self,
        key: SigningKey | None,
        delegations: Iterable[SignedDelegation] = (),
        sender_public_key: bytes | None = None,
    ) -> None:
        self._key = key
        self._delegations = tuple(delegations)
        if key is None:
            if self._delegations or sender_public_key is not None:
                raise IdentityError("the anonymous identity has no key to delegate to")
            self._sender_public_key = b""
            self._principal = Principal.anonymous()
            return
        if bool(self._delegations) != (sender_public_key is not None):
            raise IdentityError(
                "a chain of delegations and the public key it starts at belong together"
            )
        if self._delegations and self._delegations[-1].delegation.public_key != key.public_key_der:
            raise IdentityError(
                "the last delegation is to another key than the one that is to sign",
                hint="pass the session key that the delegation was made for",
            )
        self._sender_public_key = sender_public_key or key.public_key_der
        self._principal = Principal.self_authenticating(self._sender_public_key)

    # --- Making one ---

    @classmethod
    def anonymous(cls) -> Self:
        """The identity that signs nothing."""
        return cls(None)

    @classmethod
    def generate(cls, kind: Kind = "ed25519") -> Self:
        """Make a random key.

        Raises:
            IdentityError: If the kind is unknown.
        """
        if kind == "ed25519":
            return cls(Ed25519Key.generate())
        if kind not in _CURVES:
            raise IdentityError(f"{kind!r} is no kind of key; use ed25519, secp256k1 or p256")
        return cls(ECDSAKey.generate(_CURVES[kind]))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The Ed25519 identity of a private key of 32 bytes.

        Raises:
            IdentityError: If there are more or fewer.
        """
        if len(seed) != 32:
            raise IdentityError(f"an Ed25519 private key has 32 bytes, not {len(seed)}")
        return cls(Ed25519Key.from_seed(seed))

    @classmethod
    def from_pem(cls, path: str | os.PathLike[str], *, password: bytes | None = None) -> Self:
        """Read a private key from a PEM file that only its owner can read.

        Args:
            path: The file.
            password: What the file is encrypted with, if it is.

        Raises:
            IdentityError: If the file cannot be read, is readable by others, or holds no usable
                key.
        """
        return cls.from_pem_data(read_private_file(Path(path)), password=password, source=str(path))

    @classmethod
    def from_pem_data(
        cls, data: bytes, *, password: bytes | None = None, source: str = "the PEM"
    ) -> Self:
        """Take a private key out of PEM text.

        Args:
            data: The text. PKCS #8 (encrypted or not), SEC 1 and OpenSSH forms are taken;
                parameters of a curve may stand before the key.
            password: What it is encrypted with, if it is.
            source: Where it comes from, for messages.

        Raises:
            IdentityError: If it holds no key that the IC takes.
        """
        return cls(load_key(data, password=password, source=source))

    @classmethod
    def from_seed_phrase(
        cls,
        phrase: str,
        *,
        curve: "Curve" = "secp256k1",
        passphrase: str = "",
        path: str | None = None,
    ) -> Self:
        """Derive a key from a seed phrase, as the usual wallets do.

        Args:
            phrase: 12 to 24 words. Their checksum is not checked: compare the principal.
            curve: ``secp256k1`` is what dfx, quill and most wallets use, ``ed25519`` what Internet
                Identity's recovery phrases use.
            passphrase: The phrase's own password, if it has one.
            path: The derivation path; by default the curve's usual one.

        Raises:
            IdentityError: If the phrase, the curve or the path cannot be used.
        """
        from bridge.agent import seed_phrase  # noqa: PLC0415 - few need it, and it takes time

        return cls(seed_phrase.derive_key(seed_phrase.seed_of(phrase, passphrase), curve, path))

    @classmethod
    def from_delegation(cls, session: "Identity", text: str | bytes) -> Self:
        """The identity that a chain of delegations, as JSON, lets a session's key sign for.

        Raises:
            IdentityError: If the text is no chain, or ends at another key.
        """
        sender_public_key, chain = chain_from_json(text)
        return cls(session._signer("take a delegation"), chain, sender_public_key)  # noqa: SLF001

    # --- What it is ---

    @property
    def principal(self) -> Principal:
        """Who the requests come from."""
        return self._principal

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing is signed."""
        return self._key is None

    @property
    def public_key_der(self) -> bytes:
        """The sender's public key in DER form; empty for the anonymous identity."""
        return self._sender_public_key

    @property
    def delegations(self) -> tuple[SignedDelegation, ...]:
        """The chain through which the key signs in the sender's place."""
        return self._delegations

    # --- What it does ---

    def sign(self, message: bytes) -> bytes:
        """Sign any bytes with the signing key.

        Raises:
            IdentityError: If this is the anonymous identity.
        """
        return self._signer("sign").sign(message)

    def sign_request(self, content: Mapping[str, Value]) -> Envelope:
        """Wrap a request's content, signed unless anonymous."""
        if not self._delegations:
            return Envelope.sign(content, self._key)
        return Envelope.sign(
            content,
            self._key,
            delegations=self._delegations,
            sender_pubkey=self._sender_public_key,
        )

    def delegate_to(
        self,
        public_key_der: bytes,
        *,
        expiration: int,
        targets: Sequence[Principal] | None = None,
        queries_only: bool = False,
    ) -> tuple[SignedDelegation, ...]:
        """Give another key leave to sign in this identity's place.

        Args:
            public_key_der: The other key, in DER form.
            expiration: When the leave ends, in nanoseconds since 1970.
            targets: The canisters it is for; ``None`` for all. State reads that poll calls to other
                canisters fail too.
            queries_only: Whether update calls are left out.

        Returns:
            The whole chain, for ``Identity(key, chain, identity.public_key_der)``.

        Raises:
            IdentityError: If this is the anonymous identity.
        """
        delegation = Delegation(
            public_key_der,
            expiration,
            None if targets is None else tuple(targets),
            "queries" if queries_only else None,
        )
        link = SignedDelegation.sign(delegation, self._signer("delegate"))
        return (*self._delegations, link)

    def session(
        self,
        *,
        expiration: int,
        targets: Sequence[Principal] | None = None,
        queries_only: bool = False,
    ) -> Self:
        """A new random Ed25519 key that signs in this identity's place; see ``delegate_to``."""
        key = Ed25519Key.generate()
        chain = self.delegate_to(
            key.public_key_der, expiration=expiration, targets=targets, queries_only=queries_only
        )
        return type(self)(key, chain, self._sender_public_key)

    def delegations_to_json(self) -> str:
        """This identity's chain in the form that the IC's tools exchange; it holds no secret.

        Raises:
            IdentityError: If this identity signs for itself.
        """
        if not self._delegations:
            raise IdentityError("this identity signs for itself and has no delegations")
        return chain_to_json(self._sender_public_key, self._delegations)

    def to_pem(self, *, password: bytes | None = None) -> bytes:
        """The private key as PKCS #8 PEM, encrypted where a password is given.

        Raises:
            IdentityError: If there is no private key here to write.
        """
        key = self._signer("write")
        if not isinstance(key, Ed25519Key | ECDSAKey):
            raise IdentityError("this identity's key is kept elsewhere and cannot be written")
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password)
        return key.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def save_pem(self, path: str | os.PathLike[str], *, password: bytes | None = None) -> None:
        """Write the private key to a new file that only its owner can read.

        Raises:
            IdentityError: If the file exists already or cannot be written.
        """
        data = self.to_pem(password=password)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise IdentityError(
                f"{path} exists already and is not overwritten",
                hint="a lost key cannot be had again: move the old file away first",
            ) from None
        except OSError as cause:
            raise IdentityError(f"{path} cannot be written: {cause.strerror}") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)

    def _signer(self, action: str) -> SigningKey:
        if self._key is None:
            raise IdentityError(
                f"the anonymous identity cannot {action}", hint="use an identity with a key"
            )
        return self._key

    def __repr__(self) -> str:
        place = f" through {len(self._delegations)} delegations" if self._delegations else ""
        return f"<Identity {self._principal}{place}>"

    def __reduce__(self) -> Any:
        # A pickle would carry the private key to wherever pickles go.
        raise TypeError("an identity is not pickled; write its key with save_pem")
