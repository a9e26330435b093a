"""Both engines of rollback, against a model that copies everything, and under a real instance."""

import ctypes
import mmap
import random

import pytest
from rollback_engines import AVAILABLE

from bridge.replica.execution import pages, rollback
from bridge.replica.execution.engine import compile_module
from bridge.replica.execution.failures import TrapError
from bridge.replica.execution.instance import Instance
from bridge.replica.execution.rollback import CopyUsedPages, TrackWhenLarge, best_engine
from bridge.replica.execution.run import Environment, Mode, Run
from bridge.replica.state.stable import StableMemory

PAGE = mmap.PAGESIZE


@pytest.fixture(params=AVAILABLE, ids=lambda kind: kind.name)
def engine(request):
    return request.param()


class Memory:
    """Memory as the engine of Wasm gives it: its pages come into being when first used."""

    def __init__(self, size):
        self.map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))


def test_a_machine_that_can_watch_pages_does(monkeypatch):
    best_engine.cache_clear()
    expected = TrackWhenLarge if pages.can_watch() else CopyUsedPages
    assert best_engine() is expected
    monkeypatch.setattr(pages, "can_watch", lambda: False)
    best_engine.cache_clear()
    assert best_engine() is CopyUsedPages
    best_engine.cache_clear()


@pytest.mark.parametrize("seed", range(10))
def test_an_engine_restores_what_a_full_copy_would(engine, seed):
    chance = random.Random(seed)
    whole = 300 * PAGE
    memory = Memory(whole)
    size = 100 * PAGE
    for _ in range(60):
        before = memory.map[:size]
        engine.begin(memory.address, size)
        for _ in range(chance.choice((0, 1, 5, 40))):
            at = chance.randrange(size)
            length = min(chance.choice((1, 8, 5000)), size - at)
            memory.map[at : at + length] = chance.randbytes(length)
        if chance.random() < 0.5:
            engine.undo(memory.address, size)
            assert memory.map[:size] == before
            if chance.random() < 0.3:
                memory = Memory(whole)
                engine.restore(memory.address, size)
                assert memory.map[:size] == before
            continue
        if chance.random() < 0.2 and size < whole:
            grown = min(whole, size + chance.randrange(1, 50) * PAGE)
            at = chance.randrange(size, grown)
            memory.map[at] = 7
            size = grown
        engine.keep(memory.address, size)


def test_a_memory_that_has_become_large_is_tracked():
    if not pages.can_watch():
        assert best_engine() is CopyUsedPages
        return
    engine, memory = TrackWhenLarge(), Memory(3000 * PAGE)
    small, large = b"s" * PAGE, b"l" * (2000 * PAGE)
    memory.map[:PAGE] = small
    engine.begin(memory.address, 3000 * PAGE)
    memory.map[: 2000 * PAGE] = large
    engine.keep(memory.address, 3000 * PAGE)
    engine.begin(memory.address, 3000 * PAGE)
    assert isinstance(engine._engine, rollback.TrackWrittenPages)
    memory.map[1000 * PAGE] = 0
    engine.undo(memory.address, 3000 * PAGE)
    assert memory.map[: 2000 * PAGE] == large


def test_an_engine_follows_a_memory_that_moves(engine):
    old, new = Memory(20 * PAGE), Memory(40 * PAGE)
    old.map[0:3] = b"old"
    engine.begin(old.address, 20 * PAGE)
    new.map[0:3] = b"new"
    engine.keep(new.address, 40 * PAGE)
    engine.begin(new.address, 40 * PAGE)
    new.map[0:3] = b"bad"
    new.map[39 * PAGE] = 1
    engine.undo(new.address, 40 * PAGE)
    assert new.map[0:3] == b"new"
    assert new.map[39 * PAGE] == 0


def test_an_engine_forgets_an_instance_that_was_replaced(engine):
    memory = Memory(10 * PAGE)
    engine.begin(memory.address, 10 * PAGE)
    engine.forget()
    memory.map[5 * PAGE] = 9
    engine.begin(memory.address, 10 * PAGE)
    memory.map[5 * PAGE] = 1
    engine.undo(memory.address, 10 * PAGE)
    assert memory.map[5 * PAGE] == 9


