"""Instances that cannot go back to the state before a message: none runs from a state not its own.

A machine that has no memory left is played by a lower limit of the instance: then the engine itself
refuses to instantiate the module, or to grow the memory of the new instance.
"""

import contextlib
import ctypes

import pytest
import wasmtime
from rollback_engines import AVAILABLE

from bridge.replica.execution import pages, rollback
from bridge.replica.execution.engine import compile_module
from bridge.replica.execution.failures import EngineFailureError
from bridge.replica.execution.instance import Instance
from bridge.replica.execution.run import Environment, Mode, Run
from bridge.replica.scheduler.sandbox import enter, run_and_settle
from bridge.replica.state.messages import Reject, Reply
from bridge.replica.state.stable import StableMemory

PAGE = 65_536
# Of the universal canister: its first memory has four pages.
NO_INSTANCE, NO_GROWTH = 1 * PAGE, 4 * PAGE


@contextlib.contextmanager
def _short_of_memory(instance, limit):
    """Let new instances of the engine have no more memory than this."""
    before, instance.memory_limit = instance.memory_limit, limit
    try:
        yield
    finally:
        instance.memory_limit = before


@pytest.fixture
def grown(driver, canister, program):
    """A canister with a memory larger than that of a new instance, and its instance."""
    made = program().grow(3).drop().set_counter(7).store(300_000, 11)
    driver.update(canister, made.stable64_grow(1).drop().stable64_write(0, b"kept").reply(b""))
    return canister, driver.machine.sandboxes[canister].instance


def _state(program):
    read = program().counter().append_number().load(300_000).append_number()
    return read.memory_size().append_number().reply()


KEPT = b"".join(number.to_bytes(8, "little") for number in (7, 11, 7))


@pytest.mark.parametrize("limit", [NO_INSTANCE, NO_GROWTH], ids=["no instance", "no growth"])
def test_a_canister_whose_message_cannot_be_undone_runs_on_from_the_state_before_it(
    driver, grown, program, limit
):
    canister, instance = grown
    with _short_of_memory(instance, limit):
        trapping = program().set_counter(8).store(300_000, 12).grow(1).drop().trap(b"no")
        assert driver.reject(canister, trapping).error_code == "IC0503"
        assert instance.damaged
        # Neither an update nor a query is given a memory that is not the canister's.
        for answer in (
            driver.call(canister, "update", _state(program)),
            driver.query(canister, _state(program)),
        ):
            assert isinstance(answer, Reject)
            assert answer.error_code == "IC0521"
        assert not driver.canisters[canister].contexts
    assert driver.update(canister, _state(program)) == KEPT
    assert not instance.damaged
    assert driver.query(canister, _state(program)) == Reply(KEPT)


