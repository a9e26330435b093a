"""The pytest plugin, seen from projects that use it: real runs of pytest in their folders."""

import json
import os
import re
import subprocess
import sys

import pytest
import wasmtime

from bridge.agent import Identity
from bridge.agent.agent import MAINNET_ROOT_KEY

INI = """
[pytest]
filterwarnings = error
"""

# What must not be loaded in a project that only has the plugin installed.
HEAVY = ["aiohttp", "cryptography", "wasmtime", "ulid", "cbor2", "pyblst", "click", "rich"]

SYNC = """
import copy
import pytest

@pytest.fixture(scope="module")
def shared(ic_session):
    return ic_session.canister("rust:echo")

def horizon(canister):
    return canister.asyncFlow_status()["settings"]["horizon"]

def test_a_canister_is_called_without_await(ic_canister):
    echo = ic_canister("echo")
    assert echo.asyncFlow_status()["version"]
    assert echo.asyncFlow_status(update=True)["version"]

IDS = []

@pytest.mark.parametrize("turn", range(3))
def test_every_test_begins_alike(ic_canister, ic_replica, shared, turn):
    IDS.append(ic_canister("motoko:echo").id)
    assert len(set(IDS)) == 1
    assert horizon(shared) != 10**18
    answer = shared.asyncFlow_configure(
        {"settings": {"horizon": 10**18}, "access": None, "peers": None}
    )
    assert answer.label == "ok", answer
    assert horizon(shared) == 10**18

def test_agents_are_told_apart(ic_canister, ic_agent):
    alice, bob = ic_agent("alice"), ic_agent("bob")
    assert alice.principal == ic_agent("alice").principal != bob.principal
    mailbox = ic_canister("rust:mailbox", {"owner": bob.principal}, agent=alice)
    assert mailbox.as_agent(bob).mailbox_status()["waiting"] == 0
    with pytest.raises(Exception, match="only the owner"):
        mailbox.as_agent(ic_agent()).mailbox_status()
    assert alice.controllers(mailbox.id) == (alice.principal,)

def test_a_canister_is_found_by_its_id(ic_canister):
    echo = ic_canister("echo")
    assert ic_canister.at(str(echo.id)).asyncFlow_status()["version"]
    assert copy.copy(echo).id == echo.id

def test_time_is_moved_and_comes_back(ic_replica):
    ic_replica.admin.advance(3600 * 10**9)

def test_the_time_is_the_machines(ic_agent, ic_canister):
    import time
    now = ic_agent().time(ic_canister("echo").id)
    assert abs(now - time.time_ns()) < 600 * 10**9
"""

ASYNC = """
import asyncio
import pytest
{mark}

async def test_a_canister_is_awaited(ic_canister, ic_agent):
    echo = await ic_canister("echo")
    one, two = await asyncio.gather(echo.asyncFlow_status(), echo.asyncFlow_status())
    assert one["version"] == two["version"]
    assert await ic_agent().module_hash(echo.id)
    again = await ic_canister.at(echo.id)
    assert (await again.asyncFlow_status())["version"] == one["version"]

async def test_a_bridge_runs_on_the_tests_own_loop(ic_canister, ic_replica):
    from bridge import Bridge, MemoryStore
    async with ic_replica.own_agent() as agent:
        access = {{"canisters": None, "agents": [agent.principal], "monitors": []}}
        echo = await ic_canister("echo", {{"settings": None, "access": access, "peers": None}})
        async with MemoryStore() as store, Bridge(agent, store) as bridge:
            assert await bridge.send(echo.id, b"hello") == b"hello"

async def test_a_call_that_is_cancelled_ends(ic_canister):
    echo = await ic_canister("echo")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await echo.asyncFlow_status()
    assert (await echo.asyncFlow_status())["version"]
"""

BESIDE = """
def test_a_sync_test_beside_async_ones(ic_canister):
    assert ic_canister("echo").asyncFlow_status()["version"]
"""

ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


