"""Keys that other tools made are read, and give the principals that those tools say.

The PEM texts, the list and the chain are what icp-cli 1.5.0 wrote for the standard test phrase and
the password ``correct horse``; the principals are those it printed.
"""

import json
import sys
import types

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from bridge import wire
from bridge.agent import Identity, dfx_identity, icp_identity
from bridge.agent.keystore import dfx_root, icp_root
from bridge.agent.seed_phrase import derive_key, seed_of
from bridge.errors import IdentityError
from bridge.principal import Principal

PHRASE = "abandon " * 11 + "about"
PASSWORD = b"correct horse"
PRINCIPALS = {
    "ed25519": "fcxk5-23hrp-d3ey5-sniqw-3lagn-fbx3h-cgnml-4dwkg-3dpmp-tyoqq-zae",
    "p256": "dwvjk-bkcs7-tyllp-z4urn-peru5-sneoy-o5cwp-mpoj3-bmozp-2b33j-7ae",
    "secp256k1": "tgzar-4lpln-fq34h-6hxo4-wlm3x-6g3or-6hxvr-d6jbw-ooh2b-lzsw4-aqe",
}
CHAIN = {
    "publicKey": "302a300506032b6570032100217b9b43bd20b9e600c2d2e2e5752c2581328cd5ccd084b2c795dcc1"
    "81bd6bc8",
    "delegations": [
        {
            "signature": "c1a79a3e5514221f69101091615869532670a2bdbf0cd305b3f3608891643f5d9e2d32eb"
            "5926409d302d1c470e38eb119908c560ff1f3bb4c78fa91287a9970d",
            "delegation": {
                "pubkey": "3059301306072a8648ce3d020106082a8648ce3d03010703420004d5417faa02b85df55f"
                "9626a97137de2ff86d4bfc7ce4f49d299f41bc2a68d31b52df7746ba2dbf244eb7867fb8add55b98ab"
                "542b08e70014fb4ce52b9cc2be38",
                "expiration": "18f5ecdac9037499",
                "targets": None,
            },
        }
    ],
}
PEMS = {
    "s-ed25519": """\
-----BEGIN PRIVATE KEY-----
MFECAQEwBQYDK2VwBCIEIP/BGgBxazk1NEv1olj0QGcse/NmyTLxqKXbCrdiAJqy
gSEAIXubQ70gueYAwtLi5XUsJYEyjNXM0ISyx5XcwYG9a8g=
-----END PRIVATE KEY-----
""",
    "s-p256": """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgNie3yF4GsOQWWj1C
AveNRjOHf2sxDujrq4Bl4eZsCwShRANCAARg10bA/X5/OSv1LeRAWueaZAOYmKNx
Q1n2gS0umQWRlYfyyY7LOxgvDaZ+Bi5BlBh3KjvSvsWvx9fj7xP7YFXL
-----END PRIVATE KEY-----
""",
    "s-secp256k1": """\
-----BEGIN PRIVATE KEY-----
MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQg9gFRxAnLNX4ApCZ60s+g
AB/0Me9ZERENZRsef8A0UayhRANCAASr22DrfJZAhBTR4lHUHKDs+JpFQXaMun7t
gXTFMkbVjFYDGyM4i8fSdbSya/KRN73Bga5Na29k8w241L/ZIiwn
-----END PRIVATE KEY-----
""",
    "l-ed25519": """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIG8MFgGCSqGSIb3DQEFDTBLMCoGCSsGAQQB2kcECzAdBBBgTMDdSrSH0PHfxBtv
M+oHAgMCAAACAQgCAQEwHQYJYIZIAWUDBAEqBBBwxtXC+lIoO4kYPw9aKn4RBGD3
+pCjjAD8I84MbwNdC+P6ZzJcUdhrOdS41hfz0P5rA5+IAoLIjOJ7ee93ZGUD7Zgv
Br8e1fnFxQIsZq7NuCWEcMSLsPxCGlCDZQ53/QOem1JphQmwMA2DcG4Ow6xqIcg=
-----END ENCRYPTED PRIVATE KEY-----
""",
    "l-p256": """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHtMFgGCSqGSIb3DQEFDTBLMCoGCSsGAQQB2kcECzAdBBDt1rYs2j6iT3f4dbYI
67udAgMCAAACAQgCAQEwHQYJYIZIAWUDBAEqBBAiuy6EYqy1cd4LlZVY7tYZBIGQ
TfRzdRUznmVwRzKtU7qFT14/zCKWoGpoDE/rMbaRtiCOcPzM8rNchIvBpAy6cRAC
V0WA4bv4g6cI9uFcEBPXZo3Nyxd6v/xjJVy7IwNDLNqoLLwwkYv+Gjht/TTpwMyl
sNTfUXAfqfPCG0q1rMcn43nRCqDIPBsbV4kL47h077OVEAcogiWMGyOz9oIHcCP7
-----END ENCRYPTED PRIVATE KEY-----
""",
    "l-secp256k1": """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHtMFgGCSqGSIb3DQEFDTBLMCoGCSsGAQQB2kcECzAdBBDTmOy4cnMkt7zMlwOV
tMRMAgMCAAACAQgCAQEwHQYJYIZIAWUDBAEqBBBfxfsDuwxYA1OzDdlXltwbBIGQ
7bbzgOizryutsaKrW6+Vl0dxQ7JZoJe6GHLjMODIksLuE3w4bcVXPGl8JO5BanfQ
0AbTM9Nr3Sv9j9zUGDQR+4ptBcvHU3+Qrf9foooKINv6vNcmambrQIUMPbzvj7J7
bPkDWrxeOtpBzp/V4BrBi4oMNl3IIXT4lMxZhBa1BC5NFk7AczYtnoL9s5ZchC4d
-----END ENCRYPTED PRIVATE KEY-----
""",
    "sess": """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglLUpMZBhLaJklDCx
JXtnBBiZRUw+ToFJ5vyP8G+MMY6hRANCAATVQX+qArhd9V+WJqlxN94v+G1L/Hzk
9J0pn0G8KmjTG1Lfd0a6Lb8kTreGf7it1VuYq1QrCOcAFPtM5Sucwr44
-----END PRIVATE KEY-----
""",
}