def test_a_damaged_canister_is_neither_saved_nor_taken_for_changed(driver, grown, program):
    canister, instance = grown
    sandbox = driver.machine.sandboxes[canister]
    with _short_of_memory(instance, NO_GROWTH):
        driver.reject(canister, program().grow(1).drop().trap(b"no"))
        with pytest.raises(EngineFailureError, match="cannot be restored"):
            instance.save()
        sandbox.see_anew()
        assert sandbox.capture() is None
    driver.query(canister, _state(program))
    changes = sandbox.capture()
    assert changes.wasm_replaced
    assert changes.wasm_size == 7 * PAGE
    assert changes.wasm[300_000 // pages.PAGE * pages.PAGE][300_000 % pages.PAGE] == 11


def test_a_damaged_canister_is_upgraded_once_it_can_be_mended(driver, grown, program, wasm):
    canister, instance = grown
    with _short_of_memory(instance, NO_GROWTH):
        driver.reject(canister, program().grow(1).drop().trap(b"no"))
        answer = driver.install_raw(canister, wasm, mode="upgrade")
        assert answer.error_code == "IC0521"
        assert driver.machine.sandboxes[canister].instance is instance
    driver.install(canister, wasm, mode="upgrade")
    stable = program().stable64_read(0, 0, 4).msg_reply_data_append(0, 4).reply()
    assert driver.update(canister, stable) == b"kept"


def test_a_message_that_cannot_be_begun_is_answered_and_the_next_one_runs(
    driver, grown, program, monkeypatch
):
    canister, instance = grown

    def fails(*_):
        raise OSError(12, "no memory: a stand-in for the kernel's refusal")

    with monkeypatch.context() as patched:
        patched.setattr(type(instance._rollback), "begin", fails)
        answer = driver.call(canister, "update", program().set_counter(8).reply(b""))
        assert answer.error_code == "IC0521"
        assert not driver.canisters[canister].contexts
    assert driver.update(canister, _state(program)) == KEPT


WITHOUT_MEMORY = """
(module
  (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (func (export "canister_update nothing")
    (call $copy (i32.const 0) (i32.const 0) (i32.const 0))
    (call $read (i64.const 0) (i64.const 0) (i64.const 0))
    (call $write (i64.const 0) (i64.const 0) (i64.const 0))
    (call $append (i32.const 0) (i32.const 0))
    (call $reply))
  (func (export "canister_update something")
    (call $copy (i32.const 0) (i32.const 0) (i32.const 1))))
"""


def test_a_module_without_memory_may_move_zero_bytes(driver):
    canister = driver.create(bytes(wasmtime.wat2wasm(WITHOUT_MEMORY)))
    assert driver.call(canister, "nothing", b"x") == Reply(b"")
    answer = driver.call(canister, "something", b"x")
    assert (answer.error_code, "out of bounds" in answer.message) == ("IC0502", True)


def _instance(universal_wasm, engine):
    return Instance(compile_module(universal_wasm(True)), StableMemory(100), 1 << 32, engine)


def _enter(instance, made, *, keep):
    environment = Environment(b"", b"", b"", frozenset(), 0, 1, 0, 0, 0)
    run = Run(Mode.U, environment, 10_000_000, arg=bytes(made), can_respond=True)
    assert run_and_settle(instance, enter(instance, run, "canister_update update"), keep=keep) is (
        None
    )
    return run.reply


@pytest.mark.parametrize("kind", AVAILABLE, ids=lambda kind: kind.name)
def test_what_is_kept_stands_even_if_it_cannot_be_told_what_was_written(
    kind, universal_wasm, program, monkeypatch
):
    instance = _instance(universal_wasm, kind())
    instance.take_all()
    change = program().store(5000, 9).set_counter(3).reply(b"")
    with monkeypatch.context() as patched:

        def fails(*_, **__):
            raise OSError(12, "no memory: a stand-in for the kernel's refusal")

        patched.setattr(kind, "keep", fails)
        _enter(instance, change, keep=True)
    assert instance.take_written()[4096][5000 - 4096] == 9
    _enter(instance, program().store(5000, 1).reply(b""), keep=False)
    read = program().load(5000).append_number().counter().append_number().reply()
    assert _enter(instance, read, keep=False) == b"".join(n.to_bytes(8, "little") for n in (9, 3))


def test_a_copy_for_which_there_was_no_room_is_made_later(monkeypatch):
    memory = ctypes.create_string_buffer(8 * pages.PAGE)
    address = -(-ctypes.addressof(memory) // pages.PAGE) * pages.PAGE
    engine = rollback.CopyUsedPages()
    monkeypatch.setattr(pages, "in_use", lambda _, size: [(0, size)])
    real = ctypes.create_string_buffer

    def fails(size):
        raise MemoryError("a stand-in for a machine without memory")

    monkeypatch.setattr(ctypes, "create_string_buffer", fails)
    with pytest.raises(MemoryError):
        engine.begin(address, 4 * pages.PAGE)
    monkeypatch.setattr(ctypes, "create_string_buffer", real)
    engine.begin(address, 4 * pages.PAGE)
    assert len(engine._buffer) >= 4 * pages.PAGE


def test_an_interruption_of_the_thread_that_serves_is_undone(universal_wasm, program):
    instance = _instance(universal_wasm, rollback.CopyUsedPages())
    environment = Environment(b"", b"", b"", frozenset(), 0, 1, 0, 0, 0)
    run = Run(
        Mode.U, environment, 10_000_000, arg=bytes(program().set_counter(5).reply(b"")),
        can_respond=True,
    )  # fmt: skip
    entry = enter(instance, run, "canister_update update")

    def interrupted():
        entry()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_and_settle(instance, interrupted, keep=True)
    read = program().counter().append_number().reply()
    assert _enter(instance, read, keep=False) == bytes(8)
