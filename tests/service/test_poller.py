"""Polling an outbox: everything is taken, stored, then trimmed; failures pause and never end it.

The outbox here is a scripted stand-in for a canister that fails on demand; the real one is polled
in the end-to-end tests.
"""

import asyncio

from bridge.errors import CallRejectedError, StoreError, TransportError
from bridge.flow import New
from bridge.principal import Principal
from bridge.service.outbox import Entry, Poller

CANISTER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")


class ScriptedOutbox:
    """Gives each page once; an exception in place of a page is raised."""

    def __init__(self, *pages):
        self.pages = list(pages)
        self.trimmed = []
        self.looked = 0

    async def fetch(self):
        self.looked += 1
        page = self.pages.pop(0) if self.pages else []
        if isinstance(page, Exception):
            raise page
        return page

    async def trim(self, seq):
        self.trimmed.append(seq)


def refused(error_code):
    return CallRejectedError(
        "no", code=5, reject_message="no", error_code=error_code, certified=False
    )


async def go_on(error, again):
    return True


async def busy():
    return False


def page(*numbers):
    return [Entry(seq, New(seq, b""), CANISTER) for seq in numbers]


async def polled(outbox, take=None, *, until, pause=0.001, longest_pause=0.01):
    """What was taken and reported until a condition holds."""
    taken, reported = [], []

    async def keep(entries):
        taken.extend(entry.seq for entry in entries)

    async def report(error, again):
        reported.append((error, again))
        return True

    poller = Poller(outbox, take or keep, report, busy, pause=pause, longest_pause=longest_pause)
    running = asyncio.create_task(poller.run())
    async with asyncio.timeout(120):
        while not until(taken, reported):  # noqa: ASYNC110 - it watches a stand-in
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return taken, reported


async def test_pages_are_taken_in_order_and_trimmed_after_each():
    outbox = ScriptedOutbox(page(1, 2), page(3))
    taken, reported = await polled(outbox, until=lambda *_: outbox.looked > 3)
    assert taken == [1, 2, 3]
    assert outbox.trimmed == [2, 3]
    assert reported == []


async def test_a_failing_canister_is_asked_again_and_each_way_to_fail_is_new_once():
    here, denied, there = TransportError("here"), refused("IC0503"), refused("IC0301")
    outbox = ScriptedOutbox(here, TransportError("here too"), denied, there, here, page(1), here)
    taken, reported = await polled(outbox, until=lambda _taken, reported: len(reported) == 6)
    assert taken == [1]
    assert [again for _, again in reported] == [False, True, False, False, False, False]


async def test_polling_ends_where_a_report_says_that_it_is_of_no_use():
    outbox = ScriptedOutbox(TransportError("no"), refused("IC0301"), page(1))

    async def report(error, again):
        return isinstance(error, TransportError)

    poller = Poller(outbox, None, report, busy, pause=0)
    async with asyncio.timeout(120):
        await poller.run()
    assert outbox.looked == 2


async def test_a_canister_that_is_away_for_days_is_asked_again():
    outbox = ScriptedOutbox(*[TransportError("no")] * 3000, page(1))
    taken, reported = await polled(outbox, until=lambda taken, _: taken, longest_pause=0)
    assert taken == [1]
    assert len(reported) == 3000


async def test_what_could_not_be_stored_is_not_trimmed():
    outbox = ScriptedOutbox(page(1), page(1))
    tries = []

    async def take(entries):
        tries.append(entries)
        if len(tries) == 1:
            raise StoreError("the disk is full")

    _, reported = await polled(outbox, take, until=lambda *_: outbox.trimmed)
    assert len(tries) == 2
    assert outbox.trimmed == [1]
    assert [type(error) for error, _ in reported] == [StoreError]


async def test_a_nudge_ends_the_pause():
    outbox = ScriptedOutbox()
    poller = Poller(outbox, None, None, busy, pause=3600)
    running = asyncio.create_task(poller.run())
    async with asyncio.timeout(120):
        for looks in (1, 2, 3):
            while outbox.looked < looks:  # noqa: ASYNC110 - it watches a stand-in
                await asyncio.sleep(0)
            poller.nudge()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_idle_outbox_is_looked_into_ever_more_seldom_until_a_nudge(monkeypatch):
    waits = []
    timeout = asyncio.timeout

    def recorded(seconds):
        waits.append(seconds)
        return timeout(0)

    monkeypatch.setattr("bridge.service.outbox.asyncio.timeout", recorded)
    outbox = ScriptedOutbox()

    async def idle():
        if outbox.looked == 5:
            poller.nudge()
        return outbox.looked < 8

    poller = Poller(outbox, None, None, idle, pause=1.0, longest_pause=5.0)
    running = asyncio.create_task(poller.run())
    while outbox.looked < 10:  # noqa: ASYNC110 - it watches a stand-in
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert waits[:9] == [2.0, 4.0, 5.0, 5.0, 5.0, 2.0, 4.0, 1.0, 1.0]


async def test_polling_can_be_cancelled_at_any_await():
    for waits in range(12):
        outbox = ScriptedOutbox(page(1), TransportError("no"), page(2))
        poller = Poller(outbox, lambda _entries: asyncio.sleep(0), go_on, busy, pause=0)
        running = asyncio.create_task(poller.run())
        for _ in range(waits):
            await asyncio.sleep(0)
        poller.nudge()
        running.cancel()
        await asyncio.wait([running], timeout=120)
        assert running.cancelled()
