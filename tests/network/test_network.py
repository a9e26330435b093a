"""An embedded replica as a process: it lives as long as its block, and takes modules."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import contracts
from bridge.agent import Agent, Identity
from bridge.demo.compute import means_the_same, random_payload, right_response
from bridge.errors import NotSentError, ReplicaError, TransportError
from bridge.network import Network, create_canister
from bridge.reference import SHORT_POLICY, SHORT_WAITS, ReferenceCanister, install_argument
from bridge.service import Bridge
from bridge.store import MemoryStore

COMMAND = [sys.executable, "-m", "bridge.cli", "replica", "start"]


@pytest.mark.covers("process of a program's own", client="bridge")
async def test_the_replica_ends_with_its_block() -> None:
    identity = Identity.generate()
    async with Network.embedded() as network, network.agent(identity) as agent:
        assert (await agent.status()).root_key == network.root_key
    async with network.agent(identity) as agent:
        with pytest.raises(NotSentError):
            await agent.status()


async def test_a_block_that_fails_ends_the_replica_too() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Network.embedded() as network:
            raise ZeroDivisionError
    async with network.agent(Identity.generate()) as agent:
        with pytest.raises(NotSentError):
            await agent.status()


async def test_two_replicas_have_different_keys() -> None:
    async with Network.embedded() as one, Network.embedded() as other:
        assert one.url != other.url
        assert one.root_key != other.root_key


async def test_a_replica_that_cannot_start_is_one_error_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "wasmtime.py"
    broken.write_text("raise ModuleNotFoundError(name='wasmtime')")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    for _ in range(3):
        with pytest.raises(ReplicaError, match=r"pip install 'ic-bridge\[replica\]'"):
            async with Network.embedded():
                pass
    assert caplog.text == ""


@pytest.mark.covers("install, upgrade, reinstall", client="bridge")
async def test_an_upgrade_keeps_what_a_canister_remembers() -> None:
    async with Network.embedded() as network, network.agent(Identity.generate()) as agent:
        wasm = contracts.motoko_canister("receiver")
        argument = install_argument(SHORT_WAITS, agents=[agent.principal])
        receiver = ReferenceCanister(agent, await network.deploy(agent, wasm, argument))
        payload = random_payload(random.Random(1))
        async with MemoryStore() as store, Bridge(agent, store, policy=SHORT_POLICY) as bridge:
            response = await bridge.send(receiver.canister_id, payload, msg_id=7)
            assert means_the_same(response, right_response(payload))
            await network.deploy(
                agent, wasm, argument, canister_id=receiver.canister_id, mode="upgrade"
            )
            assert await receiver.handled(agent.principal, 7) == 1
            await network.deploy(
                agent, wasm, argument, canister_id=receiver.canister_id, mode="reinstall"
            )
            assert await receiver.handled(agent.principal, 7) == 0


@pytest.mark.covers("create", client="bridge")
async def test_a_canister_gets_the_cycles_that_it_is_created_with() -> None:
    async with Network.embedded() as network, network.agent(Identity.generate()) as agent:
        one, other = await asyncio.gather(
            create_canister(agent, cycles=5 * 10**12), create_canister(agent)
        )
        assert one != other
        assert await agent.module_hash(one) is None
        assert list(await agent.controllers(one)) == [agent.principal]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.covers("command", client="bridge")
def test_the_command_says_where_it_serves_and_ends_when_told(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "--admin"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        announced = json.loads(process.stdout.readline())
        process.send_signal(number)
        rest, said = process.communicate(timeout=300)
    assert announced["url"].startswith("http://127.0.0.1:")
    assert len(bytes.fromhex(announced["root_key"])) == 133
    assert announced["admin"] is True
    assert (process.returncode, rest, said) == (0, "", "")


async def test_a_fault_that_makes_no_sense_is_refused_with_the_reason() -> None:
    async with Network.embedded(admin=True) as network:
        assert network.admin is not None
        with pytest.raises(ReplicaError, match="400") as caught:
            await network.admin.lose(nth=0)
        assert caught.value.hint is None
        assert "nth" in caught.value.message


KILLED = """
import asyncio
from bridge import Network

async def main():
    async with Network.embedded() as network:
        print(network.url, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.covers("process of a program's own", client="bridge")
async def test_a_replica_does_not_outlive_the_process_that_started_it_even_if_that_is_killed() -> (
    None
):
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout is not None
    async with asyncio.timeout(120):
        url = (await starter.stdout.readline()).decode().strip()
        starter.kill()
        await starter.wait()
        async with Agent(url, identity=Identity.generate()) as agent:
            while True:
                try:
                    await agent.status()
                except NotSentError:
                    break
                except TransportError:  # it ended while it answered
                    continue


INTERRUPTED = """
import asyncio, signal
from bridge import Identity, Network

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

async def main():
    async with Network.embedded() as network, network.agent(Identity.generate()) as agent:
        print("begun", flush=True)
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(1)
            print((await agent.status()).root_key == network.root_key, flush=True)

asyncio.run(main())
"""


@pytest.mark.covers("process of a program's own", client="bridge")
async def test_an_interrupt_at_the_terminal_leaves_the_replica_to_the_program() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", INTERRUPTED, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    async with asyncio.timeout(120):
        assert await program.stdout.readline() == b"begun\n"
        os.killpg(program.pid, signal.SIGINT)
        assert await program.stdout.readline() == b"True\n"
        await program.wait()


@pytest.mark.covers("command", client="bridge")
def test_a_port_that_is_taken_is_one_line_and_a_hint() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["url"].rsplit(":", 1)[1]
        second = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, timeout=300, check=False
        )
        process.terminate()
    assert second.returncode != 0
    assert second.stdout == ""
    assert port in second.stderr
    assert "Traceback" not in second.stderr
