"""Who is asking: keys that are no plain keys, over HTTP."""

import base64
import json
import time
from hashlib import sha256

import canister_signatures
import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bridge import wire
from bridge.principal import Principal
from bridge.wire.keys import Ed25519Key

MINUTE = 60 * 1_000_000_000
SELF_DESCRIBED = b"\xd9\xd9\xf7"
SEED = b"a user of this canister"


@pytest.fixture
async def canister(client, universal_wasm):
    return await client.create(universal_wasm(True))


def whoami(program):
    return program().append_blob_of("msg_caller").reply()


async def send(client, canister, envelope, request_id):
    """Post a call; the certified caller, or the refusal."""
    status, body = await client.post(f"/api/v4/canister/{canister}/call", envelope.to_cbor())
    if status != 200:
        return body
    certificate = wire.Certificate.from_cbor(body["certificate"])
    certificate.verify(client.replica.root_key, canister, now=time.time_ns())
    return certificate.value((b"request_status", request_id, b"reply"))


def asking(client, canister, program, sender):
    content = client.content(
        "call", canister_id=canister.raw, method_name="update", arg=bytes(whoami(program))
    )
    content["sender"] = sender.raw
    return content


@pytest.mark.covers("canister signatures")
async def test_a_canister_signs_for_its_users(client, canister, program):
    public_key = canister_signatures.public_key(canister, SEED)
    sender = Principal.self_authenticating(public_key)
    session = Ed25519Key.generate()
    delegation = wire.Delegation(session.public_key_der, time.time_ns() + MINUTE)

    async def signed_by_canister(payload):
        """What such a canister does: it certifies the hash of what it signs."""
        tree = canister_signatures.signed(SEED, payload)
        put = program().certified_data_set(tree.digest()).reply(b"")
        await client.certified(canister, "update", put)
        asked = program().append_blob_of("data_certificate").reply()
        _, body, _ = await client.query(canister, "query", asked)
        return canister_signatures.signature(body["reply"]["arg"], tree)

    async def call(link):
        content = asking(client, canister, program, sender)
        envelope = wire.Envelope.sign(
            content, session, delegations=[link], sender_pubkey=public_key
        )
        return await send(client, canister, envelope, wire.request_id(content))

    link = wire.SignedDelegation(delegation, await signed_by_canister(delegation.payload()))
    assert await call(link) == sender.raw
    forged = wire.SignedDelegation(delegation, await signed_by_canister(b"something else"))
    assert "not signed by its giver" in await call(forged)


@pytest.mark.covers("WebAuthn")
async def test_a_web_authenticator_signs(client, canister, program):
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
    cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})
    # The object identifier of COSE keys (interface specification, section Signatures).
    inside = bytes.fromhex("300c060a2b0601040183b8430101") + bytes([3, len(cose) + 1, 0]) + cose
    public_key = bytes([0x30, len(inside)]) + inside
    sender = Principal.self_authenticating(public_key)

    async def call(challenge_of):
        content = asking(client, canister, program, sender)
        request_id = wire.request_id(content)
        challenge = b"\x0aic-request" + challenge_of(request_id)
        encoded = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
        told = json.dumps({"type": "webauthn.get", "challenge": encoded, "origin": "https://x"})
        data = bytes(37)
        signed = key.sign(data + sha256(told.encode()).digest(), ec.ECDSA(hashes.SHA256()))
        assertion = {"authenticator_data": data, "client_data_json": told, "signature": signed}
        envelope = wire.Envelope(
            content=content,
            sender_pubkey=public_key,
            sender_sig=SELF_DESCRIBED + cbor2.dumps(assertion),
            sender_delegation=None,
        )
        return await send(client, canister, envelope, request_id)

    assert await call(lambda request_id: request_id) == sender.raw
    assert "another challenge" in await call(lambda _request_id: bytes(32))


@pytest.mark.covers("anonymous")
async def test_the_anonymous_user_needs_no_signature(client, canister, program):
    content = asking(client, canister, program, Principal.anonymous())
    envelope = wire.Envelope(content, None, None, None)
    assert await send(client, canister, envelope, wire.request_id(content)) == b"\x04"
