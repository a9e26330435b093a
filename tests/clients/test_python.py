"""The other Python agents against the replica; where one has a defect, its test says so."""

import hashlib
import itertools
import json
import time

import pytest

from bridge import contracts
from bridge.agent import Identity
from bridge.replica.system_canisters import CYCLES_LEDGER

_names = itertools.count(1)
SEED = "22" * 32


def delegation():
    """A key, and the chain by which it signs for another, as the tools exchange it."""
    owner, session = Identity.from_seed(b"\3" * 32), Identity.from_seed(bytes.fromhex(SEED))
    until = time.time_ns() + 600 * 10**9
    given = Identity.from_delegation(
        session,
        json.dumps(
            {
                "publicKey": owner.public_key_der.hex(),
                "delegations": [
                    {
                        "delegation": {
                            "pubkey": one.delegation.public_key.hex(),
                            "expiration": f"{one.delegation.expiration:x}",
                        },
                        "signature": one.signature.hex(),
                    }
                    for one in owner.delegate_to(session.public_key_der, expiration=until)
                ],
            }
        ),
    )
    return json.loads(given.delegations_to_json())


@pytest.fixture
def ic_py_agent(ic_py, replica):
    def connect(who):
        name = f"agent {next(_names)}"
        return name, ic_py("connect", name=name, url=replica.url, who=who)

    return connect


@pytest.fixture
def core_agent(icp_py_core):
    def connect(target, who):
        name = f"agent {next(_names)}"
        key = target.root_key.hex()
        return name, icp_py_core("connect", name=name, url=target.url, who=who, root_key=key)

    return connect


def of(agent, canister, arg):
    return {"agent": agent, "canister": canister, "arg": bytes(arg).hex()}


# --- Both ---------------------------------------------------------------------------------------


def reads_state(client):
    """The case of one client, counted as its own."""
    covers = pytest.mark.covers("read_state: module hash and controllers", client=client)
    return pytest.param(client, marks=covers)


@pytest.mark.parametrize("client", [reads_state("icp-py-core"), reads_state("ic-py")])
def test_the_state_of_a_canister_is_read(request, replica, client):
    who = {"kind": "ed25519", "seed": SEED}
    if client == "ic-py":
        agent, _ = request.getfixturevalue("ic_py_agent")(who)
    else:
        agent, _ = request.getfixturevalue("core_agent")(replica, who)
    ask = request.getfixturevalue(client.replace("-", "_"))
    found = ask("state", agent=agent, canister=str(CYCLES_LEDGER))
    wasm = contracts.motoko_canister("cycles_ledger")
    assert found["hash"] == hashlib.sha256(wasm).hexdigest()
    assert found["controllers"] == ["r7inp-6aaaa-aaaaa-aaabq-cai"]
    assert found["time"] > 1.7e18


# --- icp-py-core --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "p256"])
@pytest.mark.covers("Ed25519", client="icp-py-core")
@pytest.mark.covers("secp256k1", client="icp-py-core")
@pytest.mark.covers("P-256", client="icp-py-core")
@pytest.mark.covers("query", client="icp-py-core")
@pytest.mark.covers("call: answered at once with its certificate (v4)", client="icp-py-core")
def test_icp_py_core_calls_and_queries(icp_py_core, core_agent, replica, canister, whoami, kind):
    agent, principal = core_agent(replica, {"kind": kind, "seed": SEED})
    order = of(agent, canister, whoami)
    assert icp_py_core("update", method="update", **order) == [principal]
    assert icp_py_core("query", method="query", **order) == [principal]


@pytest.mark.covers("delegation", client="icp-py-core")
def test_icp_py_core_signs_by_delegation(icp_py_core, core_agent, replica, canister, whoami):
    chain = delegation()
    for one in chain["delegations"]:
        # It reads a number as decimal that the other tools write in hexadecimal digits.
        one["delegation"]["expiration"] = "0x" + one["delegation"]["expiration"]
    agent, principal = core_agent(replica, {"kind": "delegated", "seed": SEED, "chain": chain})
    assert principal == str(Identity.from_seed(b"\3" * 32).principal)
    order = of(agent, canister, whoami)
    assert icp_py_core("update", method="update", **order) == [principal]


@pytest.mark.covers("call: 202, then polling (v4)", client="icp-py-core")
def test_icp_py_core_polls_where_the_answer_is_not_there_at_once(
    icp_py_core, core_agent, delayed, universal, whoami
):
    canister = delayed.deploy(universal)
    agent, principal = core_agent(delayed, {"kind": "ed25519", "seed": SEED})
    order = of(agent, canister, whoami)
    assert icp_py_core("update", method="update", **order) == [principal]


