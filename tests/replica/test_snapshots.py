"""Canister snapshots: what is taken can be loaded, read, uploaded elsewhere, listed and deleted."""

import threading

import pytest

from bridge.candid import Case
from bridge.principal import Principal
from bridge.replica.execution.instance import Instance
from bridge.replica.scheduler import queries
from bridge.replica.scheduler.sandbox import Sandbox
from bridge.replica.state.messages import Reject, Reply

STRANGER = Principal.self_authenticating(b"a stranger")


def number(data):
    return int.from_bytes(data, "little")


def _take(driver, canister, **options):
    value = {
        "canister_id": canister,
        "replace_snapshot": None,
        "uninstall_code": None,
        "sender_canister_version": None,
        **options,
    }
    return driver.manage("take_canister_snapshot", value)["id"]


def _load(driver, canister, snapshot, **options):
    value = {"canister_id": canister, "snapshot_id": snapshot, "sender_canister_version": None}
    return driver.manage_raw("load_canister_snapshot", value, **options)


def _changing(program, value):
    made = program().store(512, value).set_counter(value).stable64_grow(1).drop()
    made.store(520, value).stable64_write(0, 520, 8).certified_data_set(bytes([value]))
    return made.grow(value).drop().reply(b"")


def _state(driver, canister, program):
    read = program().load(512).append_number().counter().append_number()
    read.stable64_read(528, 0, 8).load(528).append_number()
    read.memory_size().append_number().stable64_size().append_number()
    data = driver.update(canister, read.reply())
    return [number(data[at : at + 8]) for at in range(0, 40, 8)]


@pytest.mark.covers("snapshots")
def test_loading_a_snapshot_brings_everything_back(driver, canister, program):
    driver.update(canister, _changing(program, 3))
    before = _state(driver, canister, program)
    snapshot = _take(driver, canister)
    driver.update(canister, _changing(program, 5))
    assert _state(driver, canister, program) != before
    assert isinstance(_load(driver, canister, snapshot), Reply)
    assert _state(driver, canister, program) == before
    assert driver.canisters[canister].certified_data == b"\3"
    assert driver.canisters[canister].history[-1].details[0] == "load_snapshot"


def test_a_snapshot_outlives_changes_and_another_module(driver, universal_wasm, program):
    canister = driver.create(universal_wasm(True))
    driver.update(canister, _changing(program, 3))
    before, hashed = _state(driver, canister, program), driver.canisters[canister].module_hash
    snapshot = _take(driver, canister)
    driver.install(canister, universal_wasm(False), mode="reinstall")
    assert isinstance(_load(driver, canister, snapshot), Reply)
    assert _state(driver, canister, program) == before
    assert driver.canisters[canister].module_hash == hashed
    driver.reject(canister, program().store(512, 9).unreachable())
    assert _state(driver, canister, program) == before


@pytest.mark.covers("snapshots")
def test_a_snapshot_can_be_loaded_onto_another_canister_of_the_same_controller(
    driver, canister, other, program
):
    driver.update(canister, _changing(program, 3))
    before = _state(driver, canister, program)
    snapshot = _take(driver, canister)
    assert isinstance(_load(driver, other, snapshot), Reply)
    assert _state(driver, other, program) == before
    told = driver.canisters[other].history[-1].details[1]
    assert told["from_canister_id"] == canister


def test_taking_can_uninstall_and_loading_installs_again(driver, canister, program):
    driver.update(canister, _changing(program, 3))
    before = _state(driver, canister, program)
    snapshot = _take(driver, canister, uninstall_code=True)
    assert driver.canisters[canister].module_hash is None
    assert isinstance(_load(driver, canister, snapshot), Reply)
    assert _state(driver, canister, program) == before


@pytest.mark.covers("snapshots")
def test_snapshots_are_listed_replaced_and_deleted(driver, canister):
    first, second = _take(driver, canister), _take(driver, canister)
    named = {"canister_id": canister}
    listed = driver.manage("list_canister_snapshots", named)
    assert [entry["id"] for entry in listed] == [first, second]
    third = _take(driver, canister, replace_snapshot=first)
    driver.manage("delete_canister_snapshot", {**named, "snapshot_id": second})
    listed = driver.manage("list_canister_snapshots", named)
    assert [entry["id"] for entry in listed] == [third]
    assert listed[0]["total_size"] > 4 * 65_536
    answer = _load(driver, canister, first)
    assert isinstance(answer, Reject)
    assert (answer.code, answer.error_code) == (3, "IC0305")


def test_there_are_at_most_ten(driver, canister):
    for _ in range(10):
        _take(driver, canister)
    value = {"canister_id": canister, "replace_snapshot": None, "uninstall_code": None,
             "sender_canister_version": None}  # fmt: skip
    answer = driver.manage_raw("take_canister_snapshot", value)
    assert isinstance(answer, Reject)
    assert "the limit" in answer.message


def test_snapshots_are_the_controllers_matter_unless_visible(driver, canister):
    snapshot = _take(driver, canister)
    assert isinstance(_load(driver, canister, snapshot, sender=STRANGER), Reject)
    named = {"canister_id": canister}
    assert isinstance(driver.manage_raw("list_canister_snapshots", named, sender=STRANGER), Reject)
    driver.update_settings(canister, snapshot_visibility=Case("public"))
    assert isinstance(driver.manage_raw("list_canister_snapshots", named, sender=STRANGER), Reply)


