"""The command behind ``make simulate``: many seeds on all cores, and shrinking what failed."""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from flow_lab.simulate import BrokenError, Plan, Simulation, run

CASES = Path(__file__).resolve().parents[1] / "cases"
FLOWS_A_RUN = 1_000


def failure_of(plan: Plan) -> BrokenError | None:
    """How a plan fails; None if it does not."""
    try:
        run(plan)
    except BrokenError as broken:
        return broken
    return None


def shrink(plan: Plan) -> BrokenError:
    """The smallest plan found that still fails, with the timeline of its failure."""
    for fault in plan.faults:
        fewer = replace(plan, faults=tuple(f for f in plan.faults if f != fault))
        if failure_of(fewer):
            plan = fewer
    flows = 2
    while flows < plan.flows:
        if failure_of(replace(plan, flows=flows)):
            plan = replace(plan, flows=flows)
            break
        flows = flows * 2
    try:
        Simulation(plan, trace=True).run()
    except BrokenError as broken:
        return broken
    raise AssertionError("a plan that failed does not fail again")


def keep(broken: BrokenError) -> Path:
    """Keep a failing plan as a case that the tests play from now on."""
    CASES.mkdir(exist_ok=True)
    text = json.dumps(asdict(broken.plan), indent=1)
    path = CASES / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    path.write_text(text + "\n")
    return path


def _attempt(plan: Plan) -> Plan | None:
    return plan if failure_of(plan) else None


def main() -> int:
    """Run as many flows as asked for; the exit code is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--flows", type=int, default=20_000)
    arguments = parser.parse_args()
    seed = arguments.seed
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    runs = max(1, -(-arguments.flows // FLOWS_A_RUN))
    size = min(arguments.flows, FLOWS_A_RUN)
    plans = [Plan(seed=seed + n, flows=size) for n in range(runs)]
    began = time.perf_counter()
    done = 0
    ends = (signal.SIGINT, signal.SIG_DFL)  # an interrupt ends the runs; this process tells of it
    with ProcessPoolExecutor(os.cpu_count(), initializer=signal.signal, initargs=ends) as pool:
        for failed in pool.map(_attempt, plans):
            done += size
            if failed is not None:
                pool.shutdown(cancel_futures=True)
                print(f"seed {failed.seed} fails; shrinking it ...")
                broken = shrink(failed)
                path = keep(broken)
                print(f"BROKEN: {broken}\n{broken.plan}\nkept as {path}")
                print("\n".join(f"  {line}" for line in broken.timeline))
                return 1
            if done % 50_000 < size:
                print(f"  {done:>9,} flows, {time.perf_counter() - began:.0f} s", flush=True)
    spent = time.perf_counter() - began
    print(f"{done:,} flows over {runs} seeds in {spent:.0f} s: every promise was kept")
    print(f"SEED={seed} FLOWS={arguments.flows}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