def write_private(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)


@pytest.fixture
def icp(tmp_path):
    """An icp-cli home as the tool left it, but with its key files made private."""
    entries = {"anonymous": {"kind": "anonymous"}}
    for name, pem in PEMS.items():
        write_private(tmp_path / "identity" / "keys" / f"{name}.pem", pem)
        if name == "sess":
            continue
        state, _, algorithm = name.partition("-")
        entries[name] = {
            "kind": "pem",
            "format": "pbes2" if state == "l" else "plaintext",
            "algorithm": algorithm,
            "principal": PRINCIPALS[algorithm],
        }
    entries["sess"] = {
        "kind": "delegation",
        "algorithm": "prime256v1",
        "principal": PRINCIPALS["ed25519"],
        "storage": {"kind": "pem", "format": "plaintext"},
    }
    listed = {"v": 1, "identities": entries}
    (tmp_path / "identity" / "identity_list.json").write_text(json.dumps(listed))
    write_private(tmp_path / "identity" / "delegations" / "sess.json", json.dumps(CHAIN))
    return tmp_path


# --- Seed phrases -------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", PRINCIPALS)
def test_a_phrase_gives_the_principal_that_the_ic_s_tool_gives(curve):
    assert str(Identity.from_seed_phrase(PHRASE, curve=curve).principal) == PRINCIPALS[curve]


def test_a_phrase_gives_the_principal_that_wallets_publish_for_it():
    identity = Identity.from_seed_phrase("peacock  " * 12 + "\n")
    expected = "wnkwv-wdqb5-7wlzr-azfpw-5e5n5-dyxrf-uug7x-qxb55-mkmpa-5jqik-tqe"
    assert str(identity.principal) == expected
    other = Identity.from_seed_phrase("peacock " * 12, passphrase="more")
    assert other.principal != identity.principal


# SLIP-0010, test vector 1.
SEED = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
SLIP_10 = [
    ("secp256k1", "m", "e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35"),
    ("secp256k1", "m/0h", "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"),
    ("secp256k1", "m/0'/1", "3c6cb8d0f6a264c91ea8b5030fadaa8e538b020f0a387421a12de9319dc93368"),
    ("p256", "m", "612091aaa12e22dd2abef664f8a01a82cae99ad7441b7ef8110424915c268bc2"),
    ("p256", "m/0H", "6939694369114c67917a182c59ddb8cafc3004e63ca5d3b84403ba8613debc0c"),
    ("p256", "m/0'/1", "284e9d38d07d21e4e281b645089a94f4cf5a5a81369acf151a1c3a57f18b2129"),
    ("ed25519", "m", "2b4be7f19ee27bbf30c667b642d5f4aa69fd169872f8fc3059c08ebae2eb19e7"),
    ("ed25519", "m/0'", "68e0fe46dfb67e368c75379acec591dad19df3cde26e63b93a8e704f1dade7a3"),
]