@pytest.mark.covers("rejects: code, text, error code", client="icp-py-core")
def test_icp_py_core_tells_rejects(icp_py_core, core_agent, replica, canister, program):
    agent, _ = core_agent(replica, {"kind": "ed25519", "seed": SEED})
    order = of(agent, canister, program().msg_reject(b"not today"))
    for method in ("update", "query"):
        refused = icp_py_core.error(method, method=method, **order)
        assert refused.startswith("ReplicaReject")
        assert "not today" in refused


@pytest.mark.covers(
    "certificates, up to the root key",
    client="icp-py-core",
    but="icp-py-core verifies certificates by a package, blst, that no registry carries.",
)
def test_icp_py_core_cannot_verify_certificates_because_its_library_for_it_is_published_nowhere(
    icp_py_core, core_agent, replica, canister, whoami
):
    agent, _ = core_agent(replica, {"kind": "ed25519", "seed": SEED})
    order = of(agent, canister, whoami)
    refused = icp_py_core.error("update", method="update", verify=True, **order)
    assert "blst" in refused


@pytest.mark.covers(
    "query signatures, by a certified node key",
    client="icp-py-core",
    but="icp-py-core wants the signatures as a list, and its CBOR library gives it a tuple.",
)
def test_icp_py_core_finds_no_query_signature_because_its_cbor_library_gives_it_a_tuple(
    icp_py_core, core_agent, replica, canister, whoami
):
    agent, _ = core_agent(replica, {"kind": "ed25519", "seed": SEED})
    order = of(agent, canister, whoami)
    refused = icp_py_core.error("query", method="query", verify=True, **order)
    assert refused.startswith("MissingSignature")


# --- ic-py --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1"])
@pytest.mark.covers("Ed25519", client="ic-py")
@pytest.mark.covers("secp256k1", client="ic-py")
@pytest.mark.covers("query", client="ic-py")
@pytest.mark.covers("call: asynchronous, then polling (v2)", client="ic-py")
def test_ic_py_calls_polls_and_queries(ic_py, ic_py_agent, canister, whoami, kind):
    agent, principal = ic_py_agent({"kind": kind, "seed": SEED})
    order = of(agent, canister, whoami)
    assert ic_py("update", method="update", **order) == [principal]
    assert ic_py("query", method="query", **order) == [principal]


@pytest.mark.covers("delegation", client="ic-py")
def test_ic_py_signs_by_delegation(ic_py, ic_py_agent, canister, whoami):
    agent, principal = ic_py_agent({"kind": "delegated", "seed": SEED, "chain": delegation()})
    assert principal == str(Identity.from_seed(b"\3" * 32).principal)
    assert ic_py("update", method="update", **of(agent, canister, whoami)) == [principal]


@pytest.mark.covers(
    "rejects: code, text, error code",
    client="ic-py",
    but="ic-py tells rejected updates, but returns a rejected query's text as if it were a value.",
)
def test_ic_py_tells_rejected_updates_but_returns_a_rejected_query_as_if_it_were_a_value(
    ic_py, ic_py_agent, canister, program
):
    agent, _ = ic_py_agent({"kind": "ed25519", "seed": SEED})
    order = of(agent, canister, program().msg_reject(b"not today"))
    assert "Rejected: not today" in ic_py.error("update", method="update", **order)
    assert ic_py("query", method="query", **order) == {"text": "not today"}


@pytest.mark.covers(
    "nothing is believed under another root key",
    client="ic-py",
    but="ic-py verifies no certificate.",
)
@pytest.mark.covers(
    "certificates, up to the root key", client="ic-py", but="ic-py verifies no certificate."
)
def test_ic_py_believes_certificates_of_any_root(ic_py, replica, canister, whoami):
    name = f"agent {next(_names)}"
    who = {"kind": "ed25519", "seed": SEED}
    other = "00" * 133
    principal = ic_py("connect", name=name, url=replica.url, who=who, root_key=other)
    assert ic_py("update", method="update", **of(name, canister, whoami)) == [principal]


@pytest.mark.covers(
    "refusals: malformed, forged, misaddressed requests",
    client="ic-py",
    but="ic-py takes no notice of a refusal, and polls for the outcome until its time is up.",
)
def test_ic_py_polls_for_a_request_that_was_refused(ic_py, ic_py_agent, canister, program):
    agent, _ = ic_py_agent({"kind": "ed25519", "seed": SEED})
    order = of(agent, canister, program().reply(b""))
    given_up = ic_py.error("update", method="update", effective="aaaaa-aa", timeout=1, **order)
    assert "Timeout" in given_up
