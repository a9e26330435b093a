"""What an honest replica gets out of an agent."""

from dataclasses import replace

import pytest
from replica_lies import refusing

from bridge.agent import Agent, Identity, Retries, Timeouts
from bridge.errors import (
    CallOutcomeUnknownError,
    CallRejectedError,
    NotSentError,
    RequestRefusedError,
    TransportError,
    UsageError,
)
from bridge.principal import Principal

SECOND = 1_000_000_000
REPLY = b"DIDL\0\0reply"


@pytest.mark.parametrize("kind", ["anonymous", "ed25519", "secp256k1", "p256", "session"])
async def test_every_kind_of_identity_calls_queries_and_reads(connect, replica, canister, kind):
    if kind == "anonymous":
        identity = Identity.anonymous()
    elif kind == "session":
        owner = Identity.generate()
        identity = owner.session(expiration=replica.now + 60 * SECOND, targets=[canister])
        assert identity.principal == owner.principal
    else:
        identity = Identity.generate(kind)
    async with connect(identity) as agent:
        assert await agent.update(canister, "greet") == REPLY
        assert await agent.query(canister, "peek") == REPLY
        assert await agent.module_hash(canister) == b"h" * 32


async def test_a_rejected_call_is_certified_and_tells_code_and_message(agent, canister):
    with pytest.raises(CallRejectedError, match="I will not") as caught:
        await agent.update(canister, "fail")
    error = caught.value
    assert (error.code, error.error_code, error.certified) == (4, "IC0406", True)
    assert "'fail' on" in error.message


async def test_a_rejected_query_is_an_error_and_not_certified(agent, canister):
    with pytest.raises(CallRejectedError, match="trapped") as caught:
        await agent.query(canister, "fail")
    assert (caught.value.code, caught.value.certified) == (5, False)


async def test_equal_calls_are_two_calls_by_default_and_one_with_the_same_nonce_and_expiry(
    agent, replica, canister
):
    await agent.update(canister, "greet")
    await agent.update(canister, "greet")
    assert len(replica.runs) == 2
    call = agent.sign_update(canister, "greet", nonce=b"once")
    assert await agent.submit(call) == REPLY
    assert await agent.submit(call) == REPLY
    assert len(replica.runs) == 3


async def test_state_reads_show_values_and_prove_absence(agent, replica, canister):
    assert await agent.controllers(canister) == (Principal(b"\4"), canister)
    assert await agent.metadata(canister, "candid:service") == b"service : {}"
    assert await agent.metadata(canister, "nothing") is None
    nobody = Principal(b"\0\0\0\0\0\0\0\x02\x01\x01")
    assert await agent.module_hash(nobody) is None
    assert await agent.controllers(nobody) == ()
    assert abs(await agent.time(canister) - replica.now) < 60 * SECOND
    certificate = await agent.read_subnet_state(replica.subnet_id, [(b"subnet",)])
    assert certificate.signer(replica.root.public_key_der) == replica.subnet_id


async def test_facts_of_canisters_and_subnets_are_certified(agent, replica, canister):
    facts = await agent.canister_facts(canister)
    assert (facts.module_hash, facts.controllers[1]) == (b"h" * 32, canister)
    assert abs(facts.time - replica.now) < 60 * SECOND
    for replica.flat_ranges in (False, True):
        subnet = await agent.subnet_facts(canister)
        assert subnet.subnet_id == replica.subnet_id
        assert subnet.public_key == replica.subnet.public_key_der
        assert subnet.nodes == (replica.node_id,)
        assert subnet.type == "application"
        ((low, high),) = subnet.canister_ranges
        assert low < canister < high
        replica.missing_versions = {"v3", "v4"}


async def test_controllers_that_are_no_list_of_principals_are_an_error(agent, replica, canister):
    from bridge import wire
    from bridge.errors import CertificateError
    from bridge.wire import hashtree, leb128

    for value in (wire.encode(["text"]), wire.encode(7), b"", wire.encode([bytes(30)])):

        async def odd(ask, value=value):
            tree = hashtree.build(
                {
                    b"time": leb128.encode(ask.replica.now),
                    b"canister": {canister.raw: {b"controllers": value, b"module_hash": b""}},
                }
            )
            data = ask.replica.certify(ask.envelope.content["paths"], tree=tree)
            return wire.encode({"certificate": data})

        replica.lie("read_state", odd)
        with pytest.raises(CertificateError, match="controllers"):
            await agent.controllers(canister)


async def test_node_keys_are_fetched_once(agent, replica, canister):
    for _ in range(3):
        await agent.query(canister, "peek")
    assert replica.asked.count(("read_state", "v3")) == 1