@pytest.mark.parametrize(("curve", "path", "expected"), SLIP_10)
def test_derivation_follows_the_standard_s_vectors(curve, path, expected):
    key = derive_key(SEED, curve, path).private_key
    if curve == "ed25519":
        assert key.private_bytes_raw().hex() == expected
    else:
        assert f"{key.private_numbers().private_value:064x}" == expected


def test_a_derivation_that_misses_the_curve_s_order_goes_on_as_the_standard_says():
    # SLIP-0010, "Test derivation retry for nist256p1".
    key = derive_key(SEED, "p256", "m/28578'/33941").private_key
    expected = "092154eed4af83e078ff9b84322015aefe5769e31270f62c3f66c33888335f3a"
    assert f"{key.private_numbers().private_value:064x}" == expected
    seed = bytes.fromhex("a7305bc8df8d0951f0cb224c0e95d7707cbdf2c6ce7e8d481fec69c7ff5e9446")
    key = derive_key(seed, "p256", "m").private_key
    expected = "3b8c18469a4634517d6d0b65448f8e6c62091b45540a1743c5846be55d47d88f"
    assert f"{key.private_numbers().private_value:064x}" == expected


def test_odd_phrases_and_paths_are_refused():
    for phrase in ("", "one", "a " * 13):
        with pytest.raises(IdentityError, match="12, 15, 18, 21 or 24 words"):
            seed_of(phrase)
    for path in ("", "44'/223'", "m/x", "m//1", "m/-1"):
        with pytest.raises(IdentityError, match=r"path|curve"):
            derive_key(SEED, "secp256k1", path or "n")
    with pytest.raises(IdentityError, match="out of range"):
        derive_key(SEED, "secp256k1", "m/2147483648")
    with pytest.raises(IdentityError, match="not hardened"):
        derive_key(SEED, "ed25519", "m/44'/223'/0'/0/0")
    with pytest.raises(IdentityError, match="no curve"):
        derive_key(SEED, "ed448")


# --- icp-cli ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", PRINCIPALS)
def test_icp_cli_s_plain_and_locked_keys_are_read(icp, algorithm):
    plain = icp_identity(f"s-{algorithm}", root=icp)
    locked = icp_identity(f"l-{algorithm}", password=lambda: PASSWORD, root=icp)
    assert str(plain.principal) == str(locked.principal) == PRINCIPALS[algorithm]
    with pytest.raises(IdentityError, match="no password"):
        icp_identity(f"l-{algorithm}", root=icp)


def test_a_wrong_password_is_said_to_be_wrong(icp):
    with pytest.raises(IdentityError, match="wrong password"):
        icp_identity("l-ed25519", password=b"wrong", root=icp)


def test_icp_cli_s_delegated_identity_signs_for_its_owner(icp):
    session = icp_identity("sess", root=icp)
    assert str(session.principal) == PRINCIPALS["ed25519"]
    now = int(CHAIN["delegations"][0]["delegation"]["expiration"], 16) - 60_000_000_000
    request = wire.CallRequest(session.principal, now, Principal(b"\1\1"), "m", b"")
    wire.verify_envelope(session.sign_request(request.content()), now=now)


def test_icp_cli_s_default_is_the_default(icp):
    assert icp_identity(root=icp).is_anonymous
    assert icp_identity("anonymous", root=icp).is_anonymous
    chosen = icp / "identity" / "identity_defaults.json"
    chosen.write_text('{"v": 1, "default": "s-p256"}')
    assert str(icp_identity(root=icp).principal) == PRINCIPALS["p256"]
    chosen.write_text('{"v": 2, "default": "s-p256"}')
    with pytest.raises(IdentityError, match="version 1 is understood"):
        icp_identity(root=icp)


def test_a_key_file_as_icp_cli_leaves_it_is_refused_with_the_command_that_mends_it(icp):
    path = icp / "identity" / "keys" / "s-p256.pem"
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="may be read by others") as caught:
        icp_identity("s-p256", root=icp)
    assert caught.value.hint == f"run: chmod 600 {path}"


