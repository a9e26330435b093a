"""What a canister module must look like, and what becomes of one that does not."""

import gzip
import random
from pathlib import Path

import pytest
import wasmtime

from bridge.candid import Codec, Nat, Nat32, Opt, PrincipalType, Record
from bridge.principal import Principal
from bridge.replica.execution.binary import decompress, instrument
from bridge.replica.execution.engine import compile_module
from bridge.replica.execution.failures import InvalidModuleError
from bridge.replica.state.messages import Reject, Reply


def wat(text):
    return bytes(wasmtime.wat2wasm(text))


BAD = {
    "not Wasm": (b"hello", "magic number"),
    "empty": (b"", "magic number"),
    "cut short": (wat("(module (memory 1))")[:-2], "longer than the module"),
    "a function of another module": (
        wat('(module (import "env" "f" (func)))'),
        "only functions of the module ic0",
    ),
    "an imported memory": (
        wat('(module (import "ic0" "memory" (memory 1)))'),
        "not a function",
    ),
    "an unknown system call": (
        wat('(module (import "ic0" "no_such_call" (func)))'),
        "ic0.no_such_call",
    ),
    "a system call of the wrong type": (
        wat('(module (import "ic0" "msg_reply" (func (param i32))))'),
        "with the type",
    ),
    "a 32-bit call in a 64-bit module": (
        wat('(module (import "ic0" "stable_size" (func (result i32))) (memory i64 1))'),
        "64-bit memories",
    ),
    "an entry point with parameters": (
        wat('(module (func (export "canister_update x") (param i32)))'),
        "must have the type () -> ()",
    ),
    "a reserved export": (
        wat('(module (func (export "canister_something")))'),
        "reserved name",
    ),
    "a method exported twice": (
        wat('(module (func (export "canister_update x")) (func (export "canister_query x")))'),
        "more than once",
    ),
    "an entry point that is a memory": (
        wat('(module (memory (export "canister_init") 1))'),
        "not a function",
    ),
    "a custom section of a reserved name": (
        wat('(module (@custom "icp:secret x" "data"))'),
        "icp:",
    ),
    "public and private sections of one name": (
        wat('(module (@custom "icp:public x" "1") (@custom "icp:private x" "2"))'),
        "more than once",
    ),
    "a mutable reference": (
        wat("(module (global (mut funcref) (ref.null func)))"),
        "holds a reference",
    ),
    "code that does not type-check": (
        b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\x0a\5\1\3\0\x6a\x0b",
        "type mismatch",
    ),
    "a huge memory": (wat("(module (memory 65536 65536) (memory 1))"), "2 memories"),
    "a broken gzip stream": (b"\x1f\x8b\x08" + b"\0" * 20, "gzip"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_module_is_rejected_and_named(driver, name):
    module, words = BAD[name]
    canister = driver.create()
    answer = driver.install_raw(canister, module)
    assert isinstance(answer, Reject)
    assert (answer.code, answer.error_code) == (5, "IC0505")
    assert words in answer.message
    assert driver.canisters[canister].module_hash is None


def test_too_many_globals_functions_and_methods_are_refused():
    many = "".join(f"(global (mut i32) (i32.const {n}))" for n in range(1001))
    with pytest.raises(InvalidModuleError, match="1001 globals"):
        instrument(wat(f"(module {many})"))
    with pytest.raises(InvalidModuleError, match="50001 functions"):
        instrument(wat(f"(module {'(func)' * 50_001})"))
    methods = "".join(f'(export "canister_update m{n}" (func 0))' for n in range(1001))
    with pytest.raises(InvalidModuleError, match="1001 methods"):
        instrument(wat(f"(module (func) {methods})"))


def test_a_memory_larger_than_the_limit_is_refused(driver):
    canister = driver.create()
    answer = driver.install_raw(canister, wat("(module (memory i64 131072))"))
    assert isinstance(answer, Reject)
    assert "cannot be instantiated" in answer.message


def test_a_data_segment_out_of_bounds_is_refused(driver):
    canister = driver.create()
    answer = driver.install_raw(canister, wat('(module (memory 1) (data (i32.const 65535) "xx"))'))
    assert isinstance(answer, Reject)
    assert "cannot be instantiated" in answer.message


def test_a_start_function_that_traps_fails_the_installation(driver):
    canister = driver.create()
    answer = driver.install_raw(canister, wat("(module (func $s unreachable) (start $s))"))
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0502"
    assert driver.canisters[canister].module_hash is None


def test_the_start_function_runs_once_and_not_at_each_message(driver):
    module = wat("""(module
      (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
      (import "ic0" "msg_reply" (func $reply))
      (memory 1)
      (func $s (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1))))
      (start $s)
      (func (export "canister_update read")
        (call $append (i32.const 0) (i32.const 1)) (call $reply)))""")
    canister = driver.create(module)
    assert driver.call(canister, "read") == Reply(b"\1")
    assert driver.call(canister, "read") == Reply(b"\1")


def test_a_module_without_memory_runs(driver):
    canister = driver.create(
        wat("""(module (import "ic0" "msg_reply" (func $reply))
        (func (export "canister_query q") (call $reply)))""")
    )
    assert driver.call(canister, "q") == Reply(b"")


TABLE_CHANGING = """(module
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (memory 1)
  (table $t 2 funcref)
  (elem (i32.const 0) $one)
  (elem $passive func $two)
  (func $one (result i32) (i32.const 1))
  (func $two (result i32) (i32.const 2))
  (global $kept (mut i32) (i32.const 0))
  (func (export "canister_update read")
    (global.set $kept (i32.add (global.get $kept) (i32.const 1)))
    (i32.store8 (i32.const 0) (call_indirect (result i32) (i32.const 0)))
    (i32.store8 (i32.const 1) (global.get $kept))
    (call $append (i32.const 0) (i32.const 2)) (call $reply)
    (table.init $passive (i32.const 0) (i32.const 0) (i32.const 1))))"""


def test_changes_of_tables_do_not_outlive_a_message(driver):
    canister = driver.create(wat(TABLE_CHANGING))
    assert driver.call(canister, "read") == Reply(b"\1\1")
    assert driver.call(canister, "read") == Reply(b"\1\2")


CHANGES = {
    "table.set": "(table.set (i32.const 0) (ref.func $f))",
    "table.grow": "(drop (table.grow (ref.null func) (i32.const 1)))",
    "table.fill": "(table.fill (i32.const 0) (ref.null func) (i32.const 1))",
    "table.copy": "(table.copy (i32.const 0) (i32.const 1) (i32.const 1))",
    "table.init": "(table.init $e (i32.const 0) (i32.const 0) (i32.const 1))",
    "elem.drop": "(elem.drop $e)",
    "data.drop": "(data.drop $d)",
}
# Every kind of immediate, and constants whose bytes look like what is sought.
HARMLESS = """
  (drop (i32.const 0xFC09)) (drop (i64.const 0x0EFC0CFC)) (drop (f32.const 1)) (drop (f64.const 2))
  (drop (v128.const i32x4 0x0EFC09FC 0x0CFC0DFC 0x11FC0FFC 0x26))
  (drop (i8x16.shuffle 12 9 13 14 15 17 9 9 9 9 9 9 9 9 9 9 (local.get $v) (local.get $v)))
  (drop (i8x16.extract_lane_u 9 (local.get $v)))
  (drop (v128.load8_lane offset=9 9 (i32.const 0) (local.get $v)))
  (drop (v128.load offset=0x26 (i32.const 0)))
  (drop (i32.load offset=9724 (i32.const 0))) (drop (i32.trunc_sat_f32_s (f32.const 1)))
  (memory.copy (i32.const 0) (i32.const 0) (i32.const 1))
  (memory.fill (i32.const 0) (i32.const 0) (i32.const 1))
  (memory.init $d (i32.const 0) (i32.const 0) (i32.const 0))
  (drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3)))
  (block (br_table 0 0 0 (i32.const 0x26)))
  (drop (memory.grow (i32.const 0))) (drop (memory.size)) (drop (ref.is_null (ref.null func)))
  (drop (table.size)) (drop (table.get (i32.const 0)))
  (call_indirect (type 0) (i32.const 0))"""


def _with(code):
    return wat(f"""(module (type (func)) (memory 1) (table 2 funcref)
      (elem $e func $f) (data $d "x")
      (func $f (local $v v128) (local i32 i64) {code}))""")


def test_code_that_changes_no_table_is_known_for_what_it_is():
    assert not instrument(_with(HARMLESS)).changes_tables
    assert not instrument(wat("(module (func (drop (i32.const 0x26))))")).changes_tables


@pytest.mark.parametrize("name", CHANGES)
def test_code_that_changes_tables_or_segments_is_found(name):
    assert instrument(_with(HARMLESS + CHANGES[name])).changes_tables
    assert compile_module(_with(CHANGES[name] + HARMLESS)).info.changes_tables


@pytest.mark.parametrize("name", ["sender", "receiver", "both", "echo"])
@pytest.mark.covers("Motoko and Rust modules, 32 and 64 bits, gzip")
def test_motoko_canisters_keep_their_instance(name):
    from bridge.contracts import motoko_canister

    assert not compile_module(motoko_canister(name)).info.changes_tables


@pytest.mark.covers("Motoko and Rust modules, 32 and 64 bits, gzip")
def test_a_32_bit_motoko_canister_runs_calls_traps_and_is_upgraded(make_driver):
    """Its source is in data/README.md; it is installed packed, as it lies there."""
    wasm = (Path(__file__).parent / "data" / "legacy_motoko.wasm.gz").read_bytes()
    driver = make_driver(update=1_000_000_000)
    nothing, named = Codec([]).encode(), Codec([PrincipalType]).encode
    first, second = driver.create(wasm, nothing), driver.create(wasm, nothing)
    assert not driver.machine.sandbox(driver.canisters[first]).instance.info.memory64

    def numbers(answer, count=2):
        assert isinstance(answer, Reply), answer
        return Codec([Nat] * count).decode(answer.data)

    assert numbers(driver.call(first, "inc", nothing), 1) == [1]
    assert numbers(driver.call(second, "peer", named(first)), 1) == [2]
    assert isinstance(driver.call(first, "boom", nothing), Reject)
    assert numbers(driver.query(first, nothing, method="get")) == [2, 2]
    assert numbers(driver.query(second, named(first), method="comp")) == [2, 2]
    driver.install(first, wasm, nothing, mode="upgrade")
    assert numbers(driver.query(first, nothing, method="get")) == [2, 0]


@pytest.mark.covers("Motoko and Rust modules, 32 and 64 bits, gzip")
def test_a_rust_canister_runs_and_keeps_its_state_through_an_upgrade(make_driver):
    file = Path(__file__).resolve().parents[2] / "rust_reference" / "wasm" / "mailbox.wasm"
    if not file.is_file():
        pytest.skip("there is no built Rust canister in this tree")
    driver = make_driver(update=2_000_000_000)
    owner = Principal.self_authenticating(b"the owner")
    canister = driver.create()
    settings = Opt(Record({"owner": Opt(PrincipalType)}))
    status = Codec([Record({"settings": Record({"owner": Opt(PrincipalType)}), "waiting": Nat32})])
    wasm = file.read_bytes()
    named = Codec([settings]).encode({"owner": owner})
    driver.install(canister, wasm, named)

    def seen():
        answer = driver.query(canister, Codec([]).encode(), method="mailbox_status", sender=owner)
        assert isinstance(answer, Reply), answer
        return status.decode(answer.data)

    before = seen()
    assert before == [{"settings": {"owner": owner}, "waiting": 0}]
    driver.install(canister, wasm, Codec([settings]).encode(None), mode="upgrade")
    assert seen() == before
    assert not driver.machine.sandbox(driver.canisters[canister]).instance.info.changes_tables


def test_a_loop_of_bulk_instructions_ends_soon(make_driver):
    driver = make_driver(update=100_000_000)
    canister = driver.create(
        wat("""(module (memory 1000) (func (export "canister_update fill")
        (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 60000000)) (br $l))))""")
    )
    answer = driver.call(canister, "fill")
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0522"


@pytest.mark.covers("Motoko and Rust modules, 32 and 64 bits, gzip")
def test_packed_modules_are_unpacked_and_hashed_as_given(driver, universal_wasm, program):
    packed = gzip.compress(universal_wasm(True))
    canister = driver.create(packed)
    assert driver.update(canister, program().reply(b"unpacked")) == b"unpacked"
    assert driver.canisters[canister].module_hash == compile_module(packed).info.module_hash


def test_a_gzip_bomb_is_refused():
    bomb = gzip.compress(bytes(2_000_000))
    with pytest.raises(InvalidModuleError, match="unpacks to more than"):
        decompress(bomb, limit=1_000_000)


def test_a_module_seen_before_is_not_compiled_again(universal_wasm):
    module = universal_wasm(True)
    assert compile_module(module) is compile_module(module)


def test_compiled_code_is_loaded_from_a_private_directory(tmp_path, monkeypatch):
    from bridge.replica.execution import engine

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = wat('(module (func (export "canister_query cached")))')
    monkeypatch.setattr(engine, "_memory", type(engine._memory)())
    compile_module(module)
    (folder,) = tmp_path.glob("ic-bridge/compiled")
    assert folder.stat().st_mode & 0o777 == 0o700
    (file,) = folder.iterdir()
    monkeypatch.setattr(engine, "_memory", type(engine._memory)())
    compile_module(module)
    file.write_bytes(b"not compiled code")
    monkeypatch.setattr(engine, "_memory", type(engine._memory)())
    assert compile_module(module).info.methods == {"cached": "query"}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.covers("any bytes: refused, and the replica goes on")
def test_damaged_modules_are_refused_or_run_but_never_break_the_replica(
    driver, universal_wasm, program, seed
):
    chance = random.Random(seed)
    good = universal_wasm(bool(seed % 2))
    canister = driver.create()
    for _ in range(12):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(8, len(damaged))] = chance.randrange(256)
        answer = driver.install_raw(canister, bytes(damaged), mode="reinstall")
        assert isinstance(answer, (Reply, Reject))
        if isinstance(answer, Reply):
            answer = driver.call(canister, "update", program().reply(b"x"))
            assert isinstance(answer, (Reply, Reject))
    driver.install(canister, good, mode="reinstall")
    assert driver.update(canister, program().reply(b"alive")) == b"alive"
