"""The System API: each function in each context, bounds, limits, and what the functions say."""

from pathlib import Path

import pytest

from bridge.replica.execution.instance import Instance
from bridge.replica.execution.run import Mode
from bridge.replica.execution.system_api import TABLE, coverage_page, signature
from bridge.replica.state.messages import Reject, Reply

MINUTE = 60 * 1_000_000_000
# Arguments with which a call does no harm; others get zeros.
ARGUMENTS = {"global_timer_set": [0], "canister_self_copy": [64, 0, 0]}


def number(data):
    return int.from_bytes(data, "little")


def harmless(program, name):
    """A program that calls one function, with a call under construction where it needs one."""
    row = TABLE[name]
    made = program()
    return getattr(made, name)(*ARGUMENTS.get(name, [0] * len(row.params)))


def is_context_violation(answer):
    return isinstance(answer, Reject) and "cannot be executed in" in answer.message


def functions(memory64):
    return [name for name, row in sorted(TABLE.items()) if not (memory64 and row.only32)]


def outcome_in(driver, wasm, program, mode, made):
    """Run a program in one context, and give its answer."""
    if mode is Mode.I:
        return driver.install_raw(driver.create(), wasm, made)
    canister = driver.create(wasm)
    if mode is Mode.U:
        return driver.call(canister, "update", made)
    if mode is Mode.RQ:
        return driver.call(canister, "query", made)
    if mode is Mode.NRQ:
        return driver.query(canister, made)
    if mode is Mode.CQ:
        return driver.query(canister, made, method="composite")
    if mode is Mode.G:
        driver.update(canister, program().hook("canister_pre_upgrade", made).reply(b""))
        return driver.install_raw(canister, wasm, mode="upgrade")
    if mode is Mode.F:
        driver.update(canister, program().hook("canister_inspect_message", made).reply(b""))
        return driver.submit(canister, "update", program().reply(b"")).payload
    if mode is Mode.T:
        setup = program().hook("canister_global_timer", made)
        driver.update(canister, setup.global_timer_set(1).drop().reply(b""))
        driver.advance(1)
        entry = [entry for entry in driver.machine.log.entries if entry.kind == "timer"][-1]
        return Reject(5, entry.text) if entry.outcome == "trapped" else Reply(b"")
    if mode in (Mode.Ry, Mode.Rt):
        callee = program().reply(b"") if mode is Mode.Ry else program().msg_reject("")
        callbacks = {"reply" if mode is Mode.Ry else "reject": made}
        return driver.call(
            canister, "update", program().call(canister.raw, "update", callee, **callbacks).drop()
        )
    if mode in (Mode.CRy, Mode.CRt):
        other = driver.create(wasm)
        callee = program().reply(b"") if mode is Mode.CRy else program().msg_reject("")
        callbacks = {"reply" if mode is Mode.CRy else "reject": made}
        asked = program().call(other.raw, "query", callee, **callbacks).drop()
        return driver.query(canister, asked, method="composite")
    assert mode is Mode.C
    calling = program().call(
        canister.raw, "update", program().reply(b""), reply=program().unreachable(), cleanup=made
    )
    driver.call(canister, "update", calling.drop())
    texts = [record.content.decode() for record in driver.canisters[canister].log]
    for text in texts:
        if "cannot be executed in" in text:
            return Reject(5, text)
    return Reply(b"")


def outcome_without_a_canister(wasm, program, mode, name):
    """Enter the canister by hand in a context that no message of this replica brings about."""
    from bridge.replica.execution.engine import compile_module
    from bridge.replica.execution.failures import ExecutionError
    from bridge.replica.execution.run import Environment, Run
    from bridge.replica.scheduler.sandbox import MAX_STABLE_PAGES, new_instance
    from bridge.replica.state.stable import StableMemory

    environment = Environment(b"\1", b"\2", b"", frozenset(), 1, 1, 1, 1000, 0)
    run = Run(mode, environment, 50_000_000, can_respond=True)
    # What the canister itself needs to get at its program is not allowed in each context.
    made = harmless(program, name)
    instance = new_instance(compile_module(wasm), StableMemory(MAX_STABLE_PAGES))
    instance.write(100_000, bytes(made))
    instance.write(HEARTBEAT, (100_000).to_bytes(8, "little"))
    try:
        instance.enter(run, "canister_heartbeat")
    except ExecutionError as error:
        return Reject(5, error.message)
    return Reply(b"")


