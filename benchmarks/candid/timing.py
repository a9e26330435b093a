"""How much processor time a call takes: the best of several runs, in microseconds, with the spread.

Processor time, since the clock on the wall tells more of what else the machine does.
"""

import gc
import time


def measure(call, *, runs=7, least=0.03):
    call()
    start = time.process_time()
    call()
    once = time.process_time() - start
    count = max(1, int(least / max(once, 1e-9)))
    if once > 1:
        runs = 2
    gc.collect()
    gc.disable()
    found = []
    for _ in range(runs):
        start = time.process_time()
        for _ in range(count):
            call()
        found.append((time.process_time() - start) / count * 1e6)
    gc.enable()
    found.sort()
    return {"best": found[0], "median": found[len(found) // 2], "worst": found[-1]}
