"""What goes wrong at the edge, over real HTTP: each is one typed error that says what to do."""

import subprocess
import sys
import time

import aiohttp
import pytest
import pytest_asyncio
import wasmtime

from bridge import wire
from bridge.agent import Agent, Identity
from bridge.errors import (
    CallRejectedError,
    CertificateError,
    NotSentError,
    PrincipalError,
    ReplicaError,
    RequestRefusedError,
    UsageError,
)
from bridge.network import AdminClient
from bridge.principal import Principal

NOBODY = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
EMPTY = b"DIDL\x00\x00"
MINUTE = 60 * 1_000_000_000

# Traps in every message: the canister of the issue "my canister traps".
TRAPPING = """
(module
  (import "ic0" "trap" (func $trap (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "out of cheese")
  (func (export "canister_update go") (call $trap (i32.const 0) (i32.const 13)))
  (func (export "canister_query look") (call $trap (i32.const 0) (i32.const 13))))
"""


async def test_a_wrong_canister_id(stage) -> None:
    for call in (stage.agent.update, stage.agent.query):
        with pytest.raises(CallRejectedError, match=f"{NOBODY} not found") as caught:
            await call(NOBODY, "anything", EMPTY)
        assert caught.value.code == 3
        assert caught.value.error_code == "IC0301"
        assert "check the canister id" in caught.value.hint


def test_a_mistyped_canister_id() -> None:
    with pytest.raises(PrincipalError, match="copy the whole id"):
        Principal.from_text("rrkah-fqaaa-aaaaa-baaaq-cai")


@pytest_asyncio.fixture(loop_scope="session")
async def trapping(stage) -> Principal:
    return await stage.network.deploy(stage.agent, bytes(wasmtime.wat2wasm(TRAPPING)))


async def test_an_unknown_method(stage, trapping) -> None:
    for call, kind in ((stage.agent.update, "update"), (stage.agent.query, "query")):
        with pytest.raises(CallRejectedError, match=f"has no {kind} method 'nonsense'") as caught:
            await call(trapping, "nonsense", EMPTY)
        assert caught.value.error_code == "IC0536"
        assert "method name" in caught.value.hint
        assert caught.value.certified == (kind == "update")


async def test_a_certificate_signed_by_another_key(stage) -> None:
    other = wire.bls.SecretKey.generate(bytes(range(32))).public_key_der
    identity = stage.agent.identity
    async with Agent(stage.network.url, identity=identity, root_key=other) as agent:
        for call in (agent.update, agent.query):
            with pytest.raises(CertificateError, match="root key") as caught:
                await call(stage.echo.canister_id, "asyncFlow_status", EMPTY)
            assert "pass its own root key" in caught.value.hint


async def test_an_expired_envelope(stage) -> None:
    signed = stage.agent.sign_update(
        stage.echo.canister_id, "anything", EMPTY, ingress_expiry=time.time_ns() - 10 * MINUTE
    )
    with pytest.raises(RequestRefusedError, match="expir") as caught:
        await stage.agent.submit(signed)
    assert caught.value.status == 400
    assert caught.value.hint


async def test_a_canister_that_traps(stage, trapping) -> None:
    for call, method in ((stage.agent.update, "go"), (stage.agent.query, "look")):
        with pytest.raises(CallRejectedError, match="out of cheese") as caught:
            await call(trapping, method, EMPTY)
        assert caught.value.code == 5
        assert caught.value.error_code == "IC0503"
        assert "undone" in caught.value.hint


async def test_no_replica_at_all(stage) -> None:
    identity = stage.agent.identity
    root_key = stage.network.root_key
    async with Agent("http://127.0.0.1:9", identity=identity, root_key=root_key) as agent:
        with pytest.raises(NotSentError, match="nothing was sent"):
            await agent.update(NOBODY, "anything", EMPTY)


async def test_something_that_is_no_module(stage) -> None:
    with pytest.raises(UsageError, match=r"give the \.wasm file"):
        await stage.network.deploy(stage.agent, b"#!/bin/sh")
    with pytest.raises(CallRejectedError, match="not valid"):
        await stage.network.deploy(stage.agent, b"\x00asmwhat")


async def test_a_module_over_an_installed_one(stage) -> None:
    with pytest.raises(CallRejectedError, match="not empty"):
        await stage.network.deploy(
            stage.agent, b"\x00asm\x01\x00\x00\x00", canister_id=stage.echo.canister_id
        )


async def test_somebody_who_is_no_controller(stage) -> None:
    async with stage.network.agent(Identity.generate()) as stranger:
        with pytest.raises(CallRejectedError, match="controller"):
            await stage.network.deploy(
                stranger,
                b"\x00asm\x01\x00\x00\x00",
                canister_id=stage.echo.canister_id,
                mode="reinstall",
            )


async def test_the_admin_interface_of_a_replica_that_has_none(tmp_path) -> None:
    from bridge.network import Network

    async with Network.embedded() as network:
        assert network.admin is None
        with pytest.raises(ReplicaError, match="start the replica with --admin"):
            await AdminClient(network.url).messages()


@pytest.mark.parametrize("body", [b"", b"what", b"\xd9\xd9\xf7\xa0", b"\xff" * 100])
async def test_garbage_is_refused_with_a_text_and_the_replica_goes_on(stage, body: bytes) -> None:
    url = f"{stage.network.url}/api/v4/canister/{stage.echo.canister_id}/call"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers={"Content-Type": "application/cbor"}) as response,
    ):
        text = await response.text()
        assert response.status == 400
    assert text
    assert "Traceback" not in text
    assert (await stage.agent.status()).root_key == stage.network.root_key


def test_the_command_line_prints_one_line_and_a_hint_not_a_traceback(tmp_path) -> None:
    trace = tmp_path / "broken.jsonl"
    trace.write_text("{}\n")
    command = [sys.executable, "-m", "bridge.cli", "timeline", str(trace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    said, hint = done.stderr.splitlines()
    assert said == "ic-bridge: line 1 of the trace is not a message record"
    assert hint.startswith("  a record has the fields time, flow, sender,")
