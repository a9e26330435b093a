"""How long a call takes: the best of several runs, in microseconds, with the spread."""

import gc
import time


def measure(call, *, runs=7, least=0.03):
    call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    count = max(1, int(least / max(once, 1e-9)))
    if once > 1:
        runs = 2
    gc.collect()
    gc.disable()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(count):
            call()
        found.append((time.perf_counter() - start) / count * 1e6)
    gc.enable()
    found.sort()
    return {"best": found[0], "median": found[len(found) // 2], "worst": found[-1]}