@pytest.fixture
def project(pytester, monkeypatch):
    for name in ("NETWORK", "ROOT_KEY", "IDENTITY"):
        monkeypatch.delenv(f"IC_BRIDGE_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("CI", raising=False)
    pytester.makefile(".ini", pytest=INI)
    return pytester


def run(project, *options):
    if "no:asyncio" not in options:
        options += ("-o", "asyncio_default_fixture_loop_scope=function")
    return project.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=300)


@pytest.fixture(scope="module")
def elsewhere():
    """A replica that is another process, with its admin interface off: its URL and root key."""
    command = [sys.executable, "-m", "bridge.cli", "replica", "start", "--until-eof"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()


# --- Tests pass ---------------------------------------------------------------------------------


@pytest.mark.covers("pytest plugin", client="bridge")
def test_sync_tests_need_no_other_plugin(project) -> None:
    project.makepyfile(test_sync=SYNC)
    run(project, "-p", "no:asyncio", "-p", "no:anyio").assert_outcomes(passed=8)


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("", ["-o", "asyncio_mode=auto"]),
        ("pytestmark = pytest.mark.asyncio", ["-o", "asyncio_mode=strict"]),
        (ANYIO, ["-p", "no:asyncio"]),
    ],
    ids=["auto", "strict", "anyio"],
)
def test_async_tests_run_under_each_plugin(project, elsewhere, mark, options) -> None:
    project.makepyfile(test_async=ASYNC.format(mark=mark), test_beside=BESIDE)
    if mark:  # once on a replica of its own is enough
        options = [*options, "--ic-network", elsewhere["url"]]
    run(project, *options).assert_outcomes(passed=4)


def test_every_agent_is_rich_where_there_are_ledgers(project) -> None:
    project.makepyfile(
        test_it="""
        def test_it(ic_canister, ic_agent):
            ledger = ic_canister.at("um5iw-rqaaa-aaaaq-qaaba-cai")
            account = {"owner": ic_agent("alice").principal, "subaccount": None}
            assert ledger.icrc1_balance_of(account) == 1_000 * 10**12
        """
    )
    run(project, "--ic-system-canisters").assert_outcomes(passed=1)


@pytest.mark.covers("pytest plugin", client="bridge")
def test_each_worker_has_a_replica_of_its_own(project) -> None:
    project.makepyfile(
        test_workers="""
        import os, pathlib, pytest

        @pytest.mark.parametrize("turn", range(8))
        def test_turn(ic_replica, ic_canister, turn):
            worker = os.environ["PYTEST_XDIST_WORKER"]
            with pathlib.Path("seen.txt").open("a") as file:
                file.write(f"{worker} {ic_replica.url} {ic_canister('echo').id}\\n")
        """
    )
    run(project, "-n", "2").assert_outcomes(passed=8)
    lines = [line.split() for line in (project.path / "seen.txt").read_text().splitlines()]
    assert len(lines) == 8
    assert len({worker for worker, _, _ in lines}) == 2
    assert len({(worker, url) for worker, url, _ in lines}) == 2
    assert len({url for _, url, _ in lines}) == 2


# --- Tests fail, and say why ---------------------------------------------------------------------

FAILING = """
import pathlib
TRAPS = pathlib.Path(__file__).with_name("traps.wasm")

def test_no_such_name(ic_canister):
    ic_canister("ecco")

def test_no_such_file(ic_canister):
    ic_canister("build/counter.wasm")

def test_no_interface(ic_canister):
    ic_canister(TRAPS)

def test_no_such_interface(ic_canister):
    ic_canister(TRAPS, did="traps.did")

def test_no_module(ic_canister):
    ic_canister(b"text", did="service : {}")

def test_traps_at_installation(ic_canister):
    ic_canister(TRAPS, did="service : {}")

def test_wrong_install_argument(ic_canister):
    ic_canister("echo", 5)

def test_no_such_method(ic_canister):
    ic_canister("echo").stats()

def test_wrong_argument(ic_canister):
    ic_canister("echo").asyncFlow_events({"after": 0, "limit": "all"})

def test_rejected(ic_canister, ic_agent):
    mailbox = ic_canister("rust:mailbox", {"owner": ic_agent("bob").principal})
    mailbox.as_agent(ic_agent("eve")).mailbox_status()

def test_no_such_id(ic_canister):
    ic_canister.at("not-a-principal")
"""

