"""Identities: keys from and to PEM, files that others may read, what is never shown."""

import pickle
import stat
import traceback

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bridge import wire
from bridge.agent import Agent, Identity, as_identity, as_principal
from bridge.errors import IdentityError, PrincipalError
from bridge.principal import Principal
from bridge.wire.keys import verify_signature

KINDS = ["ed25519", "secp256k1", "p256"]


@pytest.fixture
def private(tmp_path):
    def write(data: bytes, mode: int = 0o600):
        path = tmp_path / "key.pem"
        path.write_bytes(data)
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("password", [None, b"open sesame"])
def test_an_identity_is_saved_for_its_owner_only_and_comes_back(tmp_path, kind, password):
    identity = Identity.generate(kind)
    path = tmp_path / "me.pem"
    identity.save_pem(path, password=password)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Identity.from_pem(path, password=password)
    assert again.principal == identity.principal
    verify_signature(identity.public_key_der, b"message", again.sign(b"message"))
    with pytest.raises(IdentityError, match="not overwritten"):
        identity.save_pem(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(private, mode):
    path = private(Identity.generate().to_pem(), mode)
    with pytest.raises(IdentityError, match="read by others") as caught:
        Identity.from_pem(path)
    assert caught.value.hint == f"run: chmod 600 {path}"
    path.chmod(0o600)
    Identity.from_pem(path)


def test_what_holds_no_usable_key_is_refused_by_its_name(private, tmp_path):
    other = rsa.generate_private_key(65537, 2048)
    curve = ec.generate_private_key(ec.SECP384R1())

    def pem(key) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    cases = {
        b"": "no private key in PEM form",
        b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n": "no private key",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n": "cannot be parsed",
        pem(other): "RSA",
        pem(curve): "secp384r1",
    }
    for data, message in cases.items():
        with pytest.raises(IdentityError, match=message):
            Identity.from_pem(private(data))
    with pytest.raises(IdentityError, match="cannot be read: No such file"):
        Identity.from_pem(tmp_path / "missing.pem")
    with pytest.raises(IdentityError, match="cannot be read"):
        Identity.from_pem(tmp_path)


def test_encrypted_keys_need_the_right_password_and_plain_ones_none(private):
    path = private(Identity.generate().to_pem(password=b"right"))
    with pytest.raises(IdentityError, match="no password was given"):
        Identity.from_pem(path)
    with pytest.raises(IdentityError, match="wrong password"):
        Identity.from_pem(path, password=b"wrong")
    with pytest.raises(IdentityError, match="is not encrypted"):
        Identity.from_pem(private(Identity.generate().to_pem()), password=b"right")


def test_keys_in_the_forms_of_other_tools_are_read():
    curve = ec.generate_private_key(ec.SECP256K1())
    sec1 = curve.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    parameters = b"-----BEGIN EC PARAMETERS-----\nBgUrgQQACg==\n-----END EC PARAMETERS-----\n"
    for data in (sec1, parameters + sec1):
        identity = Identity.from_pem_data(data)
        assert identity.public_key_der == curve.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def test_a_known_seed_has_its_known_principal():
    # RFC 8032, section 7.1, test 1: the private key, and the public key it must have.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    identity = Identity.from_seed(seed)
    assert identity.public_key_der[-32:] == public
    assert identity.principal == Principal.self_authenticating(identity.public_key_der)
    with pytest.raises(IdentityError, match="32 bytes"):
        Identity.from_seed(seed[1:])


def test_a_private_key_is_nowhere_to_be_seen(private):
    seed = b"\x42" * 32
    identity = Identity.from_seed(seed)
    agent_text = repr(identity) + str(identity) + repr(vars(type(identity)))
    assert seed.hex() not in agent_text
    assert str(identity.principal) in repr(identity)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(identity)
    data = identity.to_pem()
    secret = data.splitlines()[1][-20:].decode()
    broken = data.replace(b"MC4", b"MC5")
    try:
        Identity.from_pem(private(broken))
    except IdentityError as error:
        shown = "".join(traceback.format_exception(error, chain=True))
        assert secret not in shown
    else:
        pytest.fail("the broken key was read")


def test_the_anonymous_identity_cannot_sign_or_delegate():
    anonymous = Identity.anonymous()
    assert anonymous.principal == Principal.anonymous()
    for act in (
        lambda: anonymous.sign(b""),
        anonymous.to_pem,
        lambda: anonymous.delegate_to(b"", expiration=1),
    ):
        with pytest.raises(IdentityError, match="anonymous identity cannot"):
            act()
    with pytest.raises(IdentityError, match="no kind of key"):
        Identity.generate("rsa")


def test_sessions_of_sessions_sign_for_the_first():
    owner = Identity.generate()
    now = 10**18
    first = owner.session(expiration=now)
    second = first.session(expiration=now, targets=[Principal(b"\1\1")])
    assert second.principal == owner.principal
    request = wire.CallRequest(owner.principal, now, Principal(b"\1\1"), "m", b"")
    envelope = second.sign_request(request.content())
    assert wire.verify_envelope(envelope, now=now).targets == {Principal(b"\1\1")}


def test_a_delegation_needs_its_key_and_its_origin():
    owner, session = Identity.generate(), wire.keys.Ed25519Key.generate()
    chain = owner.delegate_to(session.public_key_der, expiration=1)
    Identity(session, chain, owner.public_key_der)
    with pytest.raises(IdentityError, match="to another key"):
        Identity(wire.keys.Ed25519Key.generate(), chain, owner.public_key_der)
    with pytest.raises(IdentityError, match="belong together"):
        Identity(session, chain)
    with pytest.raises(IdentityError, match="no key to delegate"):
        Identity(None, chain)


# --- Other libraries' objects -------------------------------------------------------------------


class TheirPrincipal:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    @property
    def bytes(self) -> bytes:
        return self._raw


class TheirIdentity:
    """Shaped as ic-py's."""

    def __init__(self, key, sender=None) -> None:
        self.key = key
        self.who = sender

    def sender(self):
        if self.who is not None:
            return self.who
        return TheirPrincipal(Principal.self_authenticating(self.key.public_key_der).raw)

    def sign(self, msg: bytes):
        if self.key is None:
            return None, None
        return self.key.public_key_der, self.key.sign(msg)


async def test_ic_py_s_identities_and_principals_are_accepted(connect, replica, canister):
    key = wire.keys.Ed25519Key.generate()
    theirs = TheirPrincipal(canister.raw)
    async with connect(TheirIdentity(key)) as agent:
        assert agent.principal == Principal.self_authenticating(key.public_key_der)
        for name in (theirs, str(canister)):
            assert await agent.update(name, "greet")
            assert await agent.query(name, "peek")
            assert await agent.module_hash(name)


class TheirDelegatedIdentity(TheirIdentity):
    def __init__(self, key, chain, owner_key) -> None:
        super().__init__(key, TheirPrincipal(Principal.self_authenticating(owner_key).raw))
        self.delegations = [link.to_raw() for link in chain]
        self.der_pubkey = owner_key


async def test_ic_py_s_delegated_identities_are_accepted(connect, replica, canister):
    owner, key = Identity.generate(), wire.keys.Ed25519Key.generate()
    chain = owner.delegate_to(key.public_key_der, expiration=replica.now + 10**11)
    theirs = TheirDelegatedIdentity(key, chain, owner.public_key_der)
    async with connect(theirs) as agent:
        assert agent.principal == owner.principal
        assert await agent.update(canister, "greet")
    theirs.delegations = [{"delegation": {}}]
    with pytest.raises(IdentityError, match="delegations"):
        as_identity(theirs)
    theirs.delegations = "text"
    with pytest.raises(IdentityError, match="no list of delegations"):
        as_identity(theirs)


def test_odd_identities_and_principals_are_refused():
    key = wire.keys.Ed25519Key.generate()
    assert as_identity(None).is_anonymous
    assert as_identity(TheirIdentity(None, TheirPrincipal(b"\4"))).is_anonymous
    with pytest.raises(IdentityError, match="its key is that of"):
        as_identity(TheirIdentity(key, TheirPrincipal(b"\1\1")))
    with pytest.raises(IdentityError, match="does not return"):
        as_identity(TheirIdentity(None, TheirPrincipal(b"\1\1")))
    for odd in ("text", 7, object()):
        with pytest.raises(IdentityError, match="is not an identity"):
            as_identity(odd)
    for odd in (7, object(), None):
        with pytest.raises(PrincipalError, match="is not a principal"):
            as_principal(odd)
    with pytest.raises(PrincipalError):
        Agent("http://127.0.0.1:1").sign_update("not-a-principal", "greet")
