"""A virtual network under faults keeps the promises; each broken rule is found by some seed."""

import json
from pathlib import Path

import pytest
from flow_lab import broken_rules as rules
from flow_lab.run_simulation import failure_of, shrink
from flow_lab.simulate import FAULTS, Plan, run

from bridge.flow import (
    engine,
)

CASES = sorted((Path(__file__).resolve().parent / "cases").glob("*.json"))


@pytest.mark.parametrize("seed", range(7))  # make simulate tries fresh ones
def test_a_seed_keeps_the_promises(seed):
    run(Plan(seed=seed, flows=150))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_is_survived(fault):
    run(Plan(seed=7, flows=80, faults=(fault,)))


def test_one_seed_is_one_run():
    assert run(Plan(seed=5, flows=60)) == run(Plan(seed=5, flows=60))
    assert run(Plan(seed=5, flows=60)) != run(Plan(seed=6, flows=60))


def test_runs_that_failed_once_are_kept_and_hold():
    for case in CASES:
        plan = json.loads(case.read_text())
        run(Plan(seed=plan["seed"], flows=plan["flows"], faults=tuple(plan["faults"])))


# --- Rules broken on purpose --------------------------------------------------------------------


MUTANTS = [
    rules.no_caller_check,
    rules.forgotten_tombstone,
    rules.no_echo_limit,
    rules.attempts_without_end,
    rules.lifetime_never_over,
    rules.lost_by_restart,
    rules.fin_claims_what_is_not_stored,
    rules.rerun_unmarked,
    rules.horizon_by_the_clock,
]


# What shows only when rare faults meet is looked for where they are not rare.
NEEDS = {rules.horizon_by_the_clock: ("clock", "delay", "duplicates")}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_rule_broken_on_purpose_is_found(mutant, monkeypatch):
    monkeypatch.setattr(engine, "step", mutant)
    faults = NEEDS.get(mutant, FAULTS)
    plans = (Plan(seed=seed, flows=200, faults=faults) for seed in range(60))
    broken = next(filter(None, map(failure_of, plans)), None)
    assert broken is not None
    smaller = shrink(broken.plan)
    assert smaller.plan.flows <= broken.plan.flows
    assert set(smaller.plan.faults) <= set(faults)
    assert len(smaller.plan.faults) < len(FAULTS)
    assert smaller.timeline