@pytest.mark.parametrize("source", ["scan", "page map", "none"])
def test_pages_in_use_are_found_by_each_source(source, monkeypatch):
    if source != "scan":
        monkeypatch.setattr(pages, "_can_scan", lambda _: False)
    if source == "none":
        monkeypatch.setattr(pages, "_page_map", lambda _: None)
    memory = Memory(5000 * PAGE)
    for page in (3, 4, 100, 4999):
        memory.map[page * PAGE] = 1
    runs = pages.in_use(memory.address, 5000 * PAGE)
    covered = {
        page for start, length in runs for page in range(start // PAGE, (start + length) // PAGE)
    }
    assert covered >= {3, 4, 100, 4999}
    if source != "none":
        assert len(covered) < 100


def test_many_separate_runs_are_all_found():
    memory = Memory(20_000 * PAGE)
    used = range(0, 20_000, 10)
    for page in used:
        memory.map[page * PAGE] = 1
    runs = pages.in_use(memory.address, 20_000 * PAGE)
    assert {start // PAGE for start, _ in runs} == set(used)


def _run(mode, arg):
    environment = Environment(b"", b"", b"", frozenset(), 0, 1, 0, 0, 0)
    return Run(mode, environment, 10_000_000, arg=bytes(arg), can_respond=True)


@pytest.mark.parametrize("memory64", [True, False], ids=["64", "32"])
def test_an_instance_goes_back_to_where_it_was(engine, universal_wasm, program, memory64):
    compiled = compile_module(universal_wasm(memory64))
    instance = Instance(compiled, StableMemory(100), 1 << 32, engine)

    def message(made, *, keep):
        run = _run(Mode.U, made)
        instance.begin()
        instance.enter(run, "canister_update update")
        if keep:
            instance.keep()
        else:
            instance.undo()
        return run.reply

    def state():
        read = program().load(512).append_number().load(260_000).append_number()
        read.counter().append_number().memory_size().append_number()
        data = message(read.stable64_size().append_number().reply(), keep=False)
        return [int.from_bytes(data[at : at + 8], "little") for at in range(0, 40, 8)]

    assert state() == [0, 0, 0, 4, 0]
    changes = program().store(512, 1).set_counter(1).stable64_grow(1).drop()
    for grows in (0, 20):  # within its size, and with a memory that must shrink again
        made = program()
        made.data += changes.data
        message(made.grow(grows).drop().reply(b""), keep=False)
        assert state() == [0, 0, 0, 4, 0]
    message(changes.grow(20).drop().store(260_000, 5).reply(b""), keep=True)
    assert state() == [1, 5, 1, 24, 1]
    message(program().store(260_000, 6).set_counter(2).grow(1).drop().reply(b""), keep=False)
    assert state() == [1, 5, 1, 24, 1]


@pytest.mark.parametrize("memory64", [True, False], ids=["64", "32"])
def test_host_calls_reach_a_memory_that_grows_and_shrinks_again(
    engine, universal_wasm, program, memory64
):
    compiled = compile_module(universal_wasm(memory64))
    stable = StableMemory(100)
    stable.grow(2)
    stable.write(70_000, b"found")
    instance = Instance(compiled, stable, 1 << 32, engine)
    end = instance.memory_size
    beyond = program().stable64_read(end - 2, 70_000, 5).msg_reply_data_append(end - 2, 5).reply()

    def reply(code, *, keep):
        run = _run(Mode.U, code)
        instance.begin()
        instance.enter(run, "canister_update update")
        (instance.keep if keep else instance.undo)()
        return run.reply

    def grown():
        code = program().grow(1).drop()
        code.data += beyond.data
        return code

    for _ in range(2):
        assert reply(grown(), keep=False) == b"found"
        instance.begin()
        with pytest.raises(TrapError, match="out of bounds"):
            instance.enter(_run(Mode.U, beyond), "canister_update update")
        instance.undo()
    assert reply(grown(), keep=True) == b"found"
    assert reply(beyond, keep=False) == b"found"