def test_what_icp_cli_does_not_have_is_refused_by_name(icp, tmp_path):
    with pytest.raises(IdentityError, match="no identity 'nobody'"):
        icp_identity("nobody", root=icp)
    with pytest.raises(IdentityError, match="no identity 'nobody'"):
        icp_identity("nobody", root=tmp_path / "empty")
    path = icp / "identity" / "identity_list.json"
    raw = json.loads(path.read_text())
    raw["identities"] |= {
        "key": {"kind": "hsm", "module": "x", "slot": 0, "key-id": "1"},
        "../../etc": {"kind": "pem", "format": "plaintext"},
        "swapped": {**raw["identities"]["s-p256"], "principal": PRINCIPALS["ed25519"]},
        "gone": {"kind": "pem", "format": "plaintext"},
    }
    path.write_text(json.dumps(raw))
    write_private(icp / "identity" / "keys" / "swapped.pem", PEMS["s-p256"])
    for name, message in {
        "key": "kind 'hsm'",
        "../../etc": "no name",
        "swapped": "and the list says",
        "gone": "cannot be read",
    }.items():
        with pytest.raises(IdentityError, match=message):
            icp_identity(name, root=icp)
    path.write_text("{")
    with pytest.raises(IdentityError, match="not JSON"):
        icp_identity("s-p256", root=icp)


@pytest.fixture
def ring(monkeypatch):
    """A keyring package with a store of its own."""
    module = types.ModuleType("keyring")
    module.secrets = {}
    module.get_password = lambda service, user: module.secrets.get((service, user))
    monkeypatch.setitem(sys.modules, "keyring", module)
    return module


def test_keys_in_the_system_s_keyring_are_read(icp, ring, tmp_path):
    path = icp / "identity" / "identity_list.json"
    raw = json.loads(path.read_text())
    raw["identities"]["ringed"] = {"kind": "keyring", "principal": PRINCIPALS["ed25519"]}
    path.write_text(json.dumps(raw))
    with pytest.raises(IdentityError, match="has no key of 'ringed'"):
        icp_identity("ringed", root=icp)
    ring.secrets["icp-cli", "ringed"] = PEMS["s-ed25519"]
    assert str(icp_identity("ringed", root=icp).principal) == PRINCIPALS["ed25519"]

    folder = tmp_path / "dfx" / "identity" / "ringed"
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text('{"keyring_identity_suffix": "ringed"}')
    entry = ("internet_computer_identities", "internet_computer_identity_ringed")
    ring.secrets[entry] = PEMS["s-secp256k1"].encode().hex()
    identity = dfx_identity("ringed", root=tmp_path / "dfx")
    assert str(identity.principal) == PRINCIPALS["secp256k1"]
    ring.secrets[entry] = "not hexadecimal"
    with pytest.raises(IdentityError, match="not what dfx writes"):
        dfx_identity("ringed", root=tmp_path / "dfx")


def test_a_missing_or_broken_keyring_says_how_to_export(icp, monkeypatch, ring):
    path = icp / "identity" / "identity_list.json"
    raw = json.loads(path.read_text())
    raw["identities"]["ringed"] = {"kind": "keyring"}
    path.write_text(json.dumps(raw))

    def broken(service, user):
        raise RuntimeError("locked")

    ring.get_password = broken
    with pytest.raises(IdentityError, match="RuntimeError") as caught:
        icp_identity("ringed", root=icp)
    assert "icp identity export ringed" in caught.value.hint
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(IdentityError, match="package is missing"):
        icp_identity("ringed", root=icp)


# --- dfx ----------------------------------------------------------------------------------------


@pytest.fixture
def dfx(tmp_path):
    root = tmp_path / ".config" / "dfx"
    write_private(root / "identity" / "default" / "identity.pem", PEMS["s-secp256k1"])
    (root / "identity" / "default" / "identity.pem").chmod(0o400)
    locked = root / "identity" / "locked"
    salt, nonce = b"sixteen byte sal", bytes(range(12))
    key = Argon2id(salt=salt, length=32, iterations=3, lanes=1, memory_cost=64_000)
    data = AESGCM(key.derive(PASSWORD)).encrypt(nonce, PEMS["s-ed25519"].encode(), None)
    write_private(locked / "identity.pem.encrypted", data)
    settings = {"encryption": {"pw_salt": "c2l4dGVlbiBieXRlIHNhbA", "file_nonce": list(nonce)}}
    (locked / "identity.json").write_text(json.dumps(settings))
    return root