async def test_node_keys_are_fetched_again_after_an_hour(connect, replica, canister):
    import time

    async with connect(clock=lambda: time.time_ns() + replica.skew) as agent:
        for replica.skew, fetched in ((0, 1), (3500 * SECOND, 1), (3700 * SECOND, 2)):
            assert await agent.query(canister, "peek") == REPLY
            assert replica.asked.count(("read_state", "v3")) == fetched


async def test_node_keys_serve_all_canisters_of_their_subnet(agent, replica, canister):
    await agent.query(canister, "peek")
    for number in range(2, 6):
        other = Principal(bytes([0, 0, 0, 0, 0, 0, 0, number, 1, 1]))
        assert await agent.query(other, "peek") == REPLY
    assert replica.asked.count(("read_state", "v3")) == 1


async def test_each_poll_has_an_expiry_of_its_own(agent, replica, canister):
    replica.missing_versions = {"v3", "v4"}  # v2 calls are polled
    replica.flat_ranges = True
    replica.lie("read_state", unknown, unknown, unknown)
    await agent.update(canister, "greet")
    assert len(replica.expiries) >= 4
    assert len(set(replica.expiries)) == len(replica.expiries)


async def unknown(ask):
    """An honest certificate from before the call was known."""
    known, ask.replica.statuses = ask.replica.statuses, {}
    data = ask.replica.certify([(b"request_status",)])
    ask.replica.statuses = known
    from bridge import wire

    return wire.encode({"certificate": data})


@pytest.mark.parametrize("missing", [{"v4"}, {"v4", "v3"}])
async def test_older_replicas_are_spoken_to_in_their_version(agent, replica, canister, missing):
    replica.missing_versions = missing
    replica.flat_ranges = True
    assert await agent.update(canister, "greet") == REPLY
    asked = len(replica.asked)
    assert await agent.update(canister, "greet") == REPLY
    again = replica.asked[asked:]
    assert not [version for kind, version in again if kind == "call" and version in missing]
    if "v3" in missing:
        assert await agent.query(canister, "peek") == REPLY


async def test_the_newest_version_is_tried_again_after_an_hour(connect, replica, canister):
    import time

    ahead = 0
    replica.flat_ranges = True
    async with connect(Identity.generate(), clock=lambda: time.time_ns() + ahead) as agent:
        replica.missing_versions = {"v4"}
        assert await agent.update(canister, "greet") == REPLY
        replica.missing_versions = set()
        assert await agent.update(canister, "greet") == REPLY
        assert replica.asked[-1] == ("call", "v3")
        ahead = 3601 * SECOND
        replica.skew = ahead
        replica.flat_ranges = False
        assert await agent.update(canister, "greet") == REPLY
        assert replica.asked[-1] == ("call", "v4")


async def test_what_is_no_replica_refuses_by_its_status(agent, replica, canister):
    replica.missing_versions = {"v2", "v3", "v4"}
    for ask in (agent.update, agent.query):
        with pytest.raises(RequestRefusedError, match="404") as caught:
            await ask(canister, "greet")
        assert caught.value.status == 404
        assert "URL" in caught.value.hint


async def test_a_refused_request_tells_why_once_the_subnet_is_seen_not_to_have_it(
    connect, replica, canister
):
    async with connect(Identity.generate()) as agent:
        bad = agent.sign_update(canister, "greet", ingress_expiry=replica.now - SECOND)
        with pytest.raises(RequestRefusedError, match="ingress_expiry passed") as caught:
            await agent.submit(bad)
        assert caught.value.status == 400
    assert [kind for kind, _ in replica.asked] == ["call", "read_state"]
    assert replica.runs == []


async def test_an_unreachable_replica_is_certainly_not_sent_to(connect, canister):
    async with connect(url="http://127.0.0.1:1") as agent:
        for ask in (agent.update, agent.query):
            with pytest.raises(NotSentError, match="no connection") as caught:
                await ask(canister, "greet")
            assert "nothing was sent" in caught.value.hint
        with pytest.raises(NotSentError):
            await agent.status()


async def test_a_local_agent_takes_the_root_key_from_loopback_only(replica, canister):
    async with await Agent.local(replica.url) as agent:
        assert agent.root_key == replica.root.public_key_der
        assert await agent.update(canister, "greet") == REPLY
        assert (await agent.status()).health == "healthy"
    for url in (
        "http://example.org",
        "https://10.0.0.1",
        "http://127.0.0.1.example.org",
        "http://[bad",
        "",
    ):
        with pytest.raises(UsageError, match="loopback"):
            await Agent.local(url)


async def test_another_root_key_believes_nothing_and_says_what_to_do(connect, canister, replica):
    from bridge.errors import CertificateError

    async with connect(root_key=None) as agent:
        for ask in (agent.update, agent.query):
            with pytest.raises(CertificateError, match="root key") as caught:
                await ask(canister, "greet")
            assert "mainnet's is the default" in caught.value.hint


@pytest.mark.parametrize("url", ["", "127.0.0.1:4943", "ftp://host", "http://", "http://[bad"])
async def test_what_is_no_url_is_refused(url):
    with pytest.raises(UsageError):
        Agent(url)


