"""The official JavaScript agent against the replica: it verifies all that it gets by itself."""

import hashlib
import itertools

import pytest

from bridge import candid, contracts, wire
from bridge.principal import Principal
from bridge.replica.management.types import SIGNATURES
from bridge.replica.system_canisters import CYCLES_LEDGER, CYCLES_MINTING_CANISTER

_names = itertools.count(1)
SEED = "11" * 32
IDENTITIES = {
    "Ed25519": {"kind": "ed25519", "seed": SEED},
    "secp256k1": {"kind": "secp256k1", "seed": SEED},
    "P-256": {"kind": "p256"},
    "WebAuthn": {"kind": "webauthn"},
    "a delegation": {"kind": "delegated", "seed": SEED},
    "a chain of twenty delegations": {"kind": "delegated", "seed": SEED, "chain": 20},
}
FEATURES = {
    "a delegation": "delegation",
    "a chain of twenty delegations": "chains of delegations",
}


@pytest.fixture
def connect(javascript):
    """A new agent of the client; its name and its principal."""

    def connect(target, who, root_key=...):
        name = f"agent {next(_names)}"
        key = target.root_key.hex() if root_key is ... else root_key
        principal = javascript("connect", name=name, url=target.url, rootKey=key, who=who)
        return name, principal

    return connect


def principal_in(reply):
    (value,) = candid.decode([candid.PrincipalType], bytes.fromhex(reply))
    return str(value)


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(
            who, id=name, marks=pytest.mark.covers(FEATURES.get(name, name), client="javascript")
        )
        for name, who in IDENTITIES.items()
    ],
)
@pytest.mark.covers("query", client="javascript")
@pytest.mark.covers("call: answered at once with its certificate (v4)", client="javascript")
@pytest.mark.covers("certificates, up to the root key", client="javascript")
@pytest.mark.covers("query signatures, by a certified node key", client="javascript")
def test_update_and_query_know_their_caller(javascript, connect, replica, canister, whoami, who):
    agent, principal = connect(replica, who)
    order = {"agent": agent, "canister": canister, "arg": whoami.hex()}
    done = javascript("update", method="update", **order)
    assert principal_in(done["reply"]) == principal
    assert done["status"] == 200
    assert not done["polled"]
    asked = javascript("query", method="query", **order)
    assert principal_in(asked["reply"]) == principal
    assert asked["signatures"] == 1


@pytest.mark.covers("anonymous", client="javascript")
def test_anonymous_calls_are_taken(javascript, connect, replica, canister, program):
    agent, principal = connect(replica, {"kind": "anonymous"})
    assert principal == "2vxsx-fae"
    said = program().append_blob_of("msg_caller").reply()
    done = javascript(
        "update", agent=agent, canister=canister, method="update", arg=bytes(said).hex()
    )
    assert done["reply"] == "04"


@pytest.mark.covers("call: 202, then polling (v4)", client="javascript")
def test_a_call_is_polled_where_the_answer_is_not_there_at_once(
    javascript, connect, delayed, universal, whoami
):
    canister = delayed.deploy(universal)
    agent, principal = connect(delayed, IDENTITIES["Ed25519"])
    done = javascript("update", agent=agent, canister=canister, method="update", arg=whoami.hex())
    assert done["status"] == 202
    assert done["polled"]
    assert principal_in(done["reply"]) == principal


@pytest.mark.covers("call: asynchronous, then polling (v2)", client="javascript")
def test_an_asynchronous_call_is_polled(javascript, connect, replica, canister, whoami):
    agent, principal = connect(replica, IDENTITIES["secp256k1"])
    done = javascript(
        "update", agent=agent, canister=canister, method="update", arg=whoami.hex(), sync=False
    )
    assert (done["status"], done["polled"]) == (202, True)
    assert principal_in(done["reply"]) == principal


@pytest.mark.covers("rejects: code, text, error code", client="javascript")
def test_rejects_arrive_with_code_and_text(javascript, connect, replica, canister, program):
    agent, _ = connect(replica, IDENTITIES["Ed25519"])
    no = bytes(program().msg_reject(b"not today")).hex()
    order = {"agent": agent, "canister": canister, "arg": no}
    for sync in (True, False):
        refused = javascript.error("update", method="update", sync=sync, **order)
        assert "not today" in refused
        assert "Reject code: 4" in refused
    asked = javascript("query", method="query", **order)
    assert (asked["status"], asked["code"], asked["message"]) == ("rejected", 4, "not today")
    assert asked["signatures"] == 1
    trapped = javascript.error(
        "update", agent=agent, canister=canister, method="update",
        arg=bytes(program().trap(b"broken")).hex(),
    )  # fmt: skip
    assert "broken" in trapped
    assert "IC0503" in trapped
    missing = javascript.error("update", agent=agent, canister=canister, method="none", arg="")
    assert "IC0536" in missing


