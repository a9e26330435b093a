"""The management canister: who may call what, installation modes, settings, chunks, logs."""

import hashlib
import threading

import pytest

from bridge.candid import Case
from bridge.principal import Principal
from bridge.replica.execution.engine import compile_module
from bridge.replica.management import install as install_module
from bridge.replica.management import query as management_query
from bridge.replica.management.types import SIGNATURES, UNSUPPORTED
from bridge.replica.state.messages import FROM_SYSTEM, Reject, Reply, Request

OWNER = Principal.self_authenticating(b"a user")
STRANGER = Principal.self_authenticating(b"a stranger")
KEEP = {"skip_pre_upgrade": None, "wasm_memory_persistence": Case("keep")}


def number(data):
    return int.from_bytes(data, "little")


def named(canister):
    return {"canister_id": canister}


@pytest.fixture
def persistent(universal_wasm):
    """A universal canister that is marked as keeping its main memory."""
    mark = b"enhanced-orthogonal-persistence"
    body = bytes([len(mark)]) + mark
    return universal_wasm(True) + bytes([0, len(body)]) + body


@pytest.mark.covers("create")
def test_a_new_canister_is_its_creators_and_has_cycles(driver):
    canister = driver.create(cycles=5)
    status = driver.manage("canister_status", named(canister))
    assert status["cycles"] == 5
    assert status["module_hash"] is None
    assert status["settings"]["controllers"] == [OWNER]
    assert status["status"] == Case("running")


@pytest.mark.covers("create")
def test_an_id_can_be_chosen_once(driver):
    wanted = Principal.from_text("um5iw-rqaaa-aaaaq-qaaba-cai")
    assert driver.create(name=wanted) == wanted
    value = {"amount": None, "settings": None, "specified_id": wanted,
             "sender_canister_version": None}  # fmt: skip
    answer = driver.manage_raw("provisional_create_canister_with_cycles", value)
    assert isinstance(answer, Reject)
    value["specified_id"] = Principal.anonymous()
    answer = driver.manage_raw("provisional_create_canister_with_cycles", value)
    assert isinstance(answer, Reject)
    assert "ranges" in answer.message


def test_only_controllers_manage(driver, universal_wasm):
    canister = driver.create()
    for method in ("canister_status", "stop_canister", "start_canister", "delete_canister"):
        answer = driver.manage_raw(method, named(canister), sender=STRANGER)
        assert isinstance(answer, Reject)
        assert answer.error_code == "IC0512", method
    answer = driver.install_raw(canister, universal_wasm(True), sender=STRANGER)
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0512"


