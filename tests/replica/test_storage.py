"""The subnet on disk: what is read back is what there was, whatever happened in between."""

import contextlib
import hashlib
import itertools
import os
import sqlite3

import pytest

from bridge import wire
from bridge.candid import Case
from bridge.errors import StateDirectoryError
from bridge.principal import Principal
from bridge.replica.management import ingress_filter
from bridge.replica.management.types import SIGNATURES
from bridge.replica.scheduler import subnet_snapshot
from bridge.replica.scheduler.rounds import Rounds
from bridge.replica.state import codec
from bridge.replica.state.messages import Reply
from bridge.replica.storage.database import Database
from bridge.replica.storage.directory import StateDirectory
from bridge.replica.storage.keeper import Keeper

SECOND = 1_000_000_000
MANAGEMENT = Principal.management()


def keep(driver, file):
    """Keep a driver's subnet in a file, in which there may be one already."""
    keeper = Keeper(driver.machine, Database(file))
    keeper.load()
    return keeper


def save(driver):
    with driver.machine.lock:
        driver.machine.save()


def written(memory):
    """The parts that are not zero: not which pages exist."""
    return [part for part in memory.parts() if any(part[1])]


def snapshots(canister):
    return {
        name: (
            kept.source, kept.taken_at, kept.version, bytes(kept.module), kept.globals,
            kept.wasm.size, written(kept.wasm), kept.stable.size, written(kept.stable),
            kept.certified_data, kept.global_timer, kept.low_memory_reported, kept.chunks,
        )
        for name, kept in canister.snapshots.items()
    }  # fmt: skip


def state(driver):
    """All that is kept: canisters by their ids, requests, and numbers."""
    machine = driver.machine
    subnet = machine.subnet
    canisters = {}
    for name, canister in subnet.canisters.items():
        sandbox = machine.sandboxes[name]
        planned, canister.timer_planned = canister.timer_planned, 0
        canisters[name] = (
            codec.dumps(canister.settled()),
            canister.module,
            canister.metadata,
            canister.chunks,
            snapshots(canister),
            driver.memory(name),
            sandbox.stable.size,
            written(sandbox.stable),
        )
        canister.timer_planned = planned
    return (
        canisters,
        {name: codec.dumps(record) for name, record in subnet.history.records.items()},
        subnet.deleted,
        subnet.seed,
        [subnet.next_number, subnet.next_context, subnet.next_callback, subnet.random_blocks],
        [subnet.transactions, subnet.burned, subnet.state_bytes],
        machine.fees,
    )


