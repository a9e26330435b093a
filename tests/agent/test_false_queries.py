"""Answers to queries that no node of the subnet has signed: none is believed."""

import pytest

from bridge import wire
from bridge.errors import (
    QuerySignatureError,
)
from bridge.wire import keys

SECOND = 1_000_000_000
REPLY = b"DIDL\0\0reply"


def query_lie(change):
    """An answer whose parts a test changes after they were signed."""

    async def answer(ask):
        response = {"status": "replied", "reply": {"arg": REPLY}}
        return wire.encode(change(ask, response, ask.replica.sign_query(response, ask.id)))

    answer.__name__ = change.__name__
    return answer


def unsigned(ask, response, signature):
    return response


def no_signatures(ask, response, signature):
    return {**response, "signatures": []}


def changed_reply(ask, response, signature):
    return {"status": "replied", "reply": {"arg": b"else"}, "signatures": [signature]}


def dressed_reject(ask, response, signature):
    reject = {"status": "rejected", "reject_code": 4, "reject_message": "no"}
    return {**response, "signatures": [ask.replica.sign_query(reject, ask.id)]}


def resigned(ask, response, signature):
    forged = ask.replica.sign_query(response, ask.id, key=keys.Ed25519Key.generate())
    return {**response, "signatures": [forged]}


def by_a_stranger(ask, response, signature):
    return {**response, "signatures": [{**signature, "identity": b"\1" * 28 + b"\2"}]}


def partly_signed(ask, response, signature):
    forged = ask.replica.sign_query(response, ask.id, key=keys.Ed25519Key.generate())
    return {**response, "signatures": [signature, forged]}


def replayed(ask, response, signature):
    return {**response, "signatures": [ask.replica.sign_query(response, bytes(32))]}


def stale_signature(ask, response, signature):
    old = ask.replica.now - 400 * SECOND
    return {**response, "signatures": [ask.replica.sign_query(response, ask.id, timestamp=old)]}


def future_signature(ask, response, signature):
    new = ask.replica.now + 400 * SECOND
    return {**response, "signatures": [ask.replica.sign_query(response, ask.id, timestamp=new)]}


def too_many(ask, response, signature):
    return {**response, "signatures": [signature] * 1000}


def malformed(ask, response, signature):
    return {**response, "signatures": [{"identity": "me"}]}


QUERY_LIES = {
    unsigned: "not signed by any node",
    no_signatures: "not signed by any node",
    changed_reply: "not what node",
    dressed_reject: "not what node",
    resigned: "not what node",
    by_a_stranger: "no node of subnet",
    partly_signed: "not what node",
    replayed: "not what node",
    stale_signature: "400 s ago",
    future_signature: "in the future",
    too_many: "1000 signatures",
    malformed: "a node signature has",
}


@pytest.mark.parametrize(
    ("change", "message"), QUERY_LIES.items(), ids=lambda x: getattr(x, "__name__", "")
)
async def test_a_false_answer_to_a_query_is_not_believed(agent, replica, canister, change, message):
    replica.lie("query", query_lie(change), forever=True)
    with pytest.raises(QuerySignatureError, match=message):
        await agent.query(canister, "peek")


async def test_an_unknown_signer_has_the_keys_fetched_once_more(agent, replica, canister):
    assert await agent.query(canister, "peek") == REPLY
    replica.node = keys.Ed25519Key.generate()  # a node has joined
    assert await agent.query(canister, "peek") == REPLY
    assert replica.asked.count(("read_state", "v3")) == 2


async def test_unsigned_queries_are_taken_only_by_the_loudly_named_choice(
    connect, replica, canister, caplog
):
    replica.lie("query", query_lie(unsigned), forever=True)
    async with connect(dangerously_believe_unsigned_queries=True) as agent:
        assert await agent.query(canister, "peek") == REPLY
    assert "NOT verified" in caplog.text
