"""The official ``icp`` command against the replica, connected by URL and root key."""

import hashlib
import json
import random
import re
from decimal import Decimal

import pytest

from bridge.agent import Identity
from bridge.replica.system_canisters import USER_CYCLES, USER_E8S, XDR_PERMYRIAD_PER_ICP
from bridge.wire import leb128

FEE = 100_000_000
T = 10**12


@pytest.fixture
def module(tmp_path):
    """A file with a canister's Wasm."""

    def module(name, wasm):
        path = tmp_path / f"{name}.wasm"
        path.write_bytes(wasm)
        return str(path)

    return module


@pytest.fixture
def created(icp):
    """A canister that the command has created."""
    return icp.on("canister", "create", "--detached", "--quiet").strip()


def cycles_of(icp):
    (text,) = re.findall(r"Balance: ([\d_]+) cycles", icp.on("cycles", "balance"))
    return int(text)


def status_of(icp, canister):
    return json.loads(icp.on("canister", "status", canister, "--json"))


# --- Canisters ----------------------------------------------------------------------------------


@pytest.mark.covers("create", client="icp")
@pytest.mark.covers("canisters created by the cycles ledger", client="icp")
@pytest.mark.covers("canister_status", client="icp")
def test_creates_a_canister_and_pays_for_it(icp):
    canister = icp.on("canister", "create", "--detached", "--quiet", "--cycles", "3t").strip()
    assert cycles_of(icp) == USER_CYCLES - 3 * T - FEE
    status = status_of(icp, canister)
    assert status["settings"]["controllers"] == [icp.principal]
    assert int(str(status["cycles"]).replace("_", "")) == 3 * T
    assert status["module_hash"] is None


@pytest.mark.covers("install, upgrade, reinstall", client="icp")
def test_installs_upgrades_and_reinstalls(icp, created, module, universal, program):
    path = module("universal", universal)
    install = ("canister", "install", created, "--wasm", path, "--yes", "--args-format", "hex")
    icp.on(*install, "--args", bytes(program()).hex())
    hash_ = hashlib.sha256(universal).hexdigest()
    assert status_of(icp, created)["module_hash"].removeprefix("0x") == hash_
    call = ("canister", "call", created, "update", "--args-format", "hex", "--output", "hex")
    bump = bytes(program().set_counter(7).reply(b""))
    read = bytes(program().counter().append_number().reply())
    icp.on(*call, bump.hex())
    assert icp.on(*call, read.hex()).split()[-1] == "0700000000000000"
    for mode in ("upgrade", "reinstall"):
        icp.on(*call, bump.hex())
        icp.on(*install, "--mode", mode, "--args", bytes(program()).hex())
        assert icp.on(*call, read.hex()).split()[-1] == "0" * 16
    refused = icp.run(*install, "--mode", "install", "--args", "00", *icp.where)
    assert refused.returncode != 0
    assert "not empty" in refused.stderr


@pytest.mark.covers("install from chunks", client="icp")
def test_installs_a_module_too_large_for_one_message_in_chunks(icp, created, module, universal):
    padding = random.Random(1).randbytes(3_000_000)
    content = b"\3pad" + padding  # a custom section, which the module does not mind
    large = universal + b"\0" + leb128.encode(len(content)) + content
    path = module("large", large)
    icp.on(
        "canister", "install", created, "--wasm", path, "--yes",
        "--args-format", "hex", "--args", "00",
    )  # fmt: skip
    shown = status_of(icp, created)["module_hash"].removeprefix("0x")
    assert shown == hashlib.sha256(large).hexdigest()


@pytest.mark.covers("query", client="icp")
@pytest.mark.covers("call: answered at once with its certificate (v4)", client="icp")
@pytest.mark.covers("certificates, up to the root key", client="icp")
@pytest.mark.covers("read_state: metadata, private ones for controllers", client="icp")
def test_calls_and_queries_by_the_interface_that_the_canister_carries(icp):
    ledger = "um5iw-rqaaa-aaaaq-qaaba-cai"
    asked = f'(record {{ owner = principal "{icp.principal}" }})'
    for more in ((), ("--query",)):
        answer = icp.on("canister", "call", ledger, "icrc1_balance_of", asked, *more)
        assert "1_000_000_000_000_000 : nat" in answer
    interface = icp.on("canister", "metadata", ledger, "candid:service")
    assert "icrc1_balance_of" in interface
    missing = icp.run("canister", "metadata", ledger, "none", *icp.where)
    assert missing.returncode != 0


@pytest.mark.covers("rejects: code, text, error code", client="icp")
def test_tells_rejects(icp, canister, program):
    call = ("canister", "call", canister, "update", "--args-format", "hex")
    for made, expected in (
        (program().msg_reject(b"not today"), "not today"),
        (program().trap(b"broken"), "broken"),
    ):
        for more in ((), ("--query",)):
            order = [*call, bytes(made).hex(), *more]
            order[3] = "query" if more else "update"
            done = icp.run(*order, *icp.where)
            assert done.returncode != 0
            assert expected in done.stderr