HEARTBEAT = 32  # where the universal canister keeps the program of that entry point


@pytest.mark.parametrize("mode", [Mode.TQ, Mode.CC, Mode.s], ids=lambda mode: mode.name)
@pytest.mark.parametrize("memory64", [True, False], ids=["64", "32"])
@pytest.mark.covers("System API, where the specification allows it")
def test_rare_contexts_allow_what_the_table_says(universal_wasm, program, mode, memory64):
    wasm = universal_wasm(memory64)
    wrong = [
        name
        for name in functions(memory64)
        if is_context_violation(outcome_without_a_canister(wasm, program, mode, name))
        is bool(TABLE[name].contexts & mode)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("function", "allowed"),
    [("(func $f (result i64))", False), ("(func $f (param i32 i32))", True)],
    ids=["time", "debug_print"],
)
def test_a_start_function_is_run_as_one(driver, function, allowed):
    import wasmtime

    name, arguments = ("debug_print", "(i32.const 0) (i32.const 0)") if allowed else ("time", "")
    module = f"""(module (import "ic0" "{name}" {function}) (memory 1)
      (func $start (call $f {arguments}) {"" if allowed else "drop"}) (start $start))"""
    answer = driver.install_raw(driver.create(), bytes(wasmtime.wat2wasm(module)))
    assert isinstance(answer, Reply) is allowed
    assert is_context_violation(answer) is not allowed


def test_the_cleanup_of_a_composite_query_is_run_as_one(driver, canister, wasm, program):
    """What it does shows in the next callback, and it may not do what only updates may."""
    others = [driver.create(wasm) for _ in range(3)]
    cleanups = [program().set_counter(5), program().set_counter(6).certified_data_set(0, 0)]
    asked = program()
    for other, cleanup in zip(others, cleanups, strict=False):
        asked.call(
            other.raw, "query", program().reply(b""),
            reply=program().set_counter(9).unreachable(), cleanup=cleanup,
        ).drop()  # fmt: skip
    on_reply = program().counter().append_number().reply()
    asked.call(others[2].raw, "query", program().reply(b""), reply=on_reply).drop()
    answer = driver.query(canister, asked, method="composite")
    assert isinstance(answer, Reply), answer
    assert number(answer.data) == 5


CONTEXTS = [
    Mode.I, Mode.G, Mode.U, Mode.RQ, Mode.NRQ, Mode.CQ, Mode.Ry, Mode.Rt, Mode.CRy, Mode.CRt,
    Mode.C, Mode.F, Mode.T,
]  # fmt: skip


@pytest.mark.parametrize("mode", CONTEXTS, ids=lambda mode: mode.name)
@pytest.mark.parametrize("memory64", [True, False], ids=["64", "32"])
@pytest.mark.covers("System API, where the specification allows it")
def test_each_function_is_allowed_exactly_where_the_table_says(
    driver, universal_wasm, program, mode, memory64
):
    wasm = universal_wasm(memory64)
    wrong = [
        name
        for name in functions(memory64)
        if is_context_violation(outcome_in(driver, wasm, program, mode, harmless(program, name)))
        is bool(TABLE[name].contexts & mode)
    ]
    assert wrong == []


