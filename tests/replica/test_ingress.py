"""Telling the event loop what threads found out: nothing is lost, whoever tells what when."""

import asyncio
import threading

from bridge.replica.http.ingress import Teller

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