@pytest.mark.covers("state directory, whole after any crash")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.covers("state directory, whole after any crash")
def test_what_is_read_back_is_what_there_was(
    make_virtual, make_story, universal_wasm, program, tmp_path, seed
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    story = make_story(driver, universal_wasm(seed % 2 == 0), program, seed)
    for turn in range(1, 4):
        for _ in range(12):
            story.run(2)
            save(driver)
        keeper.close()
        # Messages that a fault held back go on when the subnet is read back.
        for held in tuple(driver.machine.held):
            driver.machine._go_on(held.message)
        expected = state(driver)
        clock = driver.machine.clock.now()
        driver = make_virtual()
        keeper = keep(driver, tmp_path / "state")
        assert state(driver) == expected
        assert driver.machine.clock.now() == clock
        story.driver = driver
        driver._requests = itertools.count(turn * 1_000_000)
    keeper.close()


# --- crashes ------------------------------------------------------------------------------------


def save_at_each_execution(driver, keeper, folder, *, overtaken):
    """Save when an execution has begun, and keep a copy of the file as it is then.

    Args:
        overtaken: Whether the other canisters run on meanwhile, as they do if it takes long.
    """
    folder.mkdir()
    machine = driver.machine

    def leaving():
        while overtaken and machine.has_work():
            machine.execute_next()
        machine.save()
        name = f"{len(list(folder.iterdir())):04}"
        with contextlib.closing(sqlite3.connect(folder / name)) as copy:
            keeper._database._connection.backup(copy)

    driver.machine.on_leaving = leaving


@pytest.mark.covers("state directory, whole after any crash")
@pytest.mark.covers("state directory, whole after any crash")
@pytest.mark.parametrize("overtaken", [False, True])
def test_after_a_crash_at_any_execution_everything_happens_once(
    make_virtual, universal_wasm, program, tmp_path, overtaken
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    one, two = driver.create(universal_wasm(True)), driver.create(universal_wasm(True))
    save(driver)
    # Each call adds one to the callee's counter, in a global and in stable memory; each answer
    # adds one to the caller's. Cycles go to and fro.
    grow = program().push(1).stable64_grow().drop().reply(b"")
    for canister in (one, two):
        driver.update(canister, grow)
    inner = program().add_to_counter(1).counter_to_stable().reply(b"done")
    on_reply = program().add_to_counter(1).counter_to_stable()
    calling = program()
    for _ in range(3):
        calling.call(two.raw, "update", inner, reply=on_reply, cycles=1000).drop()
    calling.push(SECOND).time().add().global_timer_set().drop()
    fired = program().call(two.raw, "update", inner, reply=on_reply).drop()
    calling.hook("canister_global_timer", fired)
    back = program().call(one.raw, "update", inner, reply=on_reply, cycles=500).drop()
    records = [
        driver.submit(one, "update", calling.reply(b"begun")),
        driver.submit(two, "update", back.reply(b"begun")),
    ]
    copies = tmp_path / "copies"
    save_at_each_execution(driver, keeper, copies, overtaken=overtaken)
    driver.settle()
    driver.advance(SECOND)
    total = sum(canister.cycles for canister in driver.canisters.values())
    read = program().counter().append_number().append_stable_number().reply()
    expected = [driver.query(one, read), driver.query(two, read)]
    assert expected == [Reply((5).to_bytes(8, "little") * 2)] * 2
    assert [record.payload for record in records] == [Reply(b"begun")] * 2
    keeper.close()
    points = sorted(copies.iterdir())
    assert len(points) > 10
    for point in points:
        again = make_virtual()
        reader = keep(again, point)
        again.settle()
        again.advance(SECOND)
        assert [again.query(one, read), again.query(two, read)] == expected, point.name
        assert sum(canister.cycles for canister in again.canisters.values()) == total
        assert not any(canister.contexts for canister in again.canisters.values())
        for record in records:
            again_record = again.machine.subnet.history.records[record.request_id]
            assert again_record.payload == record.payload
        reader.close()


@pytest.mark.covers("state directory, whole after any crash")
def test_the_time_of_a_certificate_is_kept_before_it_is_signed(
    make_virtual, universal_wasm, tmp_path, monkeypatch
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    driver.create(universal_wasm(True))
    signed = wire.Certificate.sign
    kept = []

    def sign(*args):
        kept.append(codec.loads(keeper._database._connection.execute(
            "SELECT value FROM meta WHERE name = 'head'").fetchone()[0])[0][0])  # fmt: skip
        return signed(*args)

    with driver.machine.lock:
        driver.machine.certify(driver.START + SECOND)
        monkeypatch.setattr(wire.Certificate, "sign", sign)
        # Of a state that has not changed.
        certificate = driver.machine.certify(driver.START + 9 * SECOND)
    assert kept == [certificate.time] == [driver.START + 9 * SECOND]
    keeper.close()


def test_a_defect_while_writing_ends_it_and_leaves_what_was_written(
    make_virtual, universal_wasm, program, tmp_path, monkeypatch, caplog
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    canister = driver.create(universal_wasm(True))
    save(driver)
    expected = state(driver)
    driver.update(canister, program().set_counter(5).reply(b""))
    with monkeypatch.context() as broken:
        broken.setattr(codec, "dumps", lambda _: 1 / 0)
        with pytest.raises(StateDirectoryError, match="cannot be written: ZeroDivisionError"):
            save(driver)
    assert "the state cannot be written" in caplog.text
    with pytest.raises(StateDirectoryError, match="cannot be written"):
        save(driver)
    with pytest.raises(StateDirectoryError, match="cannot be written"):
        keeper.close()
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    assert state(driver) == expected
    keeper.close()


# --- the directory and the file -----------------------------------------------------------------


def test_a_directory_belongs_to_one_process_at_a_time(tmp_path):
    with (
        StateDirectory(tmp_path / "state"),
        pytest.raises(
            StateDirectoryError, match=f"in use by another replica, process {os.getpid()}"
        ),
    ):
        StateDirectory(tmp_path / "state")
    StateDirectory(tmp_path / "state").close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_the_file_is_for_its_user_alone(tmp_path):
    Database(tmp_path / "state").close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("reached", ["file", "tables", "seed"])
def test_a_first_start_that_was_cut_off_is_begun_again(
    make_virtual, universal_wasm, tmp_path, reached
):
    file = tmp_path / "state"
    if reached == "file":
        file.touch(0o600)
    elif reached == "tables":
        Database(file).close()
    else:
        driver = make_virtual()
        keep(driver, file)._database.close()
    driver = make_virtual()
    keeper = keep(driver, file)
    driver.create(universal_wasm(True))
    keeper.close()
    expected = state(driver)
    driver = make_virtual()
    keeper = keep(driver, file)
    assert state(driver) == expected
    keeper.close()


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match="cannot be used: Not a directory"):
        StateDirectory(tmp_path / "file" / "state")


def test_a_file_of_another_format_is_refused(tmp_path):
    Database(tmp_path / "state").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state")) as file:
        file.execute("PRAGMA user_version = 999")
    with pytest.raises(StateDirectoryError, match="has format 999"):
        Database(tmp_path / "state")


def test_a_file_of_another_program_is_refused(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "state")) as file:
        file.execute("CREATE TABLE other (a)")
    with pytest.raises(StateDirectoryError, match="is not the state of a replica"):
        Database(tmp_path / "state")


def test_a_file_that_is_no_database_is_damaged(tmp_path):
    (tmp_path / "state").write_bytes(b"this is no database, but it is long enough" * 100)
    with pytest.raises(StateDirectoryError, match="is damaged: file is not a database"):
        Database(tmp_path / "state")


def filled(make_virtual, universal_wasm, program, file):
    driver = make_virtual()
    keeper = keep(driver, file)
    canister = driver.create(universal_wasm(True))
    driver.update(canister, program().set_counter(1).reply(b""))
    keeper.close()
    return canister


def test_a_damaged_page_is_found(make_virtual, universal_wasm, program, tmp_path):
    filled(make_virtual, universal_wasm, program, tmp_path / "state")
    whole = (tmp_path / "state").read_bytes()
    cut = bytearray(whole)
    # The first byte of a page of a tree says of what kind it is.
    for page in range(1, len(whole) // 4096):
        if cut[page * 4096] in (2, 5, 10, 13):
            cut[page * 4096] = 99
    (tmp_path / "state").write_bytes(cut)
    with pytest.raises(StateDirectoryError, match="is damaged"):
        Database(tmp_path / "state")


def test_a_record_that_makes_no_sense_is_found(make_virtual, universal_wasm, program, tmp_path):
    filled(make_virtual, universal_wasm, program, tmp_path / "state")
    with contextlib.closing(sqlite3.connect(tmp_path / "state")) as file:
        file.execute("UPDATE canister SET record = x'81190BB8'")
        file.commit()
    database = Database(tmp_path / "state")
    with pytest.raises(StateDirectoryError, match="cannot be read"):
        Keeper(make_virtual().machine, database).load()
    database.close()


def test_a_module_that_is_missing_is_found(make_virtual, universal_wasm, program, tmp_path):
    canister = filled(make_virtual, universal_wasm, program, tmp_path / "state")
    with contextlib.closing(sqlite3.connect(tmp_path / "state")) as file:
        file.execute("DELETE FROM module")
        file.commit()
    database = Database(tmp_path / "state")
    with pytest.raises(StateDirectoryError, match=f"lacks the module of canister {canister}"):
        Keeper(make_virtual().machine, database).load()
    database.close()


def test_when_the_disk_is_full_what_was_written_stays(
    make_virtual, universal_wasm, program, tmp_path
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    canister = driver.create(universal_wasm(True))
    driver.update(canister, program().set_counter(1).reply(b""))
    save(driver)
    connection = keeper._database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = program().push(64).stable64_grow().drop().set_counter(2)
    for page in range(64):
        big.stable64_write(page * 65_536, 0, 65_536)
    driver.update(canister, big.reply(b""))
    with pytest.raises(StateDirectoryError, match="full"):
        save(driver)
    with pytest.raises(StateDirectoryError, match="full"):
        keeper.close()
    again = make_virtual()
    reader = keep(again, tmp_path / "state")
    read = program().counter().append_number().reply()
    assert again.update(canister, read)[:1] == b"\x01"
    reader.close()


def test_modules_that_no_canister_runs_are_forgotten(
    make_virtual, universal_wasm, program, tmp_path
):
    canister = filled(make_virtual, universal_wasm, program, tmp_path / "state")
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    driver.install(canister, universal_wasm(False), mode="reinstall")
    keeper.close()
    reader = keep(make_virtual(), tmp_path / "state")
    (count,) = next(reader._database.rows("SELECT count(*) FROM module"))
    assert count == 1
    reader.close()


def test_a_message_writes_only_the_pages_that_it_changes(
    make_virtual, universal_wasm, program, tmp_path, monkeypatch
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    canister = driver.create(universal_wasm(True))
    driver.update(canister, program().store(0x8000, 1).push(9).stable64_grow().drop().reply(b""))
    save(driver)
    written = []
    put = keeper._database.put_pages
    monkeypatch.setattr(
        keeper._database,
        "put_pages",
        lambda owner, memory, pages: (written.append(sorted(pages)), put(owner, memory, pages)),
    )
    driver.update(canister, program().store(0x8000, 2).stable64_write(70_000, 0, 1).reply(b""))
    save(driver)
    wasm, stable = written
    # The message's argument, the program's stack, and what it changes.
    assert 0x8000 in wasm
    assert len(wasm) <= 5
    assert stable == [70_000 // 16_384 * 16_384]
    driver.query(canister, program().store(0x8000, 3).reply(b""))
    driver.reject(canister, program().store(0x8000, 3).trap("undone"))
    save(driver)
    assert written[2:] == [] or all(not pages for pages in written[2:])
    keeper.close()


def test_a_restored_subnet_is_what_is_read_back(
    make_virtual, make_story, universal_wasm, program, tmp_path
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    story = make_story(driver, universal_wasm(True), program, 5)
    story.run(20)
    save(driver)
    with driver.machine.lock:
        snapshot = subnet_snapshot.take(driver.machine)
    expected = state(driver)
    story.run(20)
    save(driver)
    with driver.machine.lock:
        subnet_snapshot.restore(driver.machine, snapshot)
    assert state(driver) == expected
    keeper.close()
    for held in tuple(driver.machine.held):
        driver.machine._go_on(held.message)
    expected = state(driver)
    again = make_virtual()
    reader = keep(again, tmp_path / "state")
    assert state(again) == expected
    reader.close()


LAYOUTS = {1: "4614176154edd0261640a9f3f1c946b80c285b209dbe51030555ef7dc008ac95"}


def test_the_layout_of_records_does_not_change_without_a_new_format():
    told = [(kind.__name__, codec._FIELDS[kind]) for kind in codec._RECORDS]
    told += [(kind.__name__, tuple(item.value for item in kind)) for kind in codec._ENUMS]
    digest = hashlib.sha256(repr(told).encode()).hexdigest()
    assert digest == LAYOUTS[codec.FORMAT], "raise FORMAT, and add its layout here"


def test_fees_are_charged_on_after_a_start(make_virtual, universal_wasm, program, tmp_path):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    driver.machine.charge_fees(True)
    canister = driver.create(universal_wasm(True))
    driver.advance(3600 * SECOND)
    paid = driver.canisters[canister].paid_for_memory
    assert paid > 0
    driver.advance(1800 * SECOND)
    keeper.close()
    driver = make_virtual()
    driver.machine.charge_fees(True)
    keeper = keep(driver, tmp_path / "state")
    driver.advance(1800 * SECOND)
    driver.advance(1800 * SECOND)
    assert driver.machine.fees
    assert abs(driver.canisters[canister].paid_for_memory - 2.5 * paid) < paid / 2 + 10
    keeper.close()


def test_after_a_crash_a_management_call_under_way_is_carried_out(
    make_virtual, universal_wasm, program, tmp_path
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    canister = driver.create(universal_wasm(True))
    driver.update(canister, program().set_counter(7).reply(b""))
    copies = tmp_path / "copies"
    save_at_each_execution(driver, keeper, copies, overtaken=False)
    wanted = {
        "take_canister_snapshot": {
            "canister_id": canister, "replace_snapshot": None, "uninstall_code": True,
            "sender_canister_version": None,
        },
        "install_code": {
            "mode": Case("install"), "canister_id": canister, "arg": b"\0",
            "wasm_module": universal_wasm(False), "sender_canister_version": None,
        },
        "uninstall_code": {"canister_id": canister, "sender_canister_version": None},
    }  # fmt: skip
    for method, value in wanted.items():
        for old in copies.iterdir():
            old.unlink()
        record = driver.submit(MANAGEMENT, method, SIGNATURES[method].argument.encode(value))
        driver.settle()
        expected = state(driver)[0]
        assert isinstance(record.payload, Reply)
        assert list(copies.iterdir())
        for point in copies.iterdir():
            again = make_virtual()
            reader = keep(again, point)
            again.settle()
            assert state(again)[0] == expected
            assert again.machine.subnet.managing == {}
            known = again.machine.subnet.history.records[record.request_id]
            assert known.payload == record.payload
            reader.close()
    keeper.close()


def test_a_request_to_stop_waits_on_after_a_start(make_virtual, universal_wasm, program, tmp_path):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    one, two = driver.create(universal_wasm(True)), driver.create(universal_wasm(True))
    driver.manage("stop_canister", {"canister_id": two})
    driver.manage("start_canister", {"canister_id": two})
    calling = program().call(two.raw, "update", program().reply(b"")).drop()
    driver.submit(one, "update", calling)
    with driver.machine.lock:
        driver.machine.begin_round()
        driver.machine.execute_next()
    argument = SIGNATURES["stop_canister"].argument.encode({"canister_id": one})
    record = driver.submit(MANAGEMENT, "stop_canister", argument)
    assert driver.canisters[one].stop_requests
    keeper.close()
    again = make_virtual()
    reader = keep(again, tmp_path / "state")
    again.settle()
    known = again.machine.subnet.history.records[record.request_id]
    assert isinstance(known.payload, Reply)
    assert again.canisters[one].status.name == "STOPPED"
    reader.close()


def test_nobody_is_told_of_what_happens_after_the_directory_was_closed(
    make_virtual, universal_wasm, program, tmp_path
):
    driver = make_virtual()
    keeper = keep(driver, tmp_path / "state")
    canister = driver.create(universal_wasm(True))
    rounds = Rounds(driver.machine, ingress_filter)
    rounds.stop()
    keeper.close()
    save(driver)  # nothing has happened since
    driver.update(canister, program().set_counter(1).reply(b""))
    with pytest.raises(StateDirectoryError, match="closed"):
        save(driver)
    told = []
    rounds.when_saved(lambda: told.append("kept"))
    rounds.certificate(told.append)
    with driver.machine.lock:
        rounds._round()
    assert told == []
    assert rounds.failure is None