@pytest.mark.covers("call: 202, then polling (v4)", client="icp")
def test_polls_where_the_answer_is_not_there_at_once(icp, delayed, universal, whoami):
    canister = delayed.deploy(universal)
    answer = icp(
        "canister", "call", canister, "update", "--args-format", "hex", whoami.hex(),
        "--network", delayed.url, "--root-key", delayed.root_key.hex(),
    )  # fmt: skip
    assert icp.principal in answer


@pytest.mark.covers("read_state: module hash and controllers", client="icp")
def test_reads_the_public_status_from_the_state_tree(icp, canister, universal):
    shown = icp.on("canister", "status", canister, "--public")
    assert hashlib.sha256(universal).hexdigest() in shown
    assert str(Identity.from_seed(b"\5" * 32).principal) in shown


@pytest.mark.covers("settings", client="icp")
def test_changes_settings(icp, created):
    icp.on(
        "canister", "settings", "update", created, "--freezing-threshold", "5d",
        "--compute-allocation", "3", "--log-visibility", "public",
    )  # fmt: skip
    shown = status_of(icp, created)["settings"]
    assert int(str(shown["freezing_threshold"]).replace("_", "")) == 5 * 86_400
    assert int(shown["compute_allocation"]) == 3
    assert "public" in str(shown["log_visibility"]).lower()


@pytest.mark.covers("stop, start, delete", client="icp")
@pytest.mark.covers("cycles: deposit by a canister", client="icp")
def test_stops_starts_and_deletes_and_gets_the_cycles_back(icp, created):
    icp.on("canister", "stop", created)
    assert status_of(icp, created)["status"].lower() == "stopped"
    icp.on("canister", "start", created)
    assert status_of(icp, created)["status"].lower() == "running"
    icp.on("canister", "stop", created)
    before = cycles_of(icp)
    icp.on("canister", "delete", created)
    # It installs a module of its own that deposits what the canister holds, less a reserve.
    assert before + 19 * T // 10 < cycles_of(icp) < before + 2 * T
    gone = icp.run("canister", "status", created, *icp.where)
    assert gone.returncode != 0
    assert "not found" in gone.stdout + gone.stderr


@pytest.mark.covers("logs", client="icp")
def test_shows_what_a_canister_logs(icp, created, module, universal, program):
    icp.on(
        "canister", "install", created, "--wasm", module("universal", universal), "--yes",
        "--args-format", "hex", "--args", bytes(program()).hex(),
    )  # fmt: skip
    said = bytes(program().debug_print(b"a line of the log").reply(b""))
    call = ("canister", "call", created, "update", "--args-format", "hex", "--output", "hex")
    icp.on(*call, said.hex())
    assert "a line of the log" in icp.on("canister", "logs", created)
    icp.run(*call, bytes(program().trap(b"oh no")).hex(), *icp.where)
    assert "oh no" in icp.on("canister", "logs", created)


@pytest.mark.covers("snapshots", client="icp")
def test_takes_and_loads_snapshots(icp, created, module, universal, program):
    icp.on(
        "canister", "install", created, "--wasm", module("universal", universal), "--yes",
        "--args-format", "hex", "--args", bytes(program()).hex(),
    )  # fmt: skip
    call = ("canister", "call", created, "update", "--args-format", "hex", "--output", "hex")
    icp.on(
        *call, bytes(program().stable64_grow(1).drop().stable64_write(0, b"kept").reply(b"")).hex()
    )
    icp.on("canister", "stop", created)
    snapshot = icp.on("canister", "snapshot", "create", created, "--quiet").strip()
    assert snapshot in icp.on("canister", "snapshot", "list", created)
    icp.on("canister", "start", created)
    icp.on(*call, bytes(program().stable64_write(0, b"lost").reply(b"")).hex())
    icp.on("canister", "stop", created)
    icp.on("canister", "snapshot", "restore", created, snapshot)
    icp.on("canister", "start", created)
    read = bytes(program().stable64_read(2048, 0, 4).msg_reply_data_append(2048, 4).reply())
    assert icp.on(*call, read.hex()).split()[-1] == b"kept".hex()


# --- Identities ---------------------------------------------------------------------------------