def test_a_missing_canister_is_named(driver):
    answer = driver.manage_raw(
        "canister_status", named(Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai"))
    )
    assert isinstance(answer, Reject)
    assert (answer.code, answer.error_code) == (3, "IC0301")
    assert "Canister rrkah-fqaaa-aaaaa-aaaaq-cai not found" in answer.message


@pytest.mark.covers("install, upgrade, reinstall")
def test_installing_twice_is_refused_and_reinstalling_starts_anew(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    driver.update(canister, program().set_counter(9).stable64_grow(1).drop().reply(b""))
    answer = driver.install_raw(canister, universal_wasm(True))
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0538"
    driver.install(canister, universal_wasm(True), mode="reinstall")
    read = program().counter().append_number().stable64_size().append_number().reply()
    assert driver.update(canister, read) == bytes(16)


@pytest.mark.covers("install, upgrade, reinstall")
def test_an_upgrade_keeps_stable_memory_and_runs_the_hooks(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    saving = program().stable64_grow(1).drop().store(512, 42).stable64_write(0, 512, 8)
    setup = program().set_counter(9).hook("canister_pre_upgrade", saving).reply(b"")
    driver.update(canister, setup)
    loading = program().stable64_read(520, 0, 8)
    driver.install(canister, universal_wasm(False), loading, mode="upgrade")
    read = program().load(520).append_number().counter().append_number().reply()
    data = driver.update(canister, read)
    assert (number(data[:8]), number(data[8:])) == (42, 0)


@pytest.mark.parametrize("broken", ["canister_pre_upgrade", "canister_post_upgrade"])
@pytest.mark.covers("install, upgrade, reinstall")
def test_a_failed_upgrade_changes_nothing(driver, universal_wasm, program, broken):
    canister = driver.create(universal_wasm(True))
    trapping = program().stable64_grow(7).drop().set_counter(1).unreachable()
    setup = program().set_counter(9).stable64_grow(1).drop()
    if broken == "canister_pre_upgrade":
        setup.hook("canister_pre_upgrade", trapping)
    driver.update(canister, setup.reply(b""))
    arg = b"\0" if broken == "canister_pre_upgrade" else bytes(trapping)
    before = driver.canisters[canister].module_hash
    answer = driver.install_raw(canister, universal_wasm(False), arg, mode="upgrade")
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0502"
    assert driver.canisters[canister].module_hash == before
    read = program().counter().append_number().stable64_size().append_number().reply()
    data = driver.update(canister, read)
    assert (number(data[:8]), number(data[8:])) == (9, 1)


def test_the_pre_upgrade_hook_can_be_skipped(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    setup = program().hook("canister_pre_upgrade", program().unreachable())
    driver.update(canister, setup.reply(b""))
    assert isinstance(driver.install_raw(canister, universal_wasm(True), mode="upgrade"), Reject)
    options = {"skip_pre_upgrade": True, "wasm_memory_persistence": None}
    driver.install(canister, universal_wasm(True), mode="upgrade", options=options)


@pytest.mark.covers("install, upgrade, reinstall")
def test_a_persistent_module_keeps_its_main_memory_but_not_its_globals(driver, persistent, program):
    canister = driver.create(persistent)
    driver.update(canister, program().store(512, 7).set_counter(7).grow(20).drop().reply(b""))
    driver.install(canister, persistent, mode="upgrade", options=KEEP)
    read = program().load(512).append_number().counter().append_number()
    read.memory_size().append_number().reply()
    data = driver.update(canister, read)
    assert [number(data[at : at + 8]) for at in (0, 8, 16)] == [7, 0, 24]


def test_a_persistent_modules_upgrade_must_say_what_becomes_of_its_memory(
    driver, persistent, universal_wasm
):
    canister = driver.create(persistent)
    answer = driver.install_raw(canister, persistent, mode="upgrade")
    assert isinstance(answer, Reject)
    assert "wasm_memory_persistence" in answer.message
    answer = driver.install_raw(canister, universal_wasm(True), mode="upgrade", options=KEEP)
    assert isinstance(answer, Reject)
    assert "supports enhanced orthogonal persistence" in answer.message
    replace = {"skip_pre_upgrade": None, "wasm_memory_persistence": Case("replace")}
    driver.install(canister, persistent, mode="upgrade", options=replace)


def test_upgrading_an_empty_canister_is_refused(driver, universal_wasm):
    answer = driver.install_raw(driver.create(), universal_wasm(True), mode="upgrade")
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0537"


def test_a_timer_does_not_outlive_an_installation(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    driver.update(canister, program().global_timer_set(2**62).drop().reply(b""))
    driver.install(canister, universal_wasm(True), mode="upgrade")
    assert driver.canisters[canister].global_timer == 0


@pytest.mark.covers("uninstall")
def test_an_uninstalled_canister_is_empty(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    driver.manage("uninstall_code", {**named(canister), "sender_canister_version": None})
    answer = driver.call(canister, "update", program().reply(b""))
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0537"
    driver.install(canister, universal_wasm(True))
    assert driver.update(canister, program().reply(b"again")) == b"again"


@pytest.mark.covers("stop, start, delete")
def test_only_a_stopped_canister_is_deleted(driver):
    canister = driver.create()
    answer = driver.manage_raw("delete_canister", named(canister))
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0510"
    driver.manage("stop_canister", named(canister))
    driver.manage("delete_canister", named(canister))
    assert canister not in driver.canisters
    value = {"amount": None, "settings": None, "specified_id": canister,
             "sender_canister_version": None}  # fmt: skip
    answer = driver.manage_raw("provisional_create_canister_with_cycles", value)
    assert isinstance(answer, Reject)
    assert "has existed" in answer.message


@pytest.mark.covers("settings")
def test_settings_change_one_by_one(driver):
    canister = driver.create()
    variables = [{"name": "A", "value": "b"}]
    changes = {
        "freezing_threshold": 17,
        "log_visibility": Case("public"),
        "environment_variables": variables,
    }
    assert isinstance(driver.update_settings(canister, **changes), Reply)
    told = driver.manage("canister_status", named(canister))["settings"]
    assert {name: told[name] for name in changes} == changes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compute_allocation", 101),
        ("wasm_memory_limit", 2**49),
        ("log_memory_limit", 100),
        ("minimum_incoming_canister_call_cycles", 2**128),
        ("controllers", [Principal(bytes([n])) for n in range(11)]),
        ("environment_variables", [{"name": "A", "value": ""}, {"name": "A", "value": ""}]),
        ("status_visibility", Case("allowed_viewers", [Principal(bytes([n])) for n in range(11)])),
    ],
)
@pytest.mark.covers("settings")
def test_settings_out_of_range_are_refused(driver, name, value):
    answer = driver.update_settings(driver.create(), **{name: value})
    assert isinstance(answer, Reject)
    assert "Invalid settings" in answer.message


def test_a_canister_may_ask_for_cycles_with_each_call(driver, universal_wasm, program):
    one, other = driver.create(universal_wasm(True)), driver.create(universal_wasm(True))
    driver.update_settings(other, minimum_incoming_canister_call_cycles=100)
    on_reject = program().msg_reject_code().append_number().reply()
    on_reply = program().reply(b"taken")

    def calling(cycles):
        return program().call(
            other.raw, "update", program().reply(b""), reply=on_reply, reject=on_reject,
            cycles=cycles,
        ).drop()  # fmt: skip

    assert number(driver.update(one, calling(99))) == 5
    assert driver.update(one, calling(100)) == b"taken"
    assert driver.update(other, program().reply(b"users are free")) == b"users are free"


def test_a_wasm_memory_limit_stops_updates_but_not_queries(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    driver.update_settings(canister, wasm_memory_limit=10 * 65_536)
    growing = program().grow(10).drop().reply(b"grown")
    answer = driver.reject(canister, growing)
    assert answer.error_code == "IC0539"
    assert driver.query(canister, growing) == Reply(b"grown")
    size = program().memory_size().append_number().reply()
    assert number(driver.update(canister, size)) == 4


def test_a_low_memory_runs_the_hook(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    hook = program().set_counter(1)
    driver.update(canister, program().hook("canister_on_low_wasm_memory", hook).reply(b""))
    driver.update_settings(
        canister, wasm_memory_limit=100 * 65_536, wasm_memory_threshold=50 * 65_536
    )
    read = program().counter().append_number().reply()
    driver.update(canister, program().grow(10).drop().reply(b""))
    assert number(driver.update(canister, read)) == 0
    driver.update(canister, program().grow(60).drop().reply(b""))
    assert number(driver.update(canister, read)) == 1


@pytest.mark.covers("canister_status")
def test_the_status_is_for_whom_the_settings_say(driver):
    canister = driver.create()

    def ask():
        return driver.manage_raw("canister_status", named(canister), sender=STRANGER)

    assert isinstance(ask(), Reject)
    driver.update_settings(canister, status_visibility=Case("allowed_viewers", [STRANGER]))
    assert isinstance(ask(), Reply)
    driver.update_settings(canister, status_visibility=Case("controllers"))
    assert isinstance(ask(), Reject)
    driver.update_settings(canister, status_visibility=Case("public"))
    assert isinstance(ask(), Reply)


@pytest.mark.covers("logs")
def test_the_log_keeps_the_newest_within_its_limit(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    for letter in (b"a", b"b", b"c"):
        driver.update(canister, program().debug_print(letter * 2000).reply(b""))
    assert [record.content[:1] for record in driver.canisters[canister].log] == [b"b", b"c"]


@pytest.mark.covers("install from chunks")
def test_a_module_installs_from_chunks(driver, universal_wasm, program):
    canister = driver.create()
    wasm = universal_wasm(True)
    parts = [wasm[:3000], wasm[3000:]]
    hashes = [driver.manage("upload_chunk", {**named(canister), "chunk": part}) for part in parts]
    assert driver.manage("stored_chunks", named(canister)) == hashes
    value = {
        "mode": Case("install"), "target_canister": canister, "store_canister": None,
        "chunk_hashes_list": hashes, "wasm_module_hash": hashlib.sha256(wasm).digest(),
        "arg": b"\0", "sender_canister_version": None,
    }  # fmt: skip
    wrong = {**value, "wasm_module_hash": bytes(32)}
    assert isinstance(driver.manage_raw("install_chunked_code", wrong), Reject)
    assert isinstance(driver.manage_raw("install_chunked_code", value), Reply)
    assert driver.update(canister, program().reply(b"whole")) == b"whole"
    driver.manage("clear_chunk_store", named(canister))
    assert driver.manage("stored_chunks", named(canister)) == []


def _by_canister(driver, canister, program, method, value, *, cycles=0):
    """Let a canister call the management canister; the reply's bytes, or the reject's text."""
    signature = SIGNATURES[method]
    arg = b"DIDL\0\0" if signature.argument is None else signature.argument.encode(value)
    calling = program().call(
        b"", method, arg, reply=program().append_blob_of("msg_arg_data").reply(),
        reject=program().append_blob_of("msg_reject_msg").reply(), cycles=cycles,
    )  # fmt: skip
    return driver.update(canister, calling.drop())


def test_a_canister_creates_and_controls_another(driver, universal_wasm, program):
    parent = driver.create(universal_wasm(True))
    value = {"settings": None, "sender_canister_version": None}
    reply = _by_canister(driver, parent, program, "create_canister", value, cycles=12)
    child = SIGNATURES["create_canister"].result.decode(reply)[0]["canister_id"]
    assert driver.canisters[child].cycles == 12
    assert driver.canisters[child].settings.controllers == (parent,)


@pytest.mark.covers("randomness")
def test_randomness_is_for_canisters_and_differs_each_time(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    first = _by_canister(driver, canister, program, "raw_rand", None)
    assert first != _by_canister(driver, canister, program, "raw_rand", None)
    answer = driver.manage_raw("raw_rand")
    assert isinstance(answer, Reject)
    assert "ingress" in answer.message


@pytest.mark.covers("history, metrics and info")
def test_a_canisters_history_is_told(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    value = {**named(canister), "num_requested_changes": 10}
    reply = _by_canister(driver, canister, program, "canister_info", value)
    (info,) = SIGNATURES["canister_info"].result.decode(reply)
    assert info["total_num_changes"] == 2
    assert [change["details"].label for change in info["recent_changes"]] == [
        "creation", "code_deployment",
    ]  # fmt: skip


def test_cycles_are_deposited_and_topped_up(driver, universal_wasm, program):
    rich, poor = driver.create(universal_wasm(True)), driver.create(cycles=0)
    _by_canister(driver, rich, program, "deposit_cycles", named(poor), cycles=40)
    driver.manage("provisional_top_up_canister", {**named(poor), "amount": 2})
    assert driver.canisters[poor].cycles == 42


def _query(driver, method, value, sender=OWNER):
    arg = SIGNATURES[method].argument.encode(value)
    answer = management_query(
        driver.machine, Request(FROM_SYSTEM, sender, Principal.management(), method, arg)
    )
    return (
        answer if isinstance(answer, Reject) else SIGNATURES[method].result.decode(answer.data)[0]
    )


@pytest.mark.covers("logs")
def test_logs_are_for_controllers_unless_public(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    for text in ("one", "two"):
        driver.update(canister, program().debug_print(text).reply(b""))
    everything = {**named(canister), "filter": None}

    def contents(value):
        records = _query(driver, "fetch_canister_logs", value)["canister_log_records"]
        return [record["content"] for record in records]

    assert contents(everything) == [b"one", b"two"]
    second = Case("by_idx", {"start": 1, "end": 9})
    assert contents({**named(canister), "filter": second}) == [b"two"]
    assert isinstance(_query(driver, "fetch_canister_logs", everything, STRANGER), Reject)
    driver.update_settings(canister, log_visibility=Case("public"))
    assert not isinstance(_query(driver, "fetch_canister_logs", everything, STRANGER), Reject)


@pytest.mark.covers("history, metrics and info")
def test_status_info_and_metrics_can_be_queried(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    driver.update(canister, program().cycles_burn128(0, 5, 1024).reply(b""))
    driver.query(canister, program().reply(b"12345"))
    status = _query(driver, "canister_status", named(canister))
    assert status["module_hash"] == driver.canisters[canister].module_hash
    assert status["query_stats"]["num_calls_total"] == 1
    assert status["query_stats"]["response_payload_bytes_total"] == 5
    info = _query(
        driver, "canister_info", {**named(canister), "num_requested_changes": None}, STRANGER
    )
    assert (info["total_num_changes"], info["recent_changes"]) == (2, [])
    metrics = _query(driver, "canister_metrics", named(canister))
    assert metrics["cycles_consumed"]["burned_cycles"] == 5
    assert isinstance(_query(driver, "canister_metrics", named(canister), STRANGER), Reject)
    assert isinstance(_query(driver, "stop_canister", named(canister)), Reject)


@pytest.mark.parametrize("method", sorted(UNSUPPORTED))
@pytest.mark.covers("lacking methods are named")
def test_a_feature_that_is_lacking_is_named(driver, method):
    answer = driver.call(Principal.management(), method)
    assert isinstance(answer, Reject)
    assert method in answer.message
    assert "not supported by this replica" in answer.message


@pytest.mark.covers("rejects: code, text, error code")
def test_broken_arguments_are_a_reject(driver):
    answer = driver.call(Principal.management(), "install_code", b"DIDL\1\x6c")
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0408"


def test_the_subnet_goes_on_while_a_module_is_compiled(
    driver, universal_wasm, program, monkeypatch
):
    free = []

    def compiling(module):
        def try_it():
            free.append(driver.machine.lock.acquire(blocking=False))
            if free[-1]:
                driver.machine.lock.release()

        trying = threading.Thread(target=try_it)
        trying.start()
        trying.join()
        return compile_module(module)

    monkeypatch.setattr(install_module, "compile_module", compiling)
    canister = driver.create(universal_wasm(True))
    assert free == [True]
    read = program().counter().append_number().reply()
    assert driver.update(canister, read) == bytes(8)