@pytest.mark.parametrize("url", ["https://me:hush@127.0.0.1", "https://:hush@127.0.0.1"])
async def test_a_password_in_the_url_is_refused_and_not_shown(url):
    with pytest.raises(UsageError, match="leave them out") as caught:
        Agent(url)
    assert "hush" not in str(caught.value)


async def test_what_is_no_root_key_is_refused():
    with pytest.raises(UsageError, match="133 bytes"):
        Agent("http://127.0.0.1:1", root_key=b"key")


async def test_a_closed_agent_says_so(connect, canister):
    agent = connect()
    async with agent:
        pass
    with pytest.raises(UsageError, match="closed"):
        await agent.query(canister, "peek")


# --- Signing here, sending there ----------------------------------------------------------------


async def test_a_call_signed_offline_is_sent_by_who_holds_no_key(connect, replica, canister):
    from bridge.agent import SignedCall

    signer = connect(Identity.generate())
    text = signer.sign_update(canister, "greet", with_status_request=True).to_json()
    replica.missing_versions = {"v3", "v4"}
    replica.flat_ranges = True
    call = SignedCall.from_json(text)
    assert call.request.method_name == "greet"
    assert call.request.sender == signer.principal
    async with connect() as sender:
        assert await sender.submit(call) == REPLY
        assert await sender.wait(call) == REPLY
    assert replica.runs == ["greet"]


async def test_who_cannot_ask_for_the_outcome_does_not_send(connect, replica, canister):
    call = connect(Identity.generate()).sign_update(canister, "greet")
    async with connect() as sender:
        with pytest.raises(UsageError, match="cannot ask how the call ended"):
            await sender.submit(call)
    assert replica.asked == []


async def test_a_changed_signed_call_is_not_read(connect, canister):
    from bridge.agent import SignedCall

    call = connect(Identity.generate()).sign_update(canister, "greet")
    text = call.to_json()
    for change in (
        ('"greet"', '"drain"'),
        ('"arg": "', '"arg": "00'),
        ('"ingress_expiry": ', '"ingress_expiry": 1'),
        ('"request_id": "', '"request_id": "00'),
        (f'"sender": "{call.request.sender}"', '"sender": "2vxsx-fae"'),
        (f'"canister_id": "{canister}"', '"canister_id": "aaaaa-aa"'),
    ):
        assert change[0] in text
        with pytest.raises(UsageError, match="but signed is"):
            SignedCall.from_json(text.replace(*change, 1))
    for junk in ("", "{}", "[]", text[:-40], "[" * 100_000):
        with pytest.raises(UsageError, match="not a signed call"):
            SignedCall.from_json(junk)


# --- Time is up ---------------------------------------------------------------------------------


async def test_a_call_without_an_answer_in_time_is_unknown_and_can_be_waited_for(
    connect, replica, canister, silence
):
    timeouts = Timeouts(first_poll=1_000_000, longest_poll=5_000_000)
    async with connect(Identity.generate(), timeouts=timeouts) as agent:
        call = agent.sign_update(canister, "greet")

        async def take_and_hang(ask):
            ask.replica.take(ask.id, "greet")
            await silence(ask)

        replica.lie("call", take_and_hang)
        with pytest.raises(CallOutcomeUnknownError, match=call.request_id.hex()):
            await agent.submit(call, within=SECOND)
        assert await agent.wait(call) == REPLY
    assert replica.runs == ["greet"]


async def test_a_deadline_holds_for_a_call_whose_clock_is_measured_in_between(
    connect, replica, canister, silence
):
    import asyncio
    import time

    async with connect(
        Identity.generate(), timeouts=Timeouts(), clock=lambda: time.time_ns() - 1200 * SECOND
    ) as agent:
        replica.lie("read_state", None, silence, forever=True)  # the look whether it is known
        async with asyncio.timeout(120):
            with pytest.raises(RequestRefusedError, match="ingress_expiry passed"):
                await agent.update(canister, "greet", within=2 * SECOND)
    assert replica.runs == []


async def test_a_call_that_was_only_refused_when_time_is_up_was_refused(connect, replica, canister):
    replica.lie("call", refusing(429, after=60), forever=True)
    async with connect(Identity.generate(), retries=Retries()) as agent:
        with pytest.raises(RequestRefusedError) as caught:
            await agent.update(canister, "greet", within=SECOND)
    assert caught.value.status == 429


async def test_a_slow_query_ends_at_the_request_s_timeout(connect, replica, canister, silence):
    timeouts = replace(Timeouts(), request=SECOND // 20)
    async with connect(timeouts=timeouts) as agent:
        replica.lie("query", silence, forever=True)
        with pytest.raises(TransportError, match="did not answer within"):
            await agent.query(canister, "peek")