@pytest.mark.covers("delegation", client="icp")
def test_signs_by_a_delegation(icp, canister, whoami):
    key = icp("identity", "delegation", "request", "session", "--storage", "plaintext")
    chain = icp.home / "chain.json"
    public = icp.home / "key.pem"
    public.write_text(key, encoding="utf-8")
    chain.write_text(
        icp("identity", "delegation", "sign", "--key-pem", str(public), "--duration", "1h"),
        encoding="utf-8",
    )
    icp("identity", "delegation", "use", "session", "--from-json", str(chain))
    answer = icp.on(
        "canister", "call", canister, "update", "--args-format", "hex", whoami.hex(),
        "--identity", "session",
    )  # fmt: skip
    assert icp.principal in answer


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "p256"])
@pytest.mark.covers("Ed25519", client="icp")
@pytest.mark.covers("secp256k1", client="icp")
@pytest.mark.covers("P-256", client="icp")
def test_signs_with_every_kind_of_key(icp, canister, whoami, kind):
    pem = icp.home / "key.pem"
    identity = Identity.generate(kind)
    pem.write_bytes(identity.to_pem())
    icp("identity", "import", kind, "--from-pem", str(pem), "--storage", "plaintext")
    answer = icp.on(
        "canister", "call", canister, "update", "--args-format", "hex", whoami.hex(),
        "--identity", kind,
    )  # fmt: skip
    assert str(identity.principal) in answer


@pytest.mark.covers("anonymous", client="icp")
def test_calls_anonymously(icp, canister, program):
    said = bytes(program().append_blob_of("msg_caller").reply())
    for more in ((), ("--query",)):
        answer = icp.on(
            "canister", "call", canister, "query" if more else "update", "--args-format", "hex",
            said.hex(), "--output", "hex", "--identity", "anonymous", *more,
        )  # fmt: skip
        assert answer.split()[-1] == "04"


@pytest.mark.covers("nothing is believed under another root key", client="icp")
def test_with_another_root_key_nothing_is_believed(icp, canister, whoami):
    for more in ((), ("--query",)):
        done = icp.run(
            "canister", "call", canister, "query" if more else "update", "--args-format", "hex",
            whoami.hex(), *more, "--network", icp.target.url, "--root-key", "mainnet",
        )  # fmt: skip
        assert done.returncode != 0
        assert "ertificate" in done.stderr


@pytest.mark.covers("status", client="icp")
def test_fetches_the_root_key_where_it_is_told_to(icp, canister, whoami):
    answer = icp(
        "canister", "call", canister, "update", "--args-format", "hex", whoami.hex(),
        "--network", icp.target.url, "--root-key", "fetch",
    )  # fmt: skip
    assert icp.principal in answer
    assert "healthy" in icp("network", "ping", icp.target.url)


# --- Cycles and ICP -----------------------------------------------------------------------------


@pytest.mark.covers("cycles: balance and transfer", client="icp")
@pytest.mark.covers("cycles: withdrawal to a canister", client="icp")
def test_transfers_cycles_and_tops_up_canisters(icp, created):
    other = str(Identity.generate().principal)
    before = cycles_of(icp)
    icp.on("cycles", "transfer", "5t", other)
    assert cycles_of(icp) == before - 5 * T - FEE
    of_other = ("canister", "call", "um5iw-rqaaa-aaaaq-qaaba-cai", "icrc1_balance_of")
    shown = icp.on(*of_other, f'(record {{ owner = principal "{other}" }})').replace("_", "")
    assert str(USER_CYCLES + 5 * T) in shown
    icp.on("canister", "top-up", created, "--amount", "1t")
    assert int(str(status_of(icp, created)["cycles"]).replace("_", "")) == 3 * T
    assert cycles_of(icp) == before - 6 * T - 2 * FEE
    poor = icp.run("cycles", "transfer", "2000t", other, *icp.where)
    assert poor.returncode != 0
    assert "nsufficient" in poor.stderr


@pytest.mark.covers("ICP to cycles, to a canister, to a top-up", client="icp")
def test_mints_cycles_and_creates_canisters_for_icp(icp):
    icp.on("cycles", "mint", "--icp", "2")
    assert cycles_of(icp) == USER_CYCLES + 2 * 10**8 * XDR_PERMYRIAD_PER_ICP - FEE
    canister = icp.on("canister", "create", "--detached", "-q", "--with-icp", "1").strip()
    cycles = int(str(status_of(icp, canister)["cycles"]).replace("_", ""))
    assert cycles == 10**8 * XDR_PERMYRIAD_PER_ICP
    (left,) = re.findall(r"Balance: ([\d_.]+) ICP", icp.on("token", "balance"))
    assert Decimal(left.replace("_", "")) == Decimal(USER_E8S - 3 * 10**8 - 2 * 10_000) / 10**8


@pytest.mark.covers("allowances", client="icp")
@pytest.mark.covers("ICP: balance and transfer", client="icp")
def test_approves_and_transfers_tokens(icp):
    other = str(Identity.generate().principal)
    icp.on("token", "approve", "1.5", other)
    assert "1.5" in icp.on("token", "allowance", other)
    icp.on("token", "transfer", "2.5", other)
    asked = f'(record {{ owner = principal "{other}" }})'
    shown = icp.on("canister", "call", "ryjl3-tyaaa-aaaaa-aaaba-cai", "icrc1_balance_of", asked)
    assert str(USER_E8S + 250_000_000) in shown.replace("_", "")
