"""A real replica with a state directory, killed at random moments under load, and started again."""

import asyncio
import contextlib
import hashlib
import json
import random
import resource
import signal
import sys
import time

import aiohttp
import pytest

from bridge import wire
from bridge.agent import Identity
from bridge.candid import Case
from bridge.network import Network

SECOND = 1_000_000_000
START = 300

# Each starts processes, one after the other.


class Process:
    """A replica that runs as a process of its own."""

    def __init__(self, url, root_key, process):
        self.url, self.root_key, self.process = url, root_key, process

    async def kill(self):
        self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def started(state_dir, *options, **how):
    """Start one, for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge.cli", "replica", "start", "--until-eof",
        "--no-system-canisters", "--state-dir", str(state_dir), *options,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, **how,
    )  # fmt: skip
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START)
        assert line, (await process.stderr.read()).decode()
        told = json.loads(line)
        yield Process(told["url"], bytes.fromhex(told["root_key"]), process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()
        process.stdin.close()


class Ledger:
    """What the clients have sent, and what they know of it."""

    def __init__(self):
        self.sent = {}
        self.certified = {}
        self.newest = 0

    def note(self, request_id, certificate):
        self.newest = max(self.newest, certificate.time)
        reply = certificate.value((b"request_status", request_id, b"reply"))
        assert reply is not None
        self.certified[request_id] = reply

    async def holds(self, number):
        """Wait until so many requests are certified."""
        for _ in range(20_000):
            if len(self.certified) >= number:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{len(self.certified)} requests are certified")


async def load(client, ledger, canister, code):
    """Send calls one after another until the replica is gone."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        while True:
            content = client.content(
                "call", canister_id=canister.raw, method_name="update", arg=bytes(code)
            )
            request_id = wire.request_id(content)
            ledger.sent[request_id] = canister
            status, body, _ = await client.call(canister, "update", content=content)
            assert (status, body["status"]) == (200, "replied"), body
            certificate = wire.Certificate.from_cbor(body["certificate"])
            certificate.verify(client.replica.root_key, canister, now=time.time_ns())
            ledger.note(request_id, certificate)


async def reply_of(client, ledger, request_id):
    """The reply of a request as the replica now tells it, once it has settled; None if unknown."""
    canister = ledger.sent[request_id]
    for _ in range(4_000):
        status, certificate = await client.read_state(canister, [(b"request_status", request_id)])
        assert status == 200
        assert certificate.time >= ledger.newest
        told = certificate.value((b"request_status", request_id, b"status"))
        if told in (None, b"replied"):
            return certificate.value((b"request_status", request_id, b"reply"))
        assert told in (b"received", b"processing"), told
        await asyncio.sleep(0.05)
    raise AssertionError("the request is never answered")


async def numbers(client, canister, program):
    """The counter in the heap, and the one in stable memory."""
    code = program().counter().append_number().append_stable_number().reply()
    _, body, _ = await client.query(canister, "query", code)
    data = body["reply"]["arg"]
    return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")


async def later_number(client, canister, program, number):
    """Wait until the counter is beyond a number; what it is then."""
    for _ in range(10_000):
        found, _ = await numbers(client, canister, program)
        if found > number:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("the timer does not fire any more")