def test_dfx_s_plain_and_locked_keys_are_read(dfx):
    assert str(dfx_identity(root=dfx).principal) == PRINCIPALS["secp256k1"]
    assert dfx_identity("anonymous", root=dfx).is_anonymous
    locked = dfx_identity("locked", password=PASSWORD, root=dfx)
    assert str(locked.principal) == PRINCIPALS["ed25519"]
    (dfx / "identity.json").write_text('{"default": "locked"}')
    with pytest.raises(IdentityError, match="no password"):
        dfx_identity(root=dfx)
    with pytest.raises(IdentityError, match="wrong password"):
        dfx_identity(password=b"wrong", root=dfx)


def test_what_dfx_does_not_have_is_refused_by_name(dfx):
    with pytest.raises(IdentityError, match="no identity 'nobody'"):
        dfx_identity("nobody", root=dfx)
    for name in ("..", "a/b", ""):
        with pytest.raises(IdentityError, match="no name"):
            dfx_identity(name, root=dfx)
    settings = dfx / "identity" / "default" / "identity.json"
    settings.write_text('{"hsm": {"pkcs11_lib_path": "x"}}')
    with pytest.raises(IdentityError, match="hardware"):
        dfx_identity(root=dfx)
    for broken in ("{}", '{"pw_salt": "!", "file_nonce": []}', '{"pw_salt": 1}'):
        (dfx / "identity" / "locked" / "identity.json").write_text(
            '{"encryption": ' + broken.replace("{}", '{"none": 1}') + "}"
        )
        with pytest.raises(IdentityError, match="not what dfx writes"):
            dfx_identity("locked", password=PASSWORD, root=dfx)


def test_stores_are_where_their_tools_and_the_environment_say(tmp_path):
    assert dfx_root({"DFX_CONFIG_ROOT": str(tmp_path)}) == tmp_path / ".config" / "dfx"
    assert dfx_root({}).parts[-2:] == (".config", "dfx")
    assert icp_root({"ICP_HOME": str(tmp_path)}) == tmp_path
    if sys.platform.startswith("linux"):
        assert icp_root({"XDG_DATA_HOME": str(tmp_path)}) == tmp_path / "icp-cli"
        assert icp_root({}).parts[-3:] == (".local", "share", "icp-cli")


# --- PKCS #8 with the public key, and chains as JSON --------------------------------------------


def test_ed25519_keys_in_both_older_forms_are_read():
    seed, public = bytes(range(32)), Identity.from_seed(bytes(range(32))).public_key_der[-32:]
    for head, tail in (
        ("3053020101300506032b657004220420", "a123032100"),
        ("3051020101300506032b657004220420", "812100"),
    ):
        der = bytes.fromhex(head) + seed + bytes.fromhex(tail) + public
        assert Identity.from_pem_data(pem_of(der)).public_key_der[-32:] == public
        for broken in (der[:-1], der[:20], der[:14] + b"\x04\x1f" + der[16:], b""):
            with pytest.raises(IdentityError, match="cannot be parsed"):
                Identity.from_pem_data(pem_of(broken))


def pem_of(der: bytes) -> bytes:
    import base64

    body = base64.encodebytes(der)
    return b"-----BEGIN PRIVATE KEY-----\n" + body + b"-----END PRIVATE KEY-----\n"


def test_a_chain_of_delegations_comes_back_through_json():
    owner = Identity.generate()
    key = Identity.generate("p256")
    limited = Identity.from_delegation(
        key,
        Identity(
            key._key,
            owner.delegate_to(
                key.public_key_der,
                expiration=10**18,
                targets=[Principal(b"\1\1")],
                queries_only=True,
            ),
            owner.public_key_der,
        ).delegations_to_json(),
    )
    assert limited.principal == owner.principal
    delegation = limited.delegations[0].delegation
    assert delegation.targets == (Principal(b"\1\1"),)
    assert delegation.permissions == "queries"
    with pytest.raises(IdentityError, match="to another key"):
        Identity.from_delegation(Identity.generate(), limited.delegations_to_json())
    with pytest.raises(IdentityError, match="signs for itself"):
        owner.delegations_to_json()
    odd = '{"publicKey": "zz", "delegations": []}'
    for junk in ("", "[]", "{}", odd, "1", "[" * 100_000):
        with pytest.raises(IdentityError, match="not a chain"):
            Identity.from_delegation(key, junk)
