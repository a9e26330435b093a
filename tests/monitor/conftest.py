"""Real canisters to be watched, in either language, and one that tells whatever a test wants."""

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import wasmtime
from canister_world import opened

from bridge import SQLiteStore, candid
from bridge.flow import SenderFlow, SenderState
from bridge.monitor import CanisterWatch
from bridge.network import create_canister, install_code
from bridge.principal import Principal
from bridge.reference import contract_method
from bridge.store import Change

COMMAND = str(Path(sys.executable).with_name("ic-bridge"))
EVIL = "\x1b]0;owned\x07\x1b[31m\u202e[bold]\n"


@pytest.fixture(params=["motoko", "rust"])
async def world(request):
    async with opened(request.param) as world:
        yield world


@pytest.fixture
async def one_world():
    """For what does not depend on the canister's language."""
    async with opened("motoko") as world:
        yield world


@pytest.fixture
def troubled():
    """Deploys a sender with a dead letter, and a receiver with a stalled flow of that sender's."""

    async def deploy(world):
        a, b = await world.deploy("player", {"handler_attempts": 1}), await world.deploy("player")
        await a.direct(trap_until=9)
        await a.open(b.id, 1, b"hello")
        await a.until(1, "dead_letter")
        await b.until(1, "finished")
        await a.open(b.id, 2, b"trap-once")
        await b.until(2, "stalled")
        return a, b

    return deploy


@pytest.fixture
def liar():
    """Deploys a canister that answers the three questions with these values."""

    async def deploy(world, **answers):
        blobs = {
            f"asyncFlow_{name}": candid.encode(
                contract_method("watch", f"asyncFlow_{name}").results, [value]
            )
            if not isinstance(value, bytes)
            else value
            for name, value in answers.items()
        }
        canister_id = await create_canister(world.agent)
        await install_code(world.agent, canister_id, saying(blobs), b"DIDL\x00\x00")
        return canister_id

    return deploy


def saying(blobs):
    """A module whose queries of these names answer with these bytes."""
    at, data, methods = 0, [], []
    for name, blob in blobs.items():
        text = "".join(f"\\{byte:02x}" for byte in blob)
        data.append(f'(data (i32.const {at}) "{text}")')
        methods.append(
            f'(func (export "canister_query {name}") '
            f"(call $append (i32.const {at}) (i32.const {len(blob)})) (call $reply))"
        )
        at += len(blob)
    return bytes(
        wasmtime.wat2wasm(
            f"""(module
            (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
            (import "ic0" "msg_reply" (func $reply))
            (memory {at // 65_536 + 1}) {"".join(data)} {"".join(methods)})"""
        )
    )


PEER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


@pytest.fixture
def told_status():
    """What a liar's status is, with changes."""

    def make(**changes):
        return {
            "version": "1",
            "time": 1_800_000_000_000_000_000,
            "counters": [],
            "gauges": [],
            "horizon": 1,
            "settings": {},
            "peers": [],
        } | changes

    return make


@pytest.fixture
def told_flow():
    """What a liar's flow is, with changes."""

    def make(**changes):
        return {
            "role": candid.Case("sender"),
            "peer": PEER,
            "msg_id": 1,
            "state": candid.Case("sending"),
            "failure": None,
            "late": False,
            "attempts": 1,
            "due": None,
            "opened": 1_700_000_000_000_000_000,
            "changed": 1_700_000_000_000_000_000,
            "payload_hash": 0,
            "response_hash": None,
        } | changes

    return make


@pytest.fixture
def told_event():
    """What a liar's event is, with changes."""

    def make(**changes):
        return {
            "seq": 1,
            "time": 1_700_000_000_000_000_000,
            "role": candid.Case("sender"),
            "peer": PEER,
            "msg_id": 1,
            "from": None,
            "to": candid.Case("queued"),
            "why": "send",
        } | changes

    return make


@dataclass
class Followed:
    """What following a canister tells, as it comes."""

    watch: CanisterWatch
    seen: list
    task: asyncio.Task

    async def until(self, kind, count=1):
        """Wait until so many of a kind were told; the last of them."""
        async with asyncio.timeout(300):
            while len(found := [one for one in self.seen if isinstance(one, kind)]) < count:
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.01)
        return found[-1]


@pytest.fixture
async def follow():
    """Follows a canister in a task of its own, looking often."""
    tasks = []

    def begin(watch, **options):
        seen = []

        async def run():
            async for one in watch.events(follow=True, poll_every=0.01, **options):
                seen.append(one)  # noqa: PERF401 - who waits looks at it meanwhile

        tasks.append(asyncio.create_task(run()))
        return Followed(watch, seen, tasks[-1])

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def command(tmp_path):
    """Runs ``ic-bridge`` in a process of its own, while this one's replica goes on."""

    async def run(*words, terminal=False, **variables):
        def wait():
            line = [COMMAND, *map(str, words)]
            if terminal:  # util-linux's script gives it a terminal
                line = ["script", "-qec", subprocess.list2cmdline(line), "/dev/null"]
            return subprocess.run(
                line,
                cwd=tmp_path,
                env=environment(tmp_path) | variables,
                capture_output=True,
                text=True,
                timeout=300,
                stdin=subprocess.DEVNULL,
                check=False,
            )

        return await asyncio.to_thread(wait)

    return run


def environment(home):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IC_BRIDGE")}
    return kept | {"HOME": str(home), "COLUMNS": "200"}


@pytest.fixture(name="environment")
def environment_fixture(tmp_path):
    return environment(tmp_path)


@pytest.fixture
def key_file(tmp_path):
    """Writes an identity's key where the command reads it."""

    def write(identity):
        path = tmp_path / "key.pem"
        path.touch(mode=0o600)
        path.write_bytes(identity.to_pem())
        return path

    return write


@pytest.fixture
def many_flows():
    """Puts flows into a store: queued ones that are long due, or a dead letter after these."""

    async def put(path, count, *, dead=False):
        state, changed = ("dead_letter", 2_000) if dead else ("queued", 1)
        flows = [
            SenderFlow(
                peer=PEER,
                msg_id=number + changed,
                dialect="unified",
                state=SenderState(state),
                payload_hash=0,
                payload=b"",
                opened=changed,
                changed=changed,
                due=None if dead else 1,
                version=1,
            )
            for number in range(count)
        ]
        async with SQLiteStore(path) as store:
            await asyncio.gather(*(store.commit(Change(None, flow)) for flow in flows))

    return put