@pytest.mark.covers("state directory, whole after any crash")
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_what_is_certified_survives_every_kill(
    tmp_path, make_client, universal_wasm, program, seed
):
    chance = random.Random(seed)
    ledger = Ledger()
    count = program().add_to_counter(1).counter_to_stable().counter().append_number().reply()
    on_reply = program().append_blob_of("msg_arg_data").reply()
    root_key, direct, caller, callee, ticking = None, None, None, None, None
    ticks = 0
    for turn in range(4):
        async with (
            started(tmp_path / "state") as replica,
            aiohttp.ClientSession() as session,
        ):
            client = make_client(replica, session)
            client._nonce = iter(range(turn * 10**6 + 1, 10**9))
            if turn == 0:
                root_key = replica.root_key
                direct, caller, callee, ticking = [
                    await client.create(universal_wasm(bool(index % 2))) for index in range(4)
                ]
                grown = program().push(1).stable64_grow().drop().reply(b"")
                for canister in (direct, caller, callee, ticking):
                    await client.certified(canister, "update", grown)
                again = program().time().push(SECOND // 20).add().global_timer_set().drop()
                tick = program().add_to_counter(1).counter_to_stable().time()
                tick.push(SECOND // 20).add().global_timer_set().drop()
                await client.certified(
                    ticking, "update", again.hook("canister_global_timer", tick).reply(b"")
                )
            assert replica.root_key == root_key
            # Every call counts once: those answered, and no others; in heap and stable memory.
            replies = {name: await reply_of(client, ledger, name) for name in ledger.sent}
            for name, reply in ledger.certified.items():
                assert replies[name] == reply
            for canister, counter in ((direct, direct), (caller, callee)):
                counted = sorted(
                    int.from_bytes(reply, "little")
                    for name, reply in replies.items()
                    if reply is not None and ledger.sent[name] == canister
                )
                assert counted == list(range(1, len(counted) + 1))
                assert await numbers(client, counter, program) == (len(counted),) * 2
            heap, stable = await numbers(client, ticking, program)
            assert heap == stable >= ticks
            relay = program().call(callee.raw, "update", count, reply=on_reply).drop()
            work = [
                asyncio.create_task(load(client, ledger, canister, code))
                for canister, code in [(direct, count), (caller, relay)] * 3
            ]
            await asyncio.sleep(chance.uniform(0.05, 0.5))
            ticks = await later_number(client, ticking, program, heap)
            await ledger.holds(6 * (turn + 1))
            await replica.kill()
            await asyncio.gather(*work)
    assert len(ledger.certified) >= 24


@pytest.mark.covers("state directory, whole after any crash")
async def test_a_kill_during_an_installation_leaves_the_old_module_or_the_new_one(
    tmp_path, make_client, universal_wasm, program
):
    chance = random.Random(3)
    canister = None
    modules = [universal_wasm(False), universal_wasm(True)]
    known = [hashlib.sha256(module).digest() for module in modules]
    for turn in range(3):
        async with started(tmp_path / "state") as replica, aiohttp.ClientSession() as session:
            client = make_client(replica, session)
            client._nonce = iter(range(turn * 10**6 + 1, 10**9))
            if canister is None:
                canister = await client.create(modules[0])
            path = (b"canister", canister.raw, b"module_hash")
            _, certificate = await client.read_state(canister, [path])
            assert certificate.value(path) in known
            _, body, _ = await client.query(canister, "query", program().reply(b"runs"))
            assert body["reply"]["arg"] == b"runs"
            work = asyncio.create_task(reinstall(client, canister, modules))
            await asyncio.sleep(chance.uniform(0.02, 0.3))
            await replica.kill()
            await work


async def reinstall(client, canister, modules):
    """Install one module after the other, until the replica is gone."""
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        while True:
            for module in modules:
                await client.manage(
                    "install_code", installation(canister, module), effective=canister
                )


def installation(canister, module):
    return {
        "mode": Case("reinstall"),
        "canister_id": canister,
        "wasm_module": module,
        "arg": b"\0",
        "sender_canister_version": None,
    }


@pytest.mark.covers("state directory, whole after any crash")
async def test_when_the_disk_is_full_the_process_ends_and_says_so(
    tmp_path, make_client, universal_wasm, program
):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))

    ledger = Ledger()
    canister = None
    async with (
        started(tmp_path / "state", preexec_fn=little_room) as replica,
        aiohttp.ClientSession() as session,
    ):
        client = make_client(replica, session)
        canister = await client.create(universal_wasm(True))
        big = program().push(40).stable64_grow().drop()
        for page in range(40):
            big.stable64_write(page * 65_536, 0, 65_536)
        big.add_to_counter(1).counter().append_number().reply()
        await asyncio.wait_for(load(client, ledger, canister, big), 300)
        words = (await replica.process.stderr.read()).decode()
        assert await replica.process.wait() == 1
        assert "the state cannot be written to" in words
        assert "make room on the disk, and start the replica again" in words
        assert "Traceback" not in words
    async with started(tmp_path / "state") as replica, aiohttp.ClientSession() as session:
        client = make_client(replica, session)
        for name, reply in ledger.certified.items():
            assert await reply_of(client, ledger, name) == reply
        code = program().counter().append_number().reply()
        _, body, _ = await client.query(canister, "query", code)
        assert int.from_bytes(body["reply"]["arg"], "little") >= len(ledger.certified)


async def test_a_second_process_on_the_directory_is_refused(tmp_path):
    async with started(tmp_path / "state") as replica:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge.cli", "replica", "start",
            "--state-dir", str(tmp_path / "state"), stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, words = await process.communicate()
        assert process.returncode == 1
        assert f"in use by another replica, process {replica.process.pid}".encode() in words


@pytest.mark.covers("state directory, whole after any crash")
async def test_an_ended_replica_goes_on_where_it_ended(
    tmp_path, make_client, universal_wasm, program
):
    start = "2030-01-01T00:00:00Z"
    nanoseconds = 1_893_456_000 * SECOND
    async with (
        started(tmp_path / "state", "--admin", "--time", start) as replica,
        aiohttp.ClientSession() as session,
    ):
        client = make_client(replica, session)
        assert (await client.admin("GET", "/status"))[1]["time"] == nanoseconds
        await client.admin("POST", "/time", json={"advance": 5 * SECOND})
        await replica.kill()
    async with (
        started(tmp_path / "state", "--admin") as replica,
        aiohttp.ClientSession() as session,
    ):
        status = (await make_client(replica, session).admin("GET", "/status"))[1]
        assert (status["time"], status["paused"]) == (nanoseconds + 5 * SECOND, True)
    with pytest.raises(AssertionError, match="never goes back"):
        async with started(tmp_path / "state", "--time", start):
            pass


async def test_a_network_with_a_state_directory_is_there_again(tmp_path, universal_wasm, program):
    code = bytes(program().add_to_counter(1).counter().append_number().reply())
    canister, root_key = None, None
    for turn in range(2):
        async with (
            Network.embedded(admin=True, state_dir=tmp_path / "state") as network,
            network.agent(Identity.from_seed(bytes(32))) as agent,
        ):
            if canister is None:
                canister = await network.deploy(agent, universal_wasm(True), b"\0")
                root_key = network.root_key
            assert network.root_key == root_key
            assert (await agent.update(canister, "update", code))[0] == turn + 1
            name = await network.admin.snapshot()
            await agent.update(canister, "update", code)
            await network.admin.restore(name)
