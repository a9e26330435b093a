"""How the dialect of a new flow is chosen.

The agent here is a stand-in that tells scripted metadata; real metadata is read in the end-to-end
tests.
"""

import asyncio

import pytest

from bridge import contracts
from bridge.errors import TransportError, UsageError
from bridge.flow import PeerPolicy, Policy
from bridge.principal import Principal
from bridge.service.peers import PeerDialects

PEER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
OTHER = Principal.from_text("ryjl3-tyaaa-aaaaa-aaaba-cai")
MINUTE = 60 * 1_000_000_000


class ScriptedMetadata:
    """Tells the text that it was given for each peer; an exception in its place is raised."""

    def __init__(self, **texts):
        self.texts = texts
        self.asked = 0

    async def metadata(self, peer, name):
        assert name == "candid:service"
        self.asked += 1
        await asyncio.sleep(0)
        text = self.texts["peer" if peer == PEER else "other"]
        if isinstance(text, Exception):
            raise text
        return text


def choose_by(agent, policy=None, now=None):
    now = now or [0]
    return PeerDialects(agent, policy or Policy(), lambda: now[0])


def did(name):
    return contracts.interface(name).encode()


@pytest.mark.parametrize("name", ["unified", "maf", "bounty", "positional"])
async def test_metadata_tells_the_dialect(name: str) -> None:
    assert await choose_by(ScriptedMetadata(peer=did(name))).choose(PEER, None) == name


@pytest.mark.parametrize(
    "text",
    [None, b"service : {}", b"no interface", b"\xff\xfe", TransportError("no")],
    ids=["none", "another", "garbage", "no text", "unreachable"],
)
async def test_without_a_telling_metadata_unified_is_spoken(text) -> None:
    assert await choose_by(ScriptedMetadata(peer=text)).choose(PEER, None) == "unified"


async def test_configuration_goes_before_metadata_and_the_callers_word_before_both() -> None:
    agent = ScriptedMetadata(peer=did("maf"))
    policy = Policy(peers={PEER: PeerPolicy(dialect="bounty")})
    chooser = choose_by(agent, policy)
    assert await chooser.choose(PEER, None) == "bounty"
    assert await chooser.choose(PEER, "positional") == "positional"
    with pytest.raises(UsageError, match="no dialect 'klingon'"):
        await chooser.choose(PEER, "klingon")
    assert agent.asked == 0


async def test_many_flows_at_once_ask_once_and_a_choice_is_remembered() -> None:
    agent = ScriptedMetadata(peer=did("maf"), other=TransportError("no"))
    chooser = choose_by(agent)
    assert set(await asyncio.gather(*(chooser.choose(PEER, None) for _ in range(50)))) == {"maf"}
    assert agent.asked == 1
    await asyncio.gather(*(chooser.choose(OTHER, None) for _ in range(50)))
    assert agent.asked == 2


async def test_a_silent_peer_is_asked_again_after_a_minute_a_telling_one_after_an_hour() -> None:
    now = [0]
    agent = ScriptedMetadata(peer=did("maf"), other=None)
    chooser = choose_by(agent, now=now)
    for _ in range(2):
        await chooser.choose(PEER, None)
        await chooser.choose(OTHER, None)
    assert agent.asked == 2
    now[0] = MINUTE
    await chooser.choose(PEER, None)
    await chooser.choose(OTHER, None)
    assert agent.asked == 3
    now[0] = 60 * MINUTE
    await chooser.choose(PEER, None)
    assert agent.asked == 4