def test_the_tables_letters_are_those_of_the_specification():
    everywhere = {"I", "G", "U", "RQ", "NRQ", "TQ", "CQ", "Ry", "Rt", "CRy", "CRt", "C", "CC", "F",
                  "T"}  # fmt: skip

    def letters(name):
        return {mode.name for mode in Mode if mode & TABLE[name].contexts}

    assert letters("time") == everywhere
    assert letters("debug_print") == everywhere | {"s"}
    assert letters("accept_message") == {"F"}
    assert letters("msg_cycles_accept128") == {"U", "RQ", "Ry", "Rt"}
    assert letters("data_certificate_copy") == {"NRQ", "CQ"}
    assert {row.name for row in TABLE.values() if row.only32} == {
        "msg_cycles_available", "msg_cycles_refunded", "msg_cycles_accept",
        "canister_cycle_balance", "call_cycles_add", "stable_size", "stable_grow", "stable_write",
        "stable_read",
    }  # fmt: skip


def test_the_documentation_shows_the_table():
    page = Path(__file__).resolve().parents[2] / "docs" / "system-api.md"
    assert page.read_text(encoding="utf-8") == coverage_page(), "run: make system-api"


def test_pointers_have_the_width_of_the_memory():
    assert signature(TABLE["msg_arg_data_copy"], memory64=True) == ("lll", "")
    assert signature(TABLE["msg_arg_data_copy"], memory64=False) == ("iii", "")
    assert signature(TABLE["stable64_write"], memory64=False) == ("lll", "")