SAID = {
    "no_such_name": r"no packaged canister 'ecco'.*in Motoko one of .*in Rust one of .*mailbox",
    "no_such_file": r"build/counter\.wasm cannot be read: No such file.*build the canister first",
    "no_interface": r"traps\.wasm carries no candid:service metadata.*pass did=",
    "no_such_interface": r"traps\.did cannot be read: No such file",
    "no_module": r"does not begin like WebAssembly",
    "traps_at_installation": r"trapped.*\n(.*\n)*E +while installing .*traps\.wasm on http",
    "wrong_install_argument": r"expected a dict.*\n(.*\n)*E +while installing echo on",
    "no_such_method": r"AttributeError: canister \S+ has no method 'stats' in its interface",
    "wrong_argument": r"expected an int for nat32, not str",
    "rejected": r"'mailbox_status'.*rejected: only the owner",
    "no_such_id": r"not-a-principal",
}


def test_a_failing_test_shows_its_own_line_and_the_reason(project) -> None:
    wat = '(module (func (export "canister_init") unreachable))'
    (project.path / "traps.wasm").write_bytes(wasmtime.wat2wasm(wat))
    project.makepyfile(test_failing=FAILING)
    result = run(project)
    result.assert_outcomes(failed=len(SAID))
    text = "\n".join(result.outlines)
    parts = re.split(r"\n_+ test_(\w+) _+\n", text.split("short test summary")[0])
    told = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert set(told) == set(SAID)
    for name, pattern in SAID.items():
        assert re.search(pattern, told[name]), (name, told[name])
        assert "/bridge/" not in told[name], told[name]  # nothing of the way through the package
        assert len(told[name].splitlines()) < 25, told[name]


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("http://127.0.0.1:9", r"the network 'http://127\.0\.0\.1:9' cannot be used: "),
        ("http://192.0.2.1:4943", r"root key must be given.*\n.*--ic-root-key"),
        ("lokal", r"no network 'lokal'\n.*embedded, local, dfx, icp, ic, or a URL"),
        ("icp", r"icp is not on the PATH"),
    ],
    ids=["nothing listens", "no root key", "no such name", "no icp"],
)
def test_a_network_that_cannot_be_used_is_told_without_a_traceback(
    project, monkeypatch, network, said
) -> None:
    monkeypatch.setenv("PATH", str(project.path))
    project.makepyfile(test_it="def test_it(ic_canister): pass\n\ndef test_other(): pass\n")
    result = run(project, "--ic-network", network)
    result.assert_outcomes(errors=1, passed=1)
    text = "\n".join(result.outlines)
    assert re.search(said, text), text
    assert "Traceback" not in text
    assert "pytest_plugin" not in text


def test_without_the_replicas_extra_the_command_that_installs_it_is_told(
    project, monkeypatch
) -> None:
    folder = project.mkdir("broken")
    (folder / "wasmtime.py").write_text("raise ModuleNotFoundError(name='wasmtime')")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    project.makepyfile(test_it="def test_it(ic_replica): pass")
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install 'ic-bridge?replica?'*"])
    result.stdout.no_fnmatch_line("*Traceback*")


# --- Other networks ------------------------------------------------------------------------------

