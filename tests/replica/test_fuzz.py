"""Damaged and hostile requests: each gets a status and a sentence, and the replica goes on."""

import asyncio
import random

import pytest

from bridge import wire

ENDPOINTS = ("call", "query", "read_state")


def _content(client, kind, canister, program):
    if kind == "read_state":
        return client.content("read_state", paths=[[b"time"], [b"request_status", bytes(32)]])
    return client.content(
        kind,
        canister_id=canister.raw,
        method_name="update" if kind == "call" else "query",
        arg=bytes(program().reply(b"x")),
    )


def _damaged(chance, data):
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        match chance.randrange(4):
            case 0:
                data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                del data[chance.randrange(len(data)) :]
                data += b"\0"
            case 2:
                at = chance.randrange(len(data))
                data[at:at] = chance.randbytes(chance.randint(1, 9))
            case _:
                at = chance.randrange(len(data))
                data[at : at + chance.randint(1, 9)] = b""
                data += b"\0"
    return bytes(data)


STRANGE = [
    None, True, -1, 0, 2**64, 2**200, 1.5, "", "x" * 5000, b"", b"\xff" * 40, [], {}, [[[[]]]],
    {"a": {"b": 1}}, [b"x"] * 2000,
]  # fmt: skip


def _strange(chance, content):
    """One field given a value of another kind, taken away, or added."""
    changed = dict(content)
    name = chance.choice([*changed, "surprise"])
    if chance.random() < 0.2:
        changed.pop(name, None)
    else:
        changed[name] = chance.choice(STRANGE)
    return changed


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.covers("any bytes: refused, and the replica goes on")
async def test_no_request_breaks_the_replica(client, universal_wasm, program, seed):
    chance = random.Random(seed)
    canister = await client.create(universal_wasm(True))
    for _ in range(80):
        kind = chance.choice(ENDPOINTS)
        version = chance.choice((2, 3, 4) if kind == "call" else (2, 3))
        content = _content(client, kind, canister, program)
        if chance.random() < 0.5:
            body = _damaged(chance, client.signed(content))
        else:
            content = _strange(chance, content)
            envelope = {
                "content": content,
                "sender_pubkey": client.key.public_key_der,
                "sender_sig": client.key.sign(chance.randbytes(32)),
            }
            if chance.random() < 0.5:
                envelope[chance.choice([*envelope, "sender_delegation"])] = chance.choice(STRANGE)
            body = wire.encode(envelope)
        status, answer = await client.post(f"/api/v{version}/canister/{canister}/{kind}", body)
        assert status in (200, 202, 400, 403), (status, answer, body.hex())
        assert "Traceback" not in str(answer)
    status = await client.certified(canister, "update", program().reply(b"alive"))
    assert status(b"reply") == b"alive"


@pytest.mark.covers("any bytes: refused, and the replica goes on")
async def test_half_sent_requests_do_not_hold_up_others(client, replica, universal_wasm, program):
    canister = await client.create(universal_wasm(True))
    port = int(replica.url.rsplit(":", 1)[1])
    writers = []
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /api/v4/canister/{canister}/call HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: application/cbor\r\nContent-Length: 1000\r\n\r\nabc".encode()
        )
        writers.append(writer)
    status = await client.certified(canister, "update", program().reply(b"alive"))
    assert status(b"reply") == b"alive"
    for writer in writers:
        writer.close()


@pytest.mark.covers("any bytes: refused, and the replica goes on")
async def test_a_client_that_leaves_does_not_stop_its_call(client, universal_wasm, program):
    canister = await client.create(universal_wasm(True))
    leaving = asyncio.create_task(
        client.certified(canister, "update", program().set_counter(5).reply(b""))
    )
    await asyncio.sleep(0.001)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    status = await client.certified(canister, "update", program().reply(b"alive"))
    assert status(b"reply") == b"alive"
