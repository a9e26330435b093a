"""Queries and ingress inspection: executions on one node that leave no trace.

Composite queries call other queries of the same subnet, one after another, inside one evaluation.
Rule implemented: interface specification, sections Request: Query call, Composite queries and
Ingress message inspection. These run on threads of their own, beside the rounds.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from bridge.principal import Principal
from bridge.replica.execution.failures import ExecutionError, InstructionLimitError
from bridge.replica.execution.instance import Instance
from bridge.replica.execution.run import Mode, OutgoingCall, Run
from bridge.replica.scheduler.machine import Machine
from bridge.replica.scheduler.rejects import failure_reject, no_method
from bridge.replica.scheduler.sandbox import BusyError, Sandbox, attempt, enter, run_and_settle
from bridge.replica.state.canister import Canister
from bridge.replica.state.messages import (
    FROM_SYSTEM,
    Payload,
    Reject,
    RejectCode,
    Reply,
    Request,
)
from bridge.replica.state.subnet import Ranges

_MAX_DEPTH: Final = 6
_PATIENCE_SECONDS: Final = 5.0
# What a query may take of the thread that serves everybody: a millisecond or two.
_QUICK_INSTRUCTIONS: Final = 2_000_000
_QUICK_SECONDS: Final = 0.001
_COMPOSITE: Final = threading.Lock()
_QUERY_KINDS: Final = ("query", "composite_query")


@dataclass(slots=True)
class _Evaluation:
    """One query from outside with all that it calls."""

    machine: Machine
    ranges: Ranges
    instructions_left: int
    entered: list[Principal] = field(default_factory=list)


def _prepare(
    machine: Machine,
    request: Request,
    run_mode: Mode | None = None,
    *,
    ranges: Ranges | None = None,
) -> tuple[Canister, Sandbox, Run, str] | Reject:
    """Look up, under the machine's lock, what a query needs.

    Args:
        machine: The subnet at work.
        request: The query.
        run_mode: Where it runs; by default what its method says.
        ranges: What the delegation in its data certificate shows; ``None`` if it gets none.
    """
    canister = machine.subnet.canisters.get(request.receiver)
    if canister is None:
        return Reject(
            RejectCode.DESTINATION_INVALID, f"Canister {request.receiver} not found", "IC0301"
        )
    refusal = machine.refusal(canister)
    if refusal is not None:
        return refusal
    sandbox = machine.sandbox(canister)
    assert sandbox.instance is not None
    kind = sandbox.instance.info.methods.get(request.method)
    if run_mode is None and kind not in _QUERY_KINDS:
        return no_method(canister, "query", request.method)

    def certificate() -> bytes:
        assert ranges is not None
        with machine.lock:
            return machine.data_certificate(canister, ranges)

    machine.time = machine.clock.now()
    run = Run(
        mode=run_mode or (Mode.NRQ if kind == "query" else Mode.CQ),
        environment=machine.environment(
            canister, data_certificate=None if ranges is None else certificate
        ),
        instruction_limit=machine.limits.query,
        caller=request.sender.raw,
        arg=request.arg,
        method=request.method,
        can_respond=run_mode is None,
        caller_info=request.caller_info,
        caller_info_signer=request.caller_info_signer,
    )
    return canister, sandbox, run, f"canister_{kind} {request.method}"


def query(machine: Machine, request: Request, ranges: Ranges = Ranges.SHARDED) -> Payload:
    """Answer a query; nothing that it does stays.

    Args:
        machine: The subnet at work.
        request: The query.
        ranges: What the delegation in its data certificate shows.
    """
    if not request.receiver.raw:
        return _management(machine, request)
    evaluation = _Evaluation(machine, ranges, machine.limits.query)
    with machine.lock:
        prepared = _prepare(machine, request, ranges=ranges)
    if isinstance(prepared, Reject):
        return prepared
    if prepared[2].mode is Mode.NRQ:
        return _run(evaluation, request, *prepared)
    # A composite query enters several canisters at a time: two at once might wait for each other.
    with _COMPOSITE:
        return _run(evaluation, request, *prepared)


class NotQuickError(Exception):
    """The query cannot be answered at once: it must be given a thread of its own."""


def quick_query(machine: Machine, request: Request, ranges: Ranges = Ranges.SHARDED) -> Payload:
    """Answer a query at once, on the thread that serves everybody.

    It gets few instructions. A query has no effects, so one that needs more is just begun again,
    by ``query`` on another thread.

    Args:
        machine: The subnet at work.
        request: The query.
        ranges: What the delegation in its data certificate shows.

    Raises:
        NotQuickError: If it needs more, is a composite one, or would have to wait for a lock.
    """
    if not machine.lock.acquire(timeout=_QUICK_SECONDS):
        raise NotQuickError
    try:
        prepared = _prepare(machine, request, ranges=ranges)
    finally:
        machine.lock.release()
    if isinstance(prepared, Reject):
        return prepared
    canister, sandbox, run, export = prepared
    if run.mode is not Mode.NRQ or sandbox.waiting or not sandbox.lock.acquire(blocking=False):
        raise NotQuickError
    try:
        instance = sandbox.instance
        if instance is None or not instance.has(export):
            raise NotQuickError
        run.instruction_limit = _QUICK_INSTRUCTIONS
        failure = run_and_settle(instance, enter(instance, run, export), keep=False)
    finally:
        sandbox.lock.release()
    if isinstance(failure, InstructionLimitError):
        raise NotQuickError
    answer = _answer_of(canister, run, failure)
    _keep_traces(machine, canister, run, answer)
    return answer


def _keep_traces(machine: Machine, canister: Canister, run: Run, answer: Payload) -> None:
    """What stays of a query: the statistics. Its log does not."""
    with machine.lock:
        machine.subnet.mark(canister.canister_id)
        queries = canister.queries
        queries.calls += 1
        queries.instructions += run.instructions
        queries.request_bytes += len(run.arg)
        queries.response_bytes += len(
            answer.data if isinstance(answer, Reply) else answer.message.encode()
        )


def _management(machine: Machine, request: Request) -> Payload:
    with machine.lock:
        machine.time = machine.clock.now()
        return machine.management_query(machine, request)


def _nested_query(evaluation: _Evaluation, request: Request) -> Payload:
    if not request.receiver.raw:
        return _management(evaluation.machine, request)
    with evaluation.machine.lock:
        prepared = _prepare(evaluation.machine, request)
    if isinstance(prepared, Reject):
        return prepared
    return _run(evaluation, request, *prepared)


def _run(
    evaluation: _Evaluation,
    request: Request,
    canister: Canister,
    sandbox: Sandbox,
    run: Run,
    export: str,
) -> Payload:
    machine = evaluation.machine
    if canister.canister_id in evaluation.entered:
        return Reject(
            RejectCode.CANISTER_ERROR, "Loops in query call graphs are not supported.", "IC0517"
        )
    if len(evaluation.entered) >= _MAX_DEPTH:
        return Reject(
            RejectCode.CANISTER_ERROR,
            f"Query call graph exceeds the depth of {_MAX_DEPTH}.",
            "IC0525",
        )
    run.instruction_limit = evaluation.instructions_left
    evaluation.entered.append(canister.canister_id)
    try:
        with sandbox.entered(_PATIENCE_SECONDS):
            instance = sandbox.instance
            if instance is None or not instance.has(export):
                return no_method(canister, "query", request.method)
            answer = _evaluate(evaluation, canister, instance, run, export)
    except BusyError as error:
        return failure_reject(canister, error)
    finally:
        evaluation.entered.pop()
    _keep_traces(machine, canister, run, answer)
    return answer


def _evaluate(
    evaluation: _Evaluation, canister: Canister, instance: Instance, run: Run, export: str
) -> Payload:
    if run.mode is Mode.NRQ:
        failure = run_and_settle(instance, enter(instance, run, export), keep=False)
        return _answer_of(canister, run, failure)
    answer: list[Payload] = []

    def whole() -> None:
        answer.append(_composite(evaluation, canister, instance, run, export))

    failure = run_and_settle(instance, whole, keep=False)
    return answer[0] if failure is None else failure_reject(canister, failure)


def _answer_of(canister: Canister, run: Run, failure: ExecutionError | None) -> Payload:
    if failure is not None:
        return failure_reject(canister, failure)
    if run.reply is not None:
        return Reply(run.reply)
    if run.reject is not None:
        return Reject(RejectCode.CANISTER_REJECT, run.reject, "IC0406")
    return Reject(
        RejectCode.CANISTER_ERROR,
        f"Error from Canister {canister.canister_id}: Canister did not reply to the call.",
        "IC0506",
    )


def _composite(
    evaluation: _Evaluation, canister: Canister, instance: Instance, first: Run, export: str
) -> Payload:
    """Run a composite query, its calls and their callbacks; the caller undoes it all."""
    instance.enter(first, export)
    evaluation.instructions_left -= first.instructions
    used = first.instructions
    calls = deque(first.calls)
    final: Run | None = first if first.responded else None
    failure: ExecutionError | None = None
    while calls:
        call = calls.popleft()
        payload = _call_out(evaluation, canister, call)
        run = _callback_run(evaluation, first, used, payload, responded=final is not None)
        function = (
            (call.reply_fun, call.reply_env)
            if isinstance(payload, Reply)
            else (call.reject_fun, call.reject_env)
        )
        failure = _nested(instance, run, function)
        used += run.instructions
        evaluation.instructions_left -= run.instructions
        if failure is not None:
            if call.cleanup is not None:
                cleanup = _callback_run(
                    evaluation, first, used, payload, responded=True, mode=Mode.CC
                )
                _nested(instance, cleanup, call.cleanup)
                used += cleanup.instructions
                evaluation.instructions_left -= cleanup.instructions
            continue
        calls.extend(run.calls)
        if run.responded:
            final = run
    return _answer_of(canister, final or first, failure if final is None else None)


def _nested(instance: Instance, run: Run, function: tuple[int, int]) -> ExecutionError | None:
    """Run a callback; if it fails, undo it alone."""
    saved, stable = instance.save(), instance.stable.copy()
    failure = attempt(lambda: instance.enter_callback(run, *function))
    if failure is not None:
        instance.load(saved)
        instance.stable.take_from(stable)
    return failure


def _callback_run(
    evaluation: _Evaluation,
    first: Run,
    used: int,
    payload: Payload,
    *,
    responded: bool,
    mode: Mode | None = None,
) -> Run:
    run = Run(
        mode=mode or (Mode.CRy if isinstance(payload, Reply) else Mode.CRt),
        environment=first.environment,
        instruction_limit=max(evaluation.instructions_left, 0),
        caller=first.caller,
        can_respond=not responded,
        instructions_before=used,
        caller_info=first.caller_info,
        caller_info_signer=first.caller_info_signer,
    )
    if isinstance(payload, Reply):
        run.arg = payload.data
    else:
        run.reject_code, run.reject_message = int(payload.code), payload.message
    return run


def _call_out(evaluation: _Evaluation, caller: Canister, call: OutgoingCall) -> Payload:
    return _nested_query(
        evaluation,
        Request(
            origin=FROM_SYSTEM,
            sender=caller.canister_id,
            receiver=Principal(call.callee),
            method=call.method,
            arg=bytes(call.payload),
        ),
    )


def inspect(machine: Machine, request: Request) -> Reject | None:
    """Ask the canister whether it takes an ingress message; why not, or ``None``.

    Called under the machine's lock, which is given up while the canister runs.
    """
    prepared = _prepare(machine, request, Mode.F)
    if isinstance(prepared, Reject):
        return prepared
    canister, sandbox, run, _ = prepared
    assert sandbox.instance is not None
    if not sandbox.instance.has(_INSPECT):
        return None
    run.instruction_limit = machine.limits.inspect
    failure = machine.run_wasm(sandbox, lambda instance: enter(instance, run, _INSPECT), keep=False)
    if failure is not None:
        return failure_reject(canister, failure)
    if run.ingress_accepted:
        return None
    return Reject(
        RejectCode.CANISTER_REJECT,
        f"Error from Canister {canister.canister_id}: Canister rejected the message",
        "IC0406",
    )


_INSPECT: Final = "canister_inspect_message"
