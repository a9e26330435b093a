"""A bounded history is read on: nothing twice, no gap hidden, another history known as such."""

import pytest

from bridge.errors import WatchContractError
from bridge.flow import Role
from bridge.monitor import EventsMissed, FlowEvent, HistoryReset
from bridge.monitor.history import History
from bridge.principal import Principal

PEER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


def event(seq, time=1):
    return FlowEvent(
        seq=seq, time=time, role=Role.SENDER, peer=PEER, msg_id=1, before=None, after=None, why=""
    )


class Ring:
    """A history as the subnet has it, and as a node that lags behind tells it."""

    def __init__(self, *events):
        self.events = list(events)
        self.lagging = None
        self.certified = 0

    async def ask(self, after, limit, certified):
        self.certified += certified
        told = self.events if certified or self.lagging is None else self.lagging
        return [one for one in told if one.seq > after][:limit]


async def all_of(history):
    found = []
    while True:
        told, more = await history.read()
        found += told
        if not more:
            return found


def brief(told):
    return [one.seq if isinstance(one, FlowEvent) else one for one in told]


async def test_each_event_is_told_once_over_many_looks():
    ring = Ring(*map(event, range(1, 2_501)))
    history = History(ring.ask, 0)
    assert brief(await all_of(history)) == list(range(1, 2_501))
    assert await all_of(history) == []
    ring.events.append(event(2_501))
    assert brief(await all_of(history)) == [2_501]
    assert ring.certified == 0


async def test_what_the_history_lost_is_told_in_its_place():
    ring = Ring(*map(event, range(5, 8)))
    history = History(ring.ask, 0)
    assert brief(await all_of(history)) == [EventsMissed(1, 4), 5, 6, 7]
    ring.events = [*map(event, range(20, 22))]
    assert brief(await all_of(history)) == [EventsMissed(8, 19), 20, 21]
    assert str(EventsMissed(8, 19)) == "events 8 to 19 are no longer in the history"


async def test_a_place_is_found_again_by_number_or_by_event():
    ring = Ring(*map(event, range(1, 6)))
    assert brief(await all_of(History(ring.ask, 3))) == [4, 5]
    assert brief(await all_of(History(ring.ask, event(3)))) == [4, 5]
    assert brief(await all_of(History(ring.ask, 5))) == []


@pytest.mark.parametrize("kept", [[], [1], [1, 2]])
async def test_a_history_that_went_back_is_read_from_its_beginning(kept):
    ring = Ring(*(event(seq, time=2) for seq in kept))
    history = History(ring.ask, event(4))
    assert brief(await all_of(history)) == [HistoryReset(4), *kept]


async def test_another_history_that_is_as_long_is_known_by_its_events():
    ring = Ring(*(event(seq, time=2) for seq in range(1, 9)))
    history = History(ring.ask, event(4))
    assert brief(await all_of(history)) == [HistoryReset(4), *range(1, 9)]
    # By its number alone it cannot be told apart.
    assert brief(await all_of(History(ring.ask, 4))) == [5, 6, 7, 8]


async def test_a_node_that_lags_behind_is_no_reset():
    ring = Ring(*map(event, range(1, 6)))
    history = History(ring.ask, 0)
    await all_of(history)
    ring.lagging = ring.events[:2]
    ring.events.append(event(6))
    told, _ = await history.read()
    assert (brief(told), ring.certified) == ([6], 1)


async def test_numbers_that_do_not_grow_are_no_history():
    ring = Ring(event(2), event(1))
    with pytest.raises(WatchContractError, match="event 1 after event 2"):
        await all_of(History(ring.ask, 0))