def _data(driver, canister, snapshot, kind):
    value = {"canister_id": canister, "snapshot_id": snapshot, "kind": kind}
    return driver.manage("read_canister_snapshot_data", value)["chunk"]


@pytest.mark.covers("snapshots")
def test_a_snapshot_travels_by_download_and_upload(driver, canister, universal_wasm, program):
    driver.update(canister, _changing(program, 3))
    driver.manage("upload_chunk", {"canister_id": canister, "chunk": b"a chunk"})
    before = _state(driver, canister, program)
    snapshot = _take(driver, canister)
    one = {"canister_id": canister, "snapshot_id": snapshot}
    metadata = driver.manage("read_canister_snapshot_metadata", one)
    assert metadata["source"].label == "taken_from_canister"
    assert metadata["global_timer"] == Case("inactive")
    sizes = {
        "wasm_module": metadata["wasm_module_size"],
        "wasm_memory": metadata["wasm_memory_size"],
        "stable_memory": metadata["stable_memory_size"],
    }
    there = driver.create()
    uploaded = driver.manage(
        "upload_canister_snapshot_metadata",
        {"canister_id": there, "replace_snapshot": None, **{
            name: metadata[name]
            for name in ("wasm_module_size", "globals", "wasm_memory_size", "stable_memory_size",
                         "certified_data", "global_timer", "on_low_wasm_memory_hook_status")
        }},
    )["snapshot_id"]  # fmt: skip
    place = {"canister_id": there, "snapshot_id": uploaded}
    for kind, size in sizes.items():
        for offset in range(0, size, 100_000):
            part = {"offset": offset, "size": min(100_000, size - offset)}
            driver.manage(
                "upload_canister_snapshot_data",
                {**place, "kind": Case(kind, {"offset": offset}),
                 "chunk": _data(driver, canister, snapshot, Case(kind, part))},
            )  # fmt: skip
    (digest,) = metadata["wasm_chunk_store"]
    chunk = _data(driver, canister, snapshot, Case("wasm_chunk", digest))
    driver.manage(
        "upload_canister_snapshot_data", {**place, "kind": Case("wasm_chunk"), "chunk": chunk}
    )
    assert isinstance(_load(driver, there, uploaded), Reply)
    assert _state(driver, there, program) == before
    assert driver.manage("stored_chunks", {"canister_id": there}) == [digest]


@pytest.mark.parametrize("kind", ["wasm_module", "wasm_memory", "stable_memory"])
def test_parts_beyond_the_end_are_refused(driver, canister, kind):
    snapshot = _take(driver, canister)
    value = {"canister_id": canister, "snapshot_id": snapshot,
             "kind": Case(kind, {"offset": 2**40, "size": 1})}  # fmt: skip
    answer = driver.manage_raw("read_canister_snapshot_data", value)
    assert isinstance(answer, Reject)
    assert "beyond the end" in answer.message
    value = {"canister_id": canister, "snapshot_id": snapshot, "chunk": b"x",
             "kind": Case(kind, {"offset": 0})}  # fmt: skip
    answer = driver.manage_raw("upload_canister_snapshot_data", value)
    assert isinstance(answer, Reject)
    assert "metadata was uploaded" in answer.message


def test_a_snapshot_whose_module_does_not_fit_is_refused_and_changes_nothing(
    driver, canister, program
):
    value = {
        "canister_id": canister, "replace_snapshot": None, "wasm_module_size": 10, "globals": [],
        "wasm_memory_size": 0, "stable_memory_size": 0, "certified_data": b"",
        "global_timer": None, "on_low_wasm_memory_hook_status": None,
    }  # fmt: skip
    uploaded = driver.manage("upload_canister_snapshot_metadata", value)["snapshot_id"]
    driver.update(canister, program().set_counter(4).reply(b""))
    answer = _load(driver, canister, uploaded)
    assert isinstance(answer, Reject)
    assert answer.error_code == "IC0505"
    assert number(driver.update(canister, program().counter().append_number().reply())) == 4


def test_a_snapshot_has_nothing_of_a_query_that_runs_beside_it(
    driver, canister, program, hold, monkeypatch
):
    """The query waits for the memories while they are saved, and writes once it has them."""
    driver.update(canister, program().stable64_grow(1).drop().stable64_write(0, b"kept").reply(b""))
    monkeypatch.setattr(queries, "_PATIENCE_SECONDS", hold.PATIENCE)
    waits = threading.Event()
    entered, save, returned = Sandbox.entered, Instance.save, driver.machine.on_returned
    writing = program().stable64_write(0, b"gone").debug_print(hold.WORD).reply(b"")
    query = threading.Thread(target=driver.query, args=(canister, writing))

    def entering(sandbox, seconds):
        waits.set()
        return entered(sandbox, seconds)

    def saving(instance):
        query.start()
        assert waits.wait(hold.PATIENCE)
        return save(instance)

    def returning():
        assert hold.wait()
        returned()

    with monkeypatch.context() as patched:
        patched.setattr(Sandbox, "entered", entering)
        patched.setattr(Instance, "save", saving)
        patched.setattr(driver.machine, "on_returned", returning)
        snapshot = _take(driver, canister)
    hold.let_go()
    query.join()
    assert driver.canisters[canister].snapshots[snapshot].stable.read(0, 4) == b"kept"