OUT_OF_BOUNDS = {
    "reading memory": lambda p: p.msg_reply_data_append(2**31, 100),
    "writing memory": lambda p: p.canister_self_copy(2**31, 0, 1),
    "beyond the blob": lambda p: p.canister_self_copy(64, 0, 11),
    "stable memory that is not there": lambda p: p.stable64_read(64, 0, 1),
    "writing stable memory that is not there": lambda p: p.stable64_write(0, 64, 1),
    "a wrapping stable offset": lambda p: p.stable64_read(64, 2**64 - 1, 2),
    "too much certified data": lambda p: p.certified_data_set(0, 33),
    "an unknown counter": lambda p: p.performance_counter(2),
    "text that is not UTF-8": lambda p: p.msg_reject(b"\xff\xfe"),
    "a variable that is not there": lambda p: p.env_var_name_size(0),
    "a response too large": lambda p: p.grow(40).drop().msg_reply_data_append(0, 2**21 + 1),
    "no call under construction": lambda p: p.call_perform(),
    "a callee that is no principal": lambda p: p.call_new(0, 30, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_what_is_out_of_bounds_traps(driver, canister, program, name):
    answer = driver.reject(canister, OUT_OF_BOUNDS[name](program()))
    assert answer.code == 5
    assert answer.error_code in ("IC0502", "IC0504")
    assert driver.update(canister, program().reply(b"alive")) == b"alive"


@pytest.mark.covers("instruction limits")
def test_an_endless_loop_ends_at_its_limit(driver, canister, program):
    answer = driver.reject(canister, program().spin())
    assert (answer.code, answer.error_code) == (5, "IC0522")
    assert driver.update(canister, program().reply(b"alive")) == b"alive"


def test_endless_recursion_is_a_trap(driver, canister, program):
    answer = driver.reject(canister, program().recurse())
    assert answer.error_code == "IC0502"
    assert "stack overflow" in answer.message


@pytest.mark.covers("instruction limits")
def test_instructions_are_counted_the_same_in_every_run(driver, wasm, program):
    asked = program().performance_counter(0).append_number().reply()
    counts = {number(driver.update(driver.create(wasm), asked)) for _ in range(3)}
    assert len(counts) == 1
    assert counts.pop() > 100


def test_a_call_contexts_counter_goes_on_in_its_callbacks(driver, canister, program):
    on_reply = program().performance_counter(0).append_number()
    on_reply.performance_counter(1).append_number().reply()
    calling = program().call(canister.raw, "update", program().reply(b""), reply=on_reply)
    data = driver.update(canister, calling.drop())
    assert number(data[8:]) > number(data[:8])


def test_a_composite_querys_counter_goes_on_in_its_callbacks(driver, canister, other, program):
    on_reply = program().performance_counter(0).append_number()
    on_reply.performance_counter(1).append_number().reply()
    asked = program().call(other.raw, "query", program().reply(b""), reply=on_reply).drop()
    answer = driver.query(canister, asked, method="composite")
    assert isinstance(answer, Reply)
    assert number(answer.data[8:]) > number(answer.data[:8])


def test_only_the_target_of_a_query_gets_a_certificate(driver, canister, other, program):
    present = program().data_certificate_present().append_number().reply()
    assert driver.query(canister, present) == Reply((1).to_bytes(8, "little"))
    on_reply = program().append_blob_of("msg_arg_data").reply()
    asked = program().call(other.raw, "query", present, reply=on_reply).drop()
    answer = driver.query(canister, asked, method="composite")
    assert answer == Reply((0).to_bytes(8, "little"))


def test_printing_never_traps_for_its_arguments(driver, canister, program):
    wide = program().debug_print(2**31, 100).debug_print(0, 2**31).reply(b"alive")
    assert driver.update(canister, wide) == b"alive"
    texts = [record.content for record in driver.canisters[canister].log]
    assert len(texts) == 2
    assert b"out of the memory's bounds" in texts[0]


def test_a_message_that_prints_without_end_keeps_little_of_it(make_driver, program):
    driver = make_driver(update=20_000_000)
    module = """(module (import "ic0" "debug_print" (func $print (param i32 i32))) (memory 1)
      (func (export "canister_update print")
        (loop $again (call $print (i32.const 0) (i32.const 4000)) (br $again))))"""
    import wasmtime

    canister = driver.create(bytes(wasmtime.wat2wasm(module)))
    kept = driver.canisters[canister]
    written = []
    append = kept.append_log

    class Noting(type(kept)):
        __slots__ = ()

        def append_log(self, timestamp, content):
            written.append(len(content))
            append(timestamp, content)

    kept.__class__ = Noting
    assert isinstance(driver.call(canister, "print"), Reject)
    assert sum(written) <= 2 * 1024 * 1024 + 1000
    assert kept.log_next > 20_000_000 // (4000 + 600)  # the numbers tell of all that was printed


def test_a_traps_text_leaves_out_what_is_no_text(driver, canister, program):
    assert "'ab'" in driver.reject(canister, program().trap(b"a\xff\xfeb")).message


@pytest.mark.parametrize(
    ("name", "curve", "answer"),
    [
        ("cost_sign_with_ecdsa", 1, 2), ("cost_sign_with_ecdsa", 2, 1),
        ("cost_sign_with_schnorr", 1, 2), ("cost_sign_with_schnorr", 2, 1),
        ("cost_vetkd_derive_key", 0, 2), ("cost_vetkd_derive_key", 1, 1),
    ],
)  # fmt: skip
def test_no_threshold_key_has_a_price(driver, canister, program, name, curve, answer):
    asked = getattr(program(), name)("key_1", curve, 512).append_number().reply()
    assert number(driver.update(canister, asked)) == answer
    beyond = getattr(program(), name)("key_1", curve, 2**31)
    assert driver.reject(canister, beyond).error_code == "IC0502"


def test_an_outcalls_price_needs_its_parameters(driver, canister, program):
    from bridge.candid import Codec, Nat64, Null, Opt, Record

    numbers = (
        "request_bytes", "http_roundtrip_time_ms", "raw_response_bytes",
        "transformed_response_bytes", "transform_instructions",
    )  # fmt: skip
    codec = Codec([Record({**dict.fromkeys(numbers, Nat64), "outcall_type": Opt(Null)})])
    good = codec.encode({**dict.fromkeys(numbers, 1), "outcall_type": None})
    asked = program().cost_http_request_v2(good, 512).msg_reply_data_append(512, 16).reply()
    assert number(driver.update(canister, asked)) == 0
    assert driver.reject(canister, program().cost_http_request_v2(b"DIDL", 512)).code == 5
    assert driver.reject(canister, program().cost_http_request_v2(0, 2000, 512)).code == 5


def test_the_subnet_has_one_node(driver, canister, program):
    asked = program().subnet_self_node_count().append_number().reply()
    assert number(driver.update(canister, asked)) == 1


def test_stable_memory_keeps_what_is_written(driver, canister, program):
    write = program().stable64_grow(3).append_number().store(512, 2**60 + 7)
    write.stable64_write(65_536 * 2 - 4, 512, 8).reply()
    assert number(driver.update(canister, write)) == 0
    read = program().stable64_read(520, 65_536 * 2 - 4, 8).msg_reply_data_append(520, 8).reply()
    assert number(driver.update(canister, read)) == 2**60 + 7
    assert number(driver.update(canister, program().stable64_size().append_number().reply())) == 3


def test_a_message_cannot_fill_the_machine_with_stable_pages(make_driver, monkeypatch):
    """A byte in each of very many pages costs as much as the pages."""
    import wasmtime

    from bridge.replica.state.stable import StableMemory

    scattering = """(module (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
      (import "ic0" "stable64_write" (func $write (param i64 i64 i64))) (memory 1)
      (func (export "canister_update scatter") (local $at i64)
        (drop (call $grow (i64.const 1000000)))
        (loop $again (call $write (local.get $at) (i64.const 0) (i64.const 1))
          (local.set $at (i64.add (local.get $at) (i64.const 65536))) (br $again))))"""
    driver = make_driver(update=50_000_000)
    canister = driver.create(bytes(wasmtime.wat2wasm(scattering)))
    touched, undo = [], StableMemory.undo

    def noting_undo(stable):
        touched.append(stable.touched)
        undo(stable)

    monkeypatch.setattr(StableMemory, "undo", noting_undo)
    answer = driver.call(canister, "scatter")
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0522"
    assert 0 < touched[0] <= 51_000_000


def test_stable_memory_does_not_grow_beyond_its_limit(driver, canister, program):
    grow = program().stable64_grow(2**40).append_number().reply()
    assert number(driver.update(canister, grow)) == 2**64 - 1


def test_the_old_stable_calls_refuse_a_memory_that_is_too_large(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(False))
    small = program().stable_grow(2).drop().stable_size().append_number().reply()
    assert number(driver.update(canister, small)) == 2
    driver.update(canister, program().stable64_grow(65_536).drop().reply(b""))
    answer = driver.reject(canister, program().stable_size())
    assert "32 bit stable memory api" in answer.message


def test_a_canister_knows_itself_its_subnet_caller_and_controllers(driver, canister, program):
    asked = program().append_blob_of("canister_self").reply()
    assert driver.update(canister, asked) == canister.raw
    subnet = driver.machine.subnet.keys.subnet_id.raw
    assert driver.update(canister, program().append_blob_of("subnet_self").reply()) == subnet
    caller = driver.update(canister, program().append_blob_of("msg_caller").reply())
    controls = program().is_controller(caller).append_number().reply()
    assert number(driver.update(canister, controls)) == 1
    controls = program().is_controller(canister.raw).append_number().reply()
    assert number(driver.update(canister, controls)) == 0


def test_environment_variables_are_told(driver, wasm, program):
    variables = [{"name": "GREETING", "value": "hello"}]
    canister = driver.create(wasm, settings={"environment_variables": variables})
    asked = program().env_var_count().append_number().env_var_name_exists("GREETING")
    asked.append_number().env_var_value_size("GREETING").append_number().reply()
    data = driver.update(canister, asked)
    assert [number(data[at : at + 8]) for at in (0, 8, 16)] == [1, 1, 5]
    asked = program().blob("GREETING").push(512).push(0).push(5).env_var_value_copy()
    assert driver.update(canister, asked.msg_reply_data_append(512, 5).reply()) == b"hello"


@pytest.mark.covers("timers and heartbeats")
def test_the_timer_fires_once_when_its_time_has_come(driver, canister, program):
    hook = program().add_to_counter(1)
    armed = program().hook("canister_global_timer", hook)
    armed.time().push(MINUTE).add().global_timer_set().append_number().reply()
    assert number(driver.update(canister, armed)) == 0
    read = program().counter().append_number().reply()
    driver.settle()
    assert number(driver.update(canister, read)) == 0
    driver.advance(2 * MINUTE)
    assert number(driver.update(canister, read)) == 1
    driver.advance(2 * MINUTE)
    assert number(driver.update(canister, read)) == 1


@pytest.mark.covers("timers and heartbeats")
def test_a_heartbeat_comes_back(driver, canister, program):
    hook = program().add_to_counter(1)
    driver.update(canister, program().hook("canister_heartbeat", hook).reply(b""))
    for _ in range(3):
        driver.advance(2_000_000_000)
    read = program().counter().append_number().reply()
    assert number(driver.update(canister, read)) >= 3


@pytest.mark.covers("inspect_message")
def test_a_canister_may_refuse_ingress_messages(driver, canister, program):
    only = program().hook("canister_inspect_message", program().push(0).drop())
    driver.update(canister, only.reply(b""))
    answer = driver.call(canister, "update", program().reply(b""))
    assert isinstance(answer, Reject)
    assert (answer.code, answer.error_code) == (4, "IC0406")


def test_a_canister_inspects_the_methods_name(driver, canister, program):
    inspecting = program().msg_method_name_copy(512, 0, 6).accept_message()
    driver.update(canister, program().hook("canister_inspect_message", inspecting).reply(b""))
    assert driver.update(canister, program().reply(b"taken")) == b"taken"
    assert isinstance(driver.call(canister, "query", program().reply(b"")), Reject)


def test_certified_data_comes_back_with_a_certificate(driver, canister, program):
    from bridge.wire import Certificate

    driver.update(canister, program().certified_data_set(b"promise").reply(b""))
    asked = program().append_blob_of("data_certificate").reply()
    answer = driver.query(canister, asked)
    assert isinstance(answer, Reply)
    certificate = Certificate.from_cbor(answer.data)
    certificate.verify(
        driver.machine.subnet.keys.root.public_key_der, canister, now=driver.machine.time
    )
    assert certificate.value((b"canister", canister.raw, b"certified_data")) == b"promise"


@pytest.mark.covers("logs")
def test_what_a_canister_prints_and_traps_with_is_in_its_log(driver, canister, program):
    driver.update(canister, program().debug_print("hello").reply(b""))
    driver.reject(canister, program().trap("oh no"))
    texts = [record.content for record in driver.canisters[canister].log]
    assert texts[0] == b"hello"
    assert b"oh no" in texts[1]


def test_what_cannot_be_a_principal_is_refused_before_its_bytes_are_looked_at(
    driver, canister, program
):
    """A size beyond the memory is refused as too long: nothing of that size is copied."""
    size = 2**23
    calling = program().push(0).push(size).blob("method").push(0).push(0).push(0).push(0).call_new()
    rejected = driver.reject(canister, calling)
    assert (rejected.error_code, "29 bytes" in rejected.message) == ("IC0504", True)


def test_a_key_whose_cost_is_asked_for_is_not_copied(driver, canister, program, monkeypatch):
    copied, read = [], Instance.read

    def reading(instance, at, size):
        copied.append(size)
        return read(instance, at, size)

    monkeypatch.setattr(Instance, "read", reading)
    name = 65_536
    for function in ("cost_sign_with_ecdsa", "cost_sign_with_schnorr", "cost_vetkd_derive_key"):
        made = getattr(program(), function)(0, name, 0, 1024)
        assert driver.update(canister, made.append_number().reply()) == (2).to_bytes(8, "little")
        beyond = getattr(program(), function)(0, 2**26, 0, 1024)
        assert driver.reject(canister, beyond.drop().reply(b"")).error_code == "IC0502"
    assert max(copied) < name