ELSEWHERE = """
import pytest

IDS = []

@pytest.mark.parametrize("turn", range(2))
def test_canisters_are_fresh(ic_canister, ic_replica, turn):
    assert ic_replica.url == URL
    assert not ic_replica.has_admin
    echo = ic_canister("echo")
    assert echo.asyncFlow_status()["version"]
    IDS.append(echo.id)
    assert len(set(IDS)) == len(IDS)

def test_there_is_no_admin_interface(ic_replica):
    with pytest.raises(Exception, match="has no admin interface"):
        ic_replica.admin.messages()
"""


@pytest.mark.covers("pytest plugin", client="bridge")
def test_the_same_tests_run_on_another_replica(project, elsewhere) -> None:
    url = elsewhere["url"]
    project.makepyfile(test_elsewhere=f"URL = {url!r}\n" + ELSEWHERE)
    run(project, "--ic-network", url).assert_outcomes(passed=3)


def test_an_option_is_stronger_than_a_variable_and_that_than_the_ini_file(
    project, monkeypatch
) -> None:
    project.makepyfile(test_it="def test_it(ic_replica): pass")
    (project.path / "bridge.toml").write_text("network = 5")
    run(project).stdout.fnmatch_lines(
        ["the settings cannot be used: */bridge.toml: network is not*"]
    )
    (project.path / "bridge.toml").write_text('network = "by-file"')
    run(project).stdout.fnmatch_lines(["*no network 'by-file'*"])
    ini = ["-o", "ic_network=by-ini"]
    run(project, *ini).stdout.fnmatch_lines(["*no network 'by-ini'*"])
    monkeypatch.setenv("IC_BRIDGE_NETWORK", "by-variable")
    run(project, *ini).stdout.fnmatch_lines(["*no network 'by-variable'*"])
    result = run(project, *ini, "--ic-network", "by-option")
    result.stdout.fnmatch_lines(["*no network 'by-option'*"])


def test_a_given_root_key_is_the_one_that_is_believed(project, elsewhere) -> None:
    project.makepyfile(
        test_it="""
        def test_it(ic_canister):
            ic_canister("echo")
        """
    )
    (project.path / "key.hex").write_text(elsewhere["root_key"])
    options = ["--ic-network", elsewhere["url"], "--ic-root-key"]
    run(project, *options, "key.hex").assert_outcomes(passed=1)
    result = run(project, *options, MAINNET_ROOT_KEY.hex())
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*CertificateError*"])


def test_the_default_agent_can_be_one_of_ones_own(project, elsewhere) -> None:
    identity = Identity.generate()
    identity.save_pem(project.path / "me.pem")
    project.makepyfile(
        test_it=f"""
        def test_it(ic_agent):
            assert str(ic_agent().principal) == {str(identity.principal)!r}
        """
    )
    options = ["--ic-network", elsewhere["url"], "--ic-identity", "me.pem"]
    run(project, *options).assert_outcomes(passed=1)
    (project.path / "me.pem").chmod(0o644)
    result = run(project, *options)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*me.pem*"])


# --- It costs nothing where it is not used --------------------------------------------------------


def test_a_project_that_does_not_use_it_does_not_pay_for_it(project) -> None:
    project.makeconftest(
        f"""
        import sys

        def pytest_sessionfinish(session):
            heavy = [name for name in {HEAVY} if name in sys.modules]
            parts = [name for name in sys.modules if name.startswith("bridge.")]
            print("LOADED", heavy, sorted(parts))
        """
    )
    project.makepyfile(test_it="def test_it(): pass")
    result = run(project, "-s")
    result.assert_outcomes(passed=1)
    (line,) = [line for line in result.outlines if "LOADED" in line]
    assert line.split("LOADED ")[1] == "[] ['bridge._version', 'bridge.pytest_plugin']"


def test_the_options_are_explained(project) -> None:
    result = run(project, "--help")
    for option in ("--ic-network", "--ic-root-key", "--ic-identity", "ic_network"):
        result.stdout.fnmatch_lines([f"*{option}*"])
