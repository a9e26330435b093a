"""Which pages a message wrote: what a state directory has to learn, and no less."""

import ctypes
import mmap
import random

import pytest
from rollback_engines import AVAILABLE

from bridge.replica.scheduler import sandbox as sandbox_module
from bridge.replica.state.messages import Reply
from bridge.replica.state.stable import StableMemory

PAGE = mmap.PAGESIZE


@pytest.fixture(params=AVAILABLE, ids=lambda kind: kind.name)
def engine(request):
    return request.param


def fresh(size):
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


@pytest.mark.parametrize("seed", range(6))
def test_a_copy_of_what_was_reported_is_the_memory(engine, seed):
    chance = random.Random(seed)
    used = engine()
    memory, address = fresh(400 * PAGE)
    size = 100 * PAGE
    copy = bytearray(400 * PAGE)
    for _ in range(80):
        used.begin(address, size)
        for _ in range(chance.choice((0, 1, 5, 40))):
            at = chance.randrange(size)
            length = min(chance.choice((1, 8, 5000)), size - at)
            memory[at : at + length] = chance.randbytes(length)
        if chance.random() < 0.3:
            used.undo(address, size)
            assert memory[:size] == copy[:size]
            continue
        if size < 400 * PAGE and chance.random() < 0.2:
            size += 20 * PAGE  # as growing does, between writes of one message
            memory[size - 3 : size] = b"new"
        for start, length in used.keep(address, size, report=True):
            assert start % PAGE == length % PAGE == 0
            copy[start : start + length] = memory[start : start + length]
        assert copy[:size] == memory[:size]


def test_few_written_pages_are_few_reported_pages(engine):
    used = engine()
    memory, address = fresh(1000 * PAGE)
    for page in range(1000):
        memory[page * PAGE] = 1
    used.begin(address, 1000 * PAGE)
    used.keep(address, 1000 * PAGE, report=True)
    used.begin(address, 1000 * PAGE)
    memory[500 * PAGE + 7] = 2
    runs = used.keep(address, 1000 * PAGE, report=True)
    assert runs == [(500 * PAGE, PAGE)]


def test_a_stable_memory_tells_what_was_written_and_kept():
    memory = StableMemory(100)
    memory.begin()
    memory.grow(10)
    memory.write(5, b"first")
    memory.keep()
    assert set(memory.take_all()) == {0}
    for data, keep in ((b"kept", True), (b"undone", False)):
        memory.begin()
        memory.write(100_000, data)
        (memory.keep if keep else memory.undo)()
    written = memory.take_written()
    assert list(written) == [100_000 // 16_384 * 16_384]
    assert b"kept" in written[98_304]
    assert memory.take_written() == {}


def test_copies_of_a_stable_memory_are_independent():
    chance = random.Random(1)
    memory = StableMemory(100)
    memory.grow(10)
    copies = []
    for _ in range(200):
        memory.begin()
        memory.write(chance.randrange(600_000), chance.randbytes(chance.choice((1, 100, 20_000))))
        if chance.random() < 0.3:
            copies.append((memory.copy(), None))
            copies[-1] = (copies[-1][0], copies[-1][0].parts())
        (memory.keep if chance.random() < 0.6 else memory.undo)()
        if copies and chance.random() < 0.3:
            copy, parts = chance.choice(copies)
            copy.write(chance.randrange(600_000), b"own")
            copies = [(c, c.parts() if c is copy else p) for c, p in copies]
            del parts
        assert all(copy.parts() == parts for copy, parts in copies)


def test_a_stable_memory_reads_what_was_written_and_not_undone():
    chance = random.Random(2)
    memory, whole = StableMemory(100), bytearray(10 * 65_536)
    memory.grow(10)
    outside = bytearray(100_000)
    for _ in range(300):
        memory.begin()
        before = bytes(whole)
        for _ in range(chance.randrange(6)):
            size = chance.choice((0, 1, 8, 100, 16_384, 50_000))
            # Often at the border of two pages.
            offset = chance.randrange(1, 36) * 16_384 + chance.choice((-8, -1, 0, 1, 5_000))
            at = chance.randrange(50_000)
            outside[at : at + size] = chance.randbytes(size)
            memory.write_from(memoryview(outside), at, offset, size)
            whole[offset : offset + size] = outside[at : at + size]
            offset = chance.randrange(500_000)
            memory.read_into(memoryview(outside), at, offset, size)
            assert outside[at : at + size] == whole[offset : offset + size]
            assert memory.read(offset, size) == whole[offset : offset + size]
        if chance.random() < 0.4:
            memory.undo()
            whole[:] = before
        else:
            memory.keep()
    assert memory.read(0, len(whole)) == whole
    for action in (memory.read_into, memory.write_from):
        with pytest.raises(IndexError):
            action(memoryview(outside), 0, len(whole) - 1, 2)


@pytest.mark.parametrize("kind", AVAILABLE, ids=lambda kind: kind.name)
def test_a_composite_query_whose_callback_grows_and_traps_leaves_no_trace(
    driver, universal_wasm, program, monkeypatch, kind
):
    plain = sandbox_module.Instance
    monkeypatch.setattr(
        sandbox_module, "Instance", lambda *arguments: plain(*arguments, rollback=kind())
    )
    one, two = driver.create(universal_wasm(True)), driver.create(universal_wasm(True))
    driver.update(one, program().set_counter(1).store(40_000, 1).reply(b""))
    grows = program().grow(1).drop().store(40_000, 3).trap("undone")
    code = program().set_counter(2).store(40_000, 2)
    code.call(two.raw, "query", program().reply(b""), reply=grows).drop()
    for _ in range(3):
        driver.query(one, code, method="composite")
        read = program().counter().append_number().push(0).load(40_000).append_number()
        assert driver.query(one, read.reply()) == Reply((1).to_bytes(8, "little") * 2)
