"""The agent against the embedded replica, over real HTTP: bad input is one typed error each."""

import pytest
import wasmtime

from bridge import candid
from bridge.agent import Agent, Identity
from bridge.errors import (
    CallRejectedError,
    CertificateError,
    RequestRefusedError,
    UsageError,
)
from bridge.network import create_canister, install_code
from bridge.principal import Principal
from bridge.replica import Replica

SECOND = 1_000_000_000
MANAGEMENT = Principal.management()

CANISTER = r"""
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "trap" (func $trap (param i32 i32)))
  (import "ic0" "msg_reject" (func $reject (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "DIDL\00\00")
  (data (i32.const 8) "out of cheese")
  (func (export "canister_update greet") (call $append (i32.const 0) (i32.const 6)) (call $reply))
  (func (export "canister_query peek") (call $append (i32.const 0) (i32.const 6)) (call $reply))
  (func (export "canister_update fall") (call $trap (i32.const 8) (i32.const 13)))
  (func (export "canister_query fall_query") (call $trap (i32.const 8) (i32.const 13)))
  (func (export "canister_update refuse") (call $reject (i32.const 8) (i32.const 13))))
"""


@pytest.fixture
async def replica():
    async with Replica(seed=b"agent tests") as made:
        yield made


@pytest.fixture
async def agent(replica):
    async with await Agent.local(replica.url, Identity.generate()) as made:
        yield made


@pytest.fixture
async def installed(agent) -> Principal:
    canister_id = await create_canister(agent)
    await install_code(agent, canister_id, bytes(wasmtime.wat2wasm(CANISTER)))
    return canister_id


@pytest.mark.covers("query", client="bridge")
@pytest.mark.covers("call: answered at once with its certificate (v4)", client="bridge")
@pytest.mark.covers("read_state: module hash and controllers", client="bridge")
@pytest.mark.covers("certificates, up to the root key", client="bridge")
@pytest.mark.covers("query signatures, by a certified node key", client="bridge")
async def test_calls_queries_and_reads_are_verified_end_to_end(agent, replica, installed):
    assert agent.root_key == replica.root_key
    assert await agent.update(installed, "greet") == b"DIDL\0\0"
    assert await agent.query(installed, "peek") == b"DIDL\0\0"
    assert len(await agent.module_hash(installed)) == 32
    assert await agent.controllers(installed) == (agent.principal,)
    assert await agent.metadata(installed, "candid:service") is None
    subnet = await agent.subnet_facts(installed)
    assert len(subnet.nodes) >= 1
    assert any(low.raw <= installed.raw <= high.raw for low, high in subnet.canister_ranges)


@pytest.mark.parametrize("kind", ["secp256k1", "p256", "session", "anonymous"])
@pytest.mark.covers("Ed25519", client="bridge")
@pytest.mark.covers("secp256k1", client="bridge")
@pytest.mark.covers("P-256", client="bridge")
@pytest.mark.covers("anonymous", client="bridge")
@pytest.mark.covers("delegation", client="bridge")
async def test_the_replica_takes_every_kind_of_identity(replica, installed, kind):
    if kind == "session":
        identity = Identity.generate().session(expiration=2**63)
    else:
        identity = Identity.anonymous() if kind == "anonymous" else Identity.generate(kind)
    async with await Agent.local(replica.url, identity) as agent:
        assert await agent.update(installed, "greet") == b"DIDL\0\0"
        assert await agent.query(installed, "peek") == b"DIDL\0\0"


async def test_a_canister_that_does_not_exist(agent, installed):
    nobody = Principal(installed.raw[:7] + b"\x7f\1\1")
    for ask in (agent.update, agent.query):
        with pytest.raises(CallRejectedError) as caught:
            await ask(nobody, "greet")
        assert caught.value.code == 3
        assert "check the canister id" in caught.value.hint


@pytest.mark.covers("rejects: code, text, error code", client="bridge")
async def test_a_method_that_does_not_exist(agent, installed):
    for ask in (agent.update, agent.query):
        with pytest.raises(CallRejectedError, match="nowhere") as caught:
            await ask(installed, "nowhere")
        assert caught.value.code == 5
        assert "check the method name" in caught.value.hint


@pytest.mark.covers("rejects: code, text, error code", client="bridge")
async def test_a_canister_that_traps(agent, installed):
    with pytest.raises(CallRejectedError, match="out of cheese") as caught:
        await agent.update(installed, "fall")
    assert (caught.value.code, caught.value.certified) == (5, True)
    assert "was undone; correct the argument or the canister" in caught.value.hint
    with pytest.raises(CallRejectedError, match="out of cheese") as caught:
        await agent.query(installed, "fall_query")
    assert (caught.value.code, caught.value.certified) == (5, False)


@pytest.mark.covers("rejects: code, text, error code", client="bridge")
async def test_a_canister_that_rejects(agent, installed):
    with pytest.raises(CallRejectedError, match="out of cheese") as caught:
        await agent.update(installed, "refuse")
    assert (caught.value.code, caught.value.certified) == (4, True)


@pytest.mark.covers("refusals: malformed, forged, misaddressed requests", client="bridge")
async def test_an_expired_envelope(agent, installed):
    call = agent.sign_update(installed, "greet", ingress_expiry=agent.clock.now() - SECOND)
    with pytest.raises(RequestRefusedError, match="ingress_expiry passed") as caught:
        await agent.submit(call)
    assert caught.value.status == 400
    assert "set this machine's clock" in caught.value.hint


@pytest.mark.covers("nothing is believed under another root key", client="bridge")
async def test_a_certificate_signed_by_another_key(installed, replica):
    async with Replica(seed=b"another") as other:
        pass
    async with Agent(replica.url, Identity.generate(), other.root_key) as agent:
        for ask in (agent.update, agent.query):
            with pytest.raises(CertificateError, match="not signed with the root key") as caught:
                await ask(installed, "greet" if ask == agent.update else "peek")
            assert "pass its own root key" in caught.value.hint


async def test_a_management_call_that_names_no_canister(agent):
    with pytest.raises(UsageError, match="does not name a canister"):
        await agent.update(MANAGEMENT, "canister_status", candid.encode([candid.Record({})], [{}]))


@pytest.mark.covers("call: answered at once with its certificate (v4)", client="bridge")
async def test_many_calls_at_once(agent, installed):
    import asyncio

    replies = await asyncio.gather(*(agent.update(installed, "greet") for _ in range(64)))
    assert replies == [b"DIDL\0\0"] * 64