@pytest.mark.covers("nothing is believed under another root key", client="javascript")
def test_with_another_root_key_nothing_is_believed(javascript, connect, replica, canister, whoami):
    agent, _ = connect(replica, IDENTITIES["Ed25519"], root_key=None)
    order = {"agent": agent, "canister": canister, "arg": whoami.hex()}
    for refused in (
        javascript.error("update", method="update", **order),
        javascript.error("query", method="query", **order),
    ):
        assert "TrustError" in refused or "verif" in refused.lower(), refused


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"targets": ["aaaaa-aa"]}, "do not allow calls to"),
        ({"expired": True}, "expired"),
        ({"permissions": "queries"}, "queries only"),
        ({"chain": 21}, "20"),
    ],
    ids=["another target", "expired", "for queries only", "too long"],
)
@pytest.mark.covers(
    "limits of delegations: targets, expiry, queries only, length", client="javascript"
)
def test_a_delegation_reaches_as_far_as_it_says(
    javascript, connect, replica, canister, whoami, limits, expected
):
    agent, _ = connect(replica, {"kind": "delegated", "seed": SEED, **limits})
    order = {"agent": agent, "canister": canister, "arg": whoami.hex()}
    refused = javascript.error("update", method="update", **order)
    assert "400" in refused or "Bad Request" in refused, refused
    assert expected in refused
    if limits == {"permissions": "queries"}:
        assert javascript("query", method="query", **order)["status"] == "replied"


@pytest.mark.covers(
    "limits of delegations: targets, expiry, queries only, length", client="javascript"
)
def test_a_delegation_to_this_target_works(javascript, connect, replica, canister, whoami):
    who = {"kind": "delegated", "seed": SEED, "targets": [canister, "aaaaa-aa"]}
    agent, principal = connect(replica, who)
    done = javascript("update", agent=agent, canister=canister, method="update", arg=whoami.hex())
    assert principal_in(done["reply"]) == principal


@pytest.mark.covers("read_state: module hash and controllers", client="javascript")
@pytest.mark.covers("read_state: metadata, private ones for controllers", client="javascript")
def test_the_state_of_a_canister_is_read(javascript, connect, replica):
    agent, _ = connect(replica, IDENTITIES["Ed25519"])
    found = javascript(
        "state", agent=agent, canister=str(CYCLES_LEDGER), sections=["candid:service", "none"]
    )
    wasm = contracts.motoko_canister("cycles_ledger")
    assert found["controllers"] == ["r7inp-6aaaa-aaaaa-aaabq-cai"]
    assert "create_canister" in found["sections"][0]
    assert found["sections"][1] is None
    assert found["time"] > 1_700_000_000_000
    assert len(found["nodes"]) == 1
    assert found["hash"] == hashlib.sha256(wasm).hexdigest()


@pytest.mark.covers("read_state: keys, nodes and ranges of the subnet", client="javascript")
def test_the_state_of_the_subnet_is_read(javascript, connect, replica, canister):
    agent, _ = connect(replica, IDENTITIES["Ed25519"])
    found = javascript("subnet", agent=agent, canister=canister)
    ((label, ranges),) = found["shards"]
    ((low, high),) = wire.decode(bytes.fromhex(ranges), "ranges", ValueError)
    assert label == low.hex()
    for one in (Principal.from_text(canister), CYCLES_LEDGER, CYCLES_MINTING_CANISTER):
        assert low <= one.raw <= high
    assert Principal.self_authenticating(bytes.fromhex(found["key"])) == Principal.from_text(
        found["id"]
    )
    assert len(found["nodes"]) == 1


@pytest.mark.covers("read_state: absence is proved", client="javascript")
def test_paths_that_do_not_exist_are_proven_absent(javascript, connect, replica, universal):
    agent, _ = connect(replica, IDENTITIES["Ed25519"])
    canister = replica.deploy(universal)
    raw = Principal.from_text(canister).raw.hex()
    path = [b"canister".hex(), raw, b"metadata".hex(), b"none".hex()]
    assert javascript("read", agent=agent, canister=canister, path=path)["status"] == "Absent"
    path = [b"canister".hex(), raw, b"module_hash".hex()]
    found = javascript("read", agent=agent, canister=canister, path=path)
    assert found["status"] == "Found"
    assert len(found["value"]) == 64


@pytest.mark.covers("create", client="javascript")
@pytest.mark.covers("install, upgrade, reinstall", client="javascript")
@pytest.mark.covers("canister_status", client="javascript")
def test_the_management_canister_is_called(javascript, connect, replica, universal):
    agent, principal = connect(replica, IDENTITIES["Ed25519"])

    def manage(method, effective, **values):
        types = SIGNATURES[method]
        done = javascript(
            "update", agent=agent, canister="aaaaa-aa", method=method, effective=effective,
            arg=types.argument.encode(values).hex(),
        )  # fmt: skip
        reply = bytes.fromhex(done["reply"])
        return types.result.decode(reply)[0] if types.result is not None else None

    wanted = {"amount": 10**13, "settings": None, "specified_id": None}
    made = manage(
        "provisional_create_canister_with_cycles", "bkyz2-fmaaa-aaaaa-qaaaq-cai",
        sender_canister_version=None, **wanted,
    )["canister_id"]  # fmt: skip
    for mode in ("install", "reinstall"):
        manage(
            "install_code", str(made), mode=candid.Case(mode), canister_id=made,
            wasm_module=universal, arg=b"\0", sender_canister_version=None,
        )  # fmt: skip
    status = manage("canister_status", str(made), canister_id=made)
    assert status["module_hash"] == hashlib.sha256(universal).digest()
    assert status["cycles"] == 10**13
    assert [str(one) for one in status["settings"]["controllers"]] == [principal]
