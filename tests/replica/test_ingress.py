"""Users' calls on their way: what threads find out of them gets told, and ids leave nothing."""

import asyncio
import threading

from bridge.principal import Principal
from bridge.replica.http.ingress import Ingress, Teller
from bridge.replica.http.load import HttpLimits, Load
from bridge.replica.state.messages import FromUser, RejectCode, Request
from bridge.replica.state.requests import RequestRecord

THREADS, EACH = 8, 300


async def test_every_future_gets_what_it_is_told_by_any_thread():
    teller = Teller()
    loop = asyncio.get_running_loop()
    futures = [[loop.create_future() for _ in range(EACH)] for _ in range(THREADS)]
    together = threading.Barrier(THREADS)

    def tell(thread):
        together.wait()
        for number, future in enumerate(futures[thread]):
            teller.tell(future, (thread, number))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for number, mine in enumerate(futures):
        assert await asyncio.gather(*mine) == [(number, at) for at in range(EACH)]
    for thread in threads:
        thread.join()


async def test_who_waits_no_more_is_passed_over():
    teller = Teller()
    loop = asyncio.get_running_loop()
    gone, waiting = loop.create_future(), loop.create_future()
    gone.cancel()
    teller.tell(gone, "for nobody")
    teller.tell(waiting, "first")
    teller.tell(waiting, "second")
    assert await waiting == "first"
    assert gone.cancelled()


async def test_calls_to_canisters_that_are_not_there_leave_nothing_behind(replica):
    ingress = Ingress(replica._rounds, Load(HttpLimits()), Teller())
    user = Principal.anonymous()
    for number in range(3):
        nobody = Principal(bytes([0, 0, 0, 0, 9, 9, 9, number, 1, 1]))
        request_id = bytes([number]) * 32
        told = await ingress.submit(
            RequestRecord(request_id, 2**62, user.raw, nobody.raw, nobody.raw),
            Request(FromUser(request_id), user, nobody, "update", b""),
            until_answered=True,
        )
        assert told.code is RejectCode.DESTINATION_INVALID
    assert not ingress._sent
    assert not ingress._taken
