"""What only a store on disk can show: durability, layouts, files that cannot be used."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from stored_flows import CANISTER, flow

from bridge.errors import StoreError, UsageError
from bridge.flow import Role
from bridge.store import Change, SQLiteStore, view


async def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with SQLiteStore(path) as store:
        await store.commit(Change(None, flow(1)), notes={"n": b"v"})
    async with SQLiteStore(path) as store:
        assert await store.sender_flow(1) == flow(1)
        assert await store.note("n") == b"v"
        assert (await store.usage(Role.SENDER, CANISTER)).open == 1


WRITER = """
import asyncio, sys
from bridge.store import Change, SQLiteStore, view
from bridge.flow import SenderFlow, SenderState
from bridge.principal import Principal

async def main():
    async with SQLiteStore(sys.argv[1]) as store:
        for n in range(100_000):
            await store.commit(Change(None, SenderFlow(
                peer=Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai"), msg_id=n,
                dialect="unified", state=SenderState.QUEUED, payload=b"x", payload_hash=0,
                opened=0, changed=0)))
            print(n, flush=True)

asyncio.run(main())
"""


def reported_before_kill_9(path: Path) -> list[int]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 50:
                writer.send_signal(signal.SIGKILL)
                break
        return [50, *map(int, writer.stdout.read().split())]


async def test_kill_9_loses_nothing_that_was_reported_as_committed(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    said = await asyncio.to_thread(reported_before_kill_9, path)
    async with SQLiteStore(path) as store:
        for n in range(said[-1] + 1):
            assert await store.sender_flow(n) is not None
        usage = await store.usage(Role.SENDER)
        assert usage.open == len((await store.flows(limit=1000)).flows)


async def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with SQLiteStore(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with SQLiteStore(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="layout 99"):
        await SQLiteStore(path).open()


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"short"])
async def test_a_file_that_is_no_database_is_refused_and_nothing_put_beside_it(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "flows.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"flows\.db is no store: it is no SQLite .*another file"):
        await SQLiteStore(path).open()
    assert path.read_bytes() == content
    assert not path.with_name("flows.db-owner").exists()


async def test_a_database_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (number INTEGER)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"shop\.db is no store: .* of something else"):
        await SQLiteStore(path).open()
    assert path.read_bytes() == before


async def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    path.touch()
    async with SQLiteStore(path) as store:
        assert await store.peers(Role.SENDER) == []


async def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        await SQLiteStore(tmp_path / "nowhere" / "flows.db").open()


async def test_two_bridges_cannot_work_on_one_store(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with SQLiteStore(path) as first:
        with pytest.raises(StoreError, match="in use"):
            await SQLiteStore(path).open()
        await first.commit(Change(None, flow(1)))
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        assert reader.execute("SELECT count(*) FROM flow").fetchone() == (1,)
        reader.close()
    async with SQLiteStore(path) as second:
        assert await second.sender_flow(1) == flow(1)


async def test_a_change_does_not_rewrite_a_large_payload(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    large = dataclasses.replace(flow(1), payload=bytes(1_000_000))
    async with SQLiteStore(path) as store:
        await store.commit(Change(None, large))
        log = path.with_name("flows.db-wal")
        before = log.stat().st_size
        await store.commit(Change(large, dataclasses.replace(large, attempts=1, version=1)))
        assert log.stat().st_size - before < 100_000


async def test_a_commit_that_cannot_be_written_harms_no_other_of_its_batch(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "flows.db") as store:
        beyond = dataclasses.replace(flow(2), due=2**63)  # larger than SQLite's integers
        outcomes = await asyncio.gather(
            store.commit(Change(None, flow(1))),
            store.commit(Change(None, beyond)),
            store.commit(Change(None, flow(3))),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
        assert [f.msg_id for f in (await store.flows()).flows] == [1, 3]


async def test_a_full_disk_is_told_to_every_caller_changes_nothing_and_may_pass(
    tmp_path: Path,
) -> None:
    async with SQLiteStore(tmp_path / "flows.db") as store:
        await store.commit(Change(None, flow(1)))
        await store._run(lambda: store._sql.execute("PRAGMA max_page_count = 1"))
        large = [dataclasses.replace(flow(n), payload=bytes(500_000)) for n in (2, 3)]
        outcomes = await asyncio.gather(
            *(store.commit(Change(None, record)) for record in large), return_exceptions=True
        )
        for outcome in outcomes:
            assert isinstance(outcome, StoreError)
            assert "full" in str(outcome)
            assert "has room" in str(outcome)
        assert [f.msg_id for f in (await store.flows()).flows] == [1]
        assert (await store.usage(Role.SENDER)).open == 1
        await store._run(lambda: store._sql.execute("PRAGMA max_page_count = 1000000"))
        await store.commit(Change(None, large[0]))
        assert await store.sender_flow(2) == large[0]


async def test_a_lock_file_that_is_no_lock_is_not_called_in_use(tmp_path: Path) -> None:
    tmp_path.joinpath("flows.db-owner").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match=r"cannot be opened: flows\.db-owner"):
        await SQLiteStore(tmp_path / "flows.db").open()


async def test_opening_twice_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "flows.db") as store:
        with pytest.raises(StoreError, match="open already"):
            await store.open()
        await store.commit(Change(None, flow(1)))


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "flows.db")
    with pytest.raises(StoreError, match="not open"):
        await store.commit(Change(None, flow(1)))
    with pytest.raises(StoreError, match="not open"):
        await store.sender_flow(1)


async def test_a_close_that_is_cancelled_lets_the_store_go(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "flows.db")
    await store.open()
    with contextlib.closing(sqlite3.connect(tmp_path / "flows.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(store.commit(Change(None, flow(1))))
        await asyncio.sleep(0)
        closing = asyncio.create_task(store.close())
        for _ in range(3):
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        other.execute("ROLLBACK")
    await writing  # it was under way
    async with store:
        assert await store.sender_flow(1) == flow(1)
    async with SQLiteStore(tmp_path / "flows.db") as other_store:
        assert await other_store.sender_flow(1) == flow(1)


async def test_a_cancelled_commit_leaves_the_store_usable(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "flows.db") as store:
        task = asyncio.create_task(store.commit(Change(None, flow(1))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.commit(Change(None, flow(2)))
        assert await store.sender_flow(2) == flow(2)


# --- A view beside the bridge -------------------------------------------------------------------


async def test_a_view_reads_beside_the_store_what_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with SQLiteStore(path) as store, view(path) as seen:
        await store.commit(Change(None, flow(1)), notes={"n": b"v"})
        assert await seen.sender_flow(1) == flow(1)
        assert (await seen.usage(Role.SENDER)).open == 1
        assert await seen.note("n") == b"v"
        await store.commit(Change(flow(1), None))
        assert (await seen.flows()).flows == ()


async def test_a_view_never_keeps_a_bridge_from_the_store(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with SQLiteStore(path) as store:
        await store.commit(Change(None, flow(1)))
    async with view(str(path)) as seen:
        assert await seen.peers(Role.SENDER) == [CANISTER]
        async with SQLiteStore(path) as store:
            await store.commit(Change(None, flow(2)))
        assert [f.msg_id for f in (await seen.flows()).flows] == [1, 2]


async def test_a_view_has_nothing_that_writes(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with SQLiteStore(path):
        pass
    async with view(path) as seen:
        assert not hasattr(seen, "commit")
        with pytest.raises(StoreError, match="readonly"):
            await seen._select("DELETE FROM flow")


async def test_a_view_makes_no_store(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    with pytest.raises(StoreError, match=r"there is no store .*flows\.db"):
        await view(path).open()
    assert not path.exists()
    tmp_path.joinpath("empty.db").touch()
    with pytest.raises(StoreError, match="holds no flows"):
        await view(tmp_path / "empty.db").open()
    assert tmp_path.joinpath("empty.db").read_bytes() == b""


async def test_a_view_waits_for_no_pipe(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    os.mkfifo(path)
    for place in (path, tmp_path):
        with pytest.raises(StoreError, match="is no regular file"):
            await view(place).open()


async def test_a_view_refuses_a_newer_layout_and_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    async with SQLiteStore(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="layout 99"):
        await view(path).open()
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match="cannot be read: file is not a database"):
        await view(path).open()


def test_a_location_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="no store is of the kind mysql://"):
        view("mysql://localhost/flows")
