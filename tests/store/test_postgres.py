"""What only a store in a server can show: who owns it, and what is true after a break."""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_server import Place
from stored_flows import CANISTER, flow

from bridge.errors import StoreConflictError, StoreError, StoreLostError, UsageError
from bridge.flow import Role
from bridge.store import (
    Change,
    PostgresStore,
    StoreView,
    postgres_group,
    postgres_session,
    view,
)
from bridge.store import postgres as module


async def ids(store: StoreView) -> list[int]:
    return [record.msg_id for record in (await store.flows(limit=10_000)).flows]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(120):
        while not await condition():  # noqa: ASYNC110 - it asks a server
            await asyncio.sleep(0.01)


async def said(caplog: pytest.LogCaptureFixture, words: str) -> None:
    async def in_the_log() -> bool:
        return words in caplog.text

    await until(in_the_log)


def store_at(postgres: Place, **options: object) -> PostgresStore:
    return PostgresStore(postgres.conninfo, schema=postgres.schema, **options)


# --- Durable, and one owner -------------------------------------------------------------------


async def test_what_was_committed_is_there_after_the_server_crashed(postgres: Place) -> None:
    async with store_at(postgres) as store:
        await store.commit(Change(None, flow(1)), notes={"n": b"v"})
        await asyncio.to_thread(postgres.server.restart)
        assert await store.sender_flow(1) == flow(1)
        assert await store.note("n") == b"v"
        assert (await store.usage(Role.SENDER, CANISTER)).open == 1


async def test_two_bridges_cannot_work_on_one_store(postgres: Place) -> None:
    async with store_at(postgres) as first:
        with pytest.raises(StoreError, match=r"is in use.*standby=True"):
            await store_at(postgres).open()
        await first.commit(Change(None, flow(1)))
    for _ in range(20):  # what was closed holds nothing up, however soon the next one comes
        async with store_at(postgres) as second:
            assert await second.sender_flow(1) == flow(1)


async def test_each_schema_is_a_store_of_its_own(postgres: Place) -> None:
    odd = postgres.schema[:30] + ' "odd"; DROP'
    async with store_at(postgres) as one, PostgresStore(postgres.conninfo, schema=odd) as other:
        await one.commit(Change(None, flow(1)))
        await other.commit(Change(None, flow(2)))
        assert (await ids(one), await ids(other)) == ([1], [2])


async def test_a_schema_may_be_named_by_the_uri_too(postgres: Place) -> None:
    assert "schema=" in postgres.location
    async with PostgresStore(postgres.location) as store:
        await store.commit(Change(None, flow(1)))
        with pytest.raises(StoreError, match="in use"):
            await store_at(postgres).open()
    other = PostgresStore(postgres.location, schema=f"{postgres.schema}_2")  # said, it counts
    async with other as store:
        assert await ids(store) == []


async def test_a_bridge_that_stands_by_takes_over_what_the_owner_left(
    postgres: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bridge.store")
    first = store_at(postgres)
    await first.open()
    await first.commit(Change(None, flow(1)))
    second = store_at(postgres, standby=True)
    opening = asyncio.create_task(second.open())
    await said(caplog, "standing by")
    await first.commit(Change(None, flow(2)))
    assert not opening.done()
    await first.close()
    await opening
    assert await ids(second) == [1, 2]
    await second.commit(Change(None, flow(3)))
    await second.close()


async def test_a_bridge_that_stands_by_outlasts_a_crash_of_the_server(
    postgres: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bridge.store")
    async with store_at(postgres) as first:
        second = store_at(postgres, standby=True)
        opening = asyncio.create_task(second.open())
        await said(caplog, "standing by")
        await asyncio.to_thread(postgres.server.stop)
        await said(caplog, "cannot be reached")
        await asyncio.to_thread(postgres.server.start)
        # Whichever comes first owns it; the other never does.
        try:
            await first.commit(Change(None, flow(1)))
        except StoreLostError:
            await opening
        else:
            assert not opening.done()
            opening.cancel()
        await asyncio.wait([opening])
        await second.close()


async def test_standing_by_can_be_given_up(
    postgres: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bridge.store")
    async with store_at(postgres) as first:
        second = store_at(postgres, standby=True)
        opening = asyncio.create_task(second.open())
        await said(caplog, "standing by")
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        with pytest.raises(StoreError, match="not open"):
            await second.commit(Change(None, flow(2)))
        await first.commit(Change(None, flow(1)))


async def test_an_owner_that_shows_no_sign_of_life_loses_the_store_to_one_that_stands_by(
    postgres: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "SILENCE", 3)  # for the sessions that begin now
    monkeypatch.setattr(module, "_BEAT", 1000.0)
    hanging = store_at(postgres)
    await hanging.open()
    monkeypatch.setattr(postgres_session, "SILENCE", 30)
    async with store_at(postgres, standby=True) as second:
        await second.commit(Change(None, flow(1)))
        with pytest.raises(StoreLostError, match="another bridge took it over"):
            await hanging.commit(Change(None, flow(2)))
        assert await ids(second) == [1]
    await hanging.close()


async def test_an_idle_owner_shows_signs_of_life(
    postgres: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.05)
    async with store_at(postgres):
        heard = set()

        async def often() -> bool:
            heard.update(
                postgres.sql(
                    "SELECT state_change FROM pg_stat_activity WHERE application_name = 'ic-bridge'"
                )
            )
            return len(heard) > 3

        await until(often)


# --- Connections that break -------------------------------------------------------------------


async def test_a_session_that_was_ended_between_commits_is_begun_anew(postgres: Place) -> None:
    async with store_at(postgres) as store:
        await store.commit(Change(None, flow(1)))
        assert postgres.end_sessions() == 1
        await store.commit(Change(None, flow(2)))
        assert postgres.end_sessions() == 1
        assert await ids(store) == [1, 2]
        with pytest.raises(StoreError, match="in use"):
            await store_at(postgres).open()


@pytest.mark.parametrize(
    ("which", "text", "what"),
    [
        ("before", b"UPDATE store SET commits", "cut"),
        ("before", b"INSERT INTO flow", "cut"),
        ("before", b"COMMIT", "cut"),
        ("before", b"COMMIT", "lose"),
        ("after", b"COMMIT\0", "cut"),
        ("after", b"COMMIT\0", "lose"),
    ],
)
async def test_a_connection_that_breaks_in_a_commit_tells_its_true_outcome(
    postgres: Place, relay, which: str, text: bytes, what: str
) -> None:
    first = flow(1)
    async with PostgresStore(relay.conninfo, schema=postgres.schema) as store:
        await store.commit(Change(None, first))
        fault = relay.fail(which, text, what)
        outcomes = await asyncio.gather(
            store.commit(Change(first, flow(1, attempts=1, version=1)), notes={"n": b"1"}),
            store.commit(Change(first, flow(1, attempts=9, version=1)), notes={"n": b"9"}),
            store.commit(Change(None, flow(2))),
            return_exceptions=True,
        )
        assert fault.done
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            StoreConflictError,
            type(None),
        ]
        assert await store.sender_flow(1) == flow(1, attempts=1, version=1)
        assert await store.note("n") == b"1"
        assert (await store.usage(Role.SENDER)).open == 2, "carried out once"
        assert postgres.sql("SELECT commits FROM store") == [(2,)]
        await store.commit(Change(None, flow(3)))
    async with store_at(postgres) as store:
        assert await ids(store) == [1, 2, 3]


async def test_a_server_that_stays_silent_is_waited_for_only_so_long(
    postgres: Place, relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.05)
    monkeypatch.setattr(module, "_ANSWER", 0.5)
    async with PostgresStore(relay.conninfo, schema=postgres.schema) as store:
        fault = relay.fail("after", b"COMMIT\0", "hold")
        await store.commit(Change(None, flow(1)))
        assert fault.done
        assert await ids(store) == [1]


async def test_an_owner_that_was_ended_can_never_write_again(postgres: Place, relay) -> None:
    old = PostgresStore(relay.conninfo, schema=postgres.schema)
    await old.open()
    await old.commit(Change(None, flow(1)))
    relay.up = False
    relay.break_all()
    writing = asyncio.create_task(old.commit(Change(None, flow(2))))
    async with store_at(postgres, standby=True) as new:
        await new.commit(Change(None, flow(3)))
        relay.up = True
        with pytest.raises(StoreLostError, match="is lost: another bridge took it over"):
            await writing
        for call in (
            old.commit(notes={"n": b""}),
            old.sender_flow(1),
            old.next_due(),
            old.flows(),
        ):
            with pytest.raises(StoreLostError, match="another bridge took it over"):
                await call
        assert "took it over" in str(await old.lost())
        assert await ids(new) == [1, 3]
        assert await new.note("n") is None
    await old.close()


async def test_even_with_the_lock_a_session_writes_only_under_its_own_name(
    postgres: Place,
) -> None:
    async with store_at(postgres) as store:
        await store.commit(Change(None, flow(1)))
        postgres.sql("UPDATE store SET owner = 'somebody else'")
        with pytest.raises(StoreLostError, match="another bridge took it over"):
            await store.commit(Change(None, flow(2)))
    async with store_at(postgres) as store:
        assert await ids(store) == [1]


async def test_a_server_that_does_not_come_back_in_time_is_a_lost_store(
    postgres: Place, relay
) -> None:
    store = PostgresStore(relay.conninfo, schema=postgres.schema, reconnect_within=0.3)
    await store.open()
    losing = asyncio.create_task(store.lost())
    relay.up = False
    relay.break_all()
    with pytest.raises(StoreLostError, match=r"not found again within 0\.3 s"):
        await store.commit(Change(None, flow(1)))
    assert isinstance(await losing, StoreLostError)
    relay.up = True
    with pytest.raises(StoreLostError, match="not found again"):
        await store.note("n")
    await store.close()
    async with store:  # opened anew it is a new owner
        await store.commit(Change(None, flow(1)))


async def test_an_idle_owner_hears_by_itself_that_the_store_is_lost(
    postgres: Place, relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.05)
    store = PostgresStore(relay.conninfo, schema=postgres.schema, reconnect_within=0.1)
    await store.open()
    relay.up = False
    relay.break_all()
    async with asyncio.timeout(120):
        assert "not found again" in str(await store.lost())
    await store.close()


async def test_a_store_is_closed_also_while_its_server_is_away(postgres: Place, relay) -> None:
    store = PostgresStore(relay.conninfo, schema=postgres.schema)
    await store.open()
    relay.up = False
    relay.break_all()
    writing = asyncio.create_task(store.commit(Change(None, flow(1))))

    async def sought() -> bool:
        return relay.refused > 1

    await until(sought)
    await store.close()
    with pytest.raises(StoreError, match="closed while its server was away"):
        await writing


async def test_a_store_is_closed_also_while_its_server_is_silent(
    postgres: Place, relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.05)
    monkeypatch.setattr(module, "_ANSWER", 0.3)
    store = PostgresStore(relay.conninfo, schema=postgres.schema)
    await store.open()
    fault = relay.fail("before", b"COMMIT", "hold")
    writing = asyncio.create_task(store.commit(Change(None, flow(1))))

    async def held() -> bool:
        return fault.done

    await until(held)
    async with asyncio.timeout(60):
        await store.close()
    with pytest.raises(StoreError, match="closed while its server was away"):
        await writing


async def test_a_server_that_forgot_what_it_confirmed_is_a_lost_store(postgres: Place) -> None:
    async with store_at(postgres) as store:
        await store.commit(Change(None, flow(1)))
        await store.commit(Change(None, flow(2)))
        postgres.sql("UPDATE store SET commits = commits - 1")  # as one restored from a copy
        postgres.end_sessions()
        with pytest.raises(StoreLostError, match="forgotten what it had confirmed"):
            await store.commit(Change(None, flow(3)))


async def test_crashes_of_the_server_lose_nothing_of_a_stream_of_commits(postgres: Place) -> None:
    done: list[int] = []

    async def write(number: int) -> None:
        for msg_id in itertools.count(number, 4):
            if crashed.is_set():
                return
            await store.commit(Change(None, flow(msg_id)))
            done.append(msg_id)

    crashed = asyncio.Event()
    async with store_at(postgres) as store:
        writers = [asyncio.create_task(write(number)) for number in range(4)]
        for _ in range(3):
            so_far = len(done)

            async def goes_on() -> bool:
                return len(done) > so_far + 100  # noqa: B023 - awaited here

            await until(goes_on)
            await asyncio.to_thread(postgres.server.restart)
        crashed.set()
        await asyncio.gather(*writers)
        there = await store.flows(limit=len(done) + 1, bodies=False)
        assert [record.msg_id for record in there.flows] == sorted(done), "as reported, no more"
        assert (await store.usage(Role.SENDER)).open == len(done)


# --- What is cancelled ------------------------------------------------------------------------


@contextlib.contextmanager
def table_held(postgres: Place, table: str) -> Iterator[Callable[[], Awaitable[bool]]]:
    """Nobody else gets at a table; gives whether a bridge waits for it."""

    async def waits() -> bool:
        return bool(
            postgres.sql(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND application_name = 'ic-bridge'"
            )
        )

    with psycopg.connect(postgres.conninfo) as other:
        other.execute(f'LOCK TABLE "{postgres.schema}".{table}')
        yield waits


async def test_an_open_that_waits_for_a_silent_server_can_be_cancelled(
    postgres: Place, relay
) -> None:
    fault = relay.fail("before", b"pg_try_advisory_lock", "hold")
    store = PostgresStore(relay.conninfo, schema=postgres.schema)
    opening = asyncio.create_task(store.open())

    async def held() -> bool:
        return fault.done

    await until(held)
    opening.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await opening
    async with store_at(postgres) as other:
        await other.commit(Change(None, flow(1)))


async def test_an_open_that_waits_for_a_silent_server_gives_up(
    postgres: Place, relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.05)
    monkeypatch.setattr(module, "_ANSWER", 0.3)
    async with store_at(postgres):
        pass
    for place in (PostgresStore, view):
        relay.fail("before", b"to_regclass", "hold")
        with pytest.raises(StoreError, match="no answer came"):
            await place(f"{relay.conninfo}&schema={postgres.schema}").open()


async def test_an_open_that_is_cancelled_again_and_again_ends_and_can_be_tried_anew(
    postgres: Place,
) -> None:
    store = store_at(postgres, standby=True)
    async with store:
        pass
    with table_held(postgres, "store") as waits:
        opening = asyncio.create_task(store.open())
        await until(waits)
        opening.cancel()
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    async with store:
        await store.commit(Change(None, flow(1)))


@pytest.mark.parametrize("again", [False, True])
async def test_a_close_that_is_cancelled_lets_the_store_go(postgres: Place, again: bool) -> None:
    store = store_at(postgres)
    await store.open()
    with table_held(postgres, "flow") as waits:
        writing = asyncio.create_task(store.commit(Change(None, flow(1))))
        await until(waits)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        if again:
            await asyncio.sleep(0)
            closing.cancel()
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await closing
            with pytest.raises(StoreError, match="closed while its server was away"):
                await writing
    async with store_at(postgres, standby=True) as other:
        assert await ids(other) == []
    async with store:
        await store.commit(Change(None, flow(1)))


async def test_a_view_waits_for_a_silent_server_only_so_long(
    postgres: Place, relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.05)
    monkeypatch.setattr(module, "_ANSWER", 0.3)
    async with store_at(postgres) as store:
        await store.commit(notes={"n": b"v"})
        async with view(f"{relay.conninfo}&schema={postgres.schema}") as seen:
            fault = relay.fail("before", b"FROM note", "hold")
            assert await seen.note("n") == b"v"
            assert fault.done


async def test_a_close_of_a_view_at_a_silent_server_can_be_cancelled(
    postgres: Place, relay
) -> None:
    async with store_at(postgres):
        pass
    seen = view(f"{relay.conninfo}&schema={postgres.schema}")
    await seen.open()
    fault = relay.fail("before", b"FROM note", "hold")
    asking = asyncio.create_task(seen.note("n"))

    async def held() -> bool:
        return fault.done

    await until(held)
    closing = asyncio.create_task(seen.close())
    await asyncio.sleep(0)
    closing.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(StoreError, match="closed while its server was away"):
            await asking


# --- Standby servers that do not answer -------------------------------------------------------


@contextlib.asynccontextmanager
async def no_standby_server(postgres: Place) -> AsyncIterator[None]:
    """The server waits, at each commit, for a standby server that there is not."""
    postgres.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    postgres.sql("SELECT pg_reload_conf()")
    ended = threading.Event()
    probing = asyncio.create_task(asyncio.to_thread(probe, postgres, ended))

    async def waits() -> bool:
        return bool(waiting(postgres, "probe"))

    try:
        await until(waits)
        yield
    finally:
        ended.set()
        postgres.sql("ALTER SYSTEM RESET synchronous_standby_names")
        postgres.sql("SELECT pg_reload_conf()")
        await probing

        async def awaken() -> bool:
            return not waiting(postgres, "probe") and not waiting(postgres, "ic-bridge")

        await until(awaken)


def probe(postgres: Place, ended: threading.Event) -> None:
    """Commit again and again, until one has to wait."""
    with psycopg.connect(postgres.conninfo, autocommit=True, application_name="probe") as one:
        while not ended.wait(0.01):
            one.execute("SELECT pg_logical_emit_message(true, '', '')")


def waiting(postgres: Place, who: str) -> list[int]:
    """Which sessions wait for a standby server."""
    found = postgres.sql(
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = %s",
        who,
    )
    return [pid for (pid,) in found]


async def test_a_commit_that_no_standby_server_has_is_never_reported(
    postgres: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEAT", 0.05)
    monkeypatch.setattr(module, "_ANSWER", 0.5)
    store = store_at(postgres, reconnect_within=3)
    await store.open()
    await store.commit(Change(None, flow(1)))
    async with no_standby_server(postgres):
        with pytest.raises(StoreLostError, match="not found again within 3 s"):
            await store.commit(Change(None, flow(2)))

        async def is_there() -> bool:  # though on this server alone
            return postgres.sql("SELECT count(*) FROM flow") == [(2,)]

        await until(is_there)
    await store.close()
    async with store:
        assert await ids(store) == [1, 2]


async def test_a_commit_whose_wait_for_standby_servers_was_cancelled_waits_anew(
    postgres: Place,
) -> None:
    async with store_at(postgres) as store:
        async with no_standby_server(postgres):
            writing = asyncio.create_task(store.commit(Change(None, flow(1))))
            cancelled: set[int] = set()

            async def another_waits() -> bool:
                for pid in set(waiting(postgres, "ic-bridge")) - cancelled:
                    cancelled.add(pid)
                    postgres.sql("SELECT pg_cancel_backend(%s)", pid)
                return len(cancelled) > 3

            await until(another_waits)
            assert not writing.done()
        await writing
        assert await ids(store) == [1]
        assert postgres.sql("SELECT commits FROM store") == [(1,)]


# --- Commits that cannot be made --------------------------------------------------------------


async def test_a_group_that_is_done_one_by_one_tells_each_its_own_outcome(postgres: Place) -> None:
    async with store_at(postgres) as store:
        trigger(postgres, "full", "RAISE EXCEPTION 'no space' USING ERRCODE = '53100'")
        outcomes = await asyncio.gather(
            store.commit(Change(None, flow(1))),
            store.commit(Change(None, flow(2, due=2**63))),
            store.commit(Change(None, flow(3, payload=b"full"))),
            store.commit(Change(None, flow(4)), notes={"\ud800": b""}),
            store.commit(Change(None, flow(5))),
            return_exceptions=True,
        )
        told = [str(outcome) if outcome else "" for outcome in outcomes]
        assert await ids(store) == [1, 5]
        assert [told[0], told[4]] == ["", ""]
        assert "out of range" in told[1]
        assert "no space" in told[2]
        assert "surrogates not allowed" in told[3]
        for msg_id in range(10, 30):  # none of it is left in the session
            await store.commit(Change(None, flow(msg_id)))


async def test_a_commit_that_ends_every_session_is_given_up_and_harms_no_other(
    postgres: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_at(postgres) as store:
        trigger(
            postgres,
            "poison",
            "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60)",
        )
        outcomes = await asyncio.gather(
            store.commit(Change(None, flow(1))),
            store.commit(Change(None, flow(2, payload=b"poison"))),
            store.commit(Change(None, flow(3))),
            return_exceptions=True,
        )
        assert await ids(store) == [1, 3]
        assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
    assert "broke, and is made anew" in caplog.text


def trigger(postgres: Place, payload: str, does: str) -> None:
    """Let the server do something when a payload is written."""
    postgres.sql(
        f"CREATE FUNCTION on_{payload}() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN {does}; RETURN NEW; END $$"
    )
    postgres.sql(
        f"CREATE TRIGGER on_{payload} BEFORE INSERT ON body FOR EACH ROW"
        f" WHEN (NEW.data = '{payload}'::bytea) EXECUTE FUNCTION on_{payload}()"
    )


async def test_a_commit_that_cannot_be_written_harms_no_other_of_its_group(
    postgres: Place,
) -> None:
    async with store_at(postgres) as store:
        outcomes = await asyncio.gather(
            store.commit(Change(None, flow(1))),
            store.commit(Change(None, flow(2, due=2**63))),  # beyond PostgreSQL's bigint
            store.commit(Change(None, flow(3)), notes={"nul \0": b""}),  # what no text may hold
            store.commit(Change(None, flow(4)), notes={"note": b"\0"}),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            StoreError,
            StoreError,
            type(None),
        ]
        assert await ids(store) == [1, 4]
        assert (await store.usage(Role.SENDER)).open == 2


async def test_a_full_disk_is_told_to_every_caller_changes_nothing_and_may_pass(
    postgres: Place,
) -> None:
    async with store_at(postgres) as store:
        await store.commit(Change(None, flow(1)))
        postgres.sql(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE"
            " EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';"
            " END $$"
        )
        postgres.sql(
            "CREATE TRIGGER full_disk BEFORE INSERT ON body FOR EACH ROW EXECUTE FUNCTION"
            " full_disk()"
        )
        outcomes = await asyncio.gather(
            store.commit(Change(None, flow(2))),
            store.commit(Change(None, flow(3))),
            return_exceptions=True,
        )
        for outcome in outcomes:
            assert isinstance(outcome, StoreError)
            assert "No space left on device (make room on the server's disk" in str(outcome)
        assert await ids(store) == [1]
        postgres.sql("DROP TRIGGER full_disk ON body")
        await store.commit(Change(None, flow(2)))
        assert await ids(store) == [1, 2]


async def test_who_holds_a_table_too_long_holds_no_bridge_up_for_ever(
    postgres: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres_session._SETTINGS, "lock_timeout", "200ms")
    async with store_at(postgres) as store:
        with psycopg.connect(postgres.conninfo) as other:
            other.execute(f'LOCK TABLE "{postgres.schema}".flow')
            with pytest.raises(StoreError, match=r"lock timeout.*who holds locks"):
                await store.commit(Change(None, flow(1)))
        await store.commit(Change(None, flow(1)))
        assert await ids(store) == [1]


async def test_a_change_does_not_rewrite_a_large_payload(postgres: Place) -> None:
    large = flow(1, payload=bytes(1_000_000))
    async with store_at(postgres) as store:
        await store.commit(Change(None, large))
        [(before,)] = postgres.sql("SELECT pg_current_wal_lsn()")
        await store.commit(Change(large, dataclasses.replace(large, attempts=1, version=1)))
        [(written,)] = postgres.sql("SELECT pg_current_wal_lsn() - %s::pg_lsn", before)
        assert written < 500_000


async def test_a_group_with_more_bytes_than_one_statement_may_have_is_one_group_still(
    postgres: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_group, "_BODY_BYTES", 10)
    records = [flow(n, payload=b"%d" % n * size) for n, size in enumerate([9, 1, 30, 0, 5, 5, 5])]
    async with store_at(postgres) as store:
        await store.commit(*(Change(None, record) for record in records))
        assert (await store.flows()).flows == tuple(records)
        assert postgres.sql("SELECT commits FROM store") == [(1,)]


async def test_a_cancelled_commit_leaves_the_store_usable(postgres: Place) -> None:
    async with store_at(postgres) as store:
        task = asyncio.create_task(store.commit(Change(None, flow(1))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.commit(Change(None, flow(2)))
        assert await store.sender_flow(2) == flow(2)


@pytest.mark.parametrize("synchronous", ["off", "local"])
async def test_a_server_whose_settings_give_durability_up_does_not_give_up_ours(
    postgres: Place, caplog: pytest.LogCaptureFixture, synchronous: str
) -> None:
    postgres.sql(f"ALTER ROLE owner SET synchronous_commit = {synchronous}")
    postgres.sql("ALTER SYSTEM SET fsync = off")
    postgres.sql("SELECT pg_reload_conf()")
    try:
        async with asyncio.timeout(120):
            while postgres.sql("SHOW fsync") != [("off",)]:  # noqa: ASYNC110 - it asks a server
                await asyncio.sleep(0.01)
        async with store_at(postgres) as store:
            assert await store._select("SHOW synchronous_commit") == [("on",)]
        assert "has fsync off" in caplog.text
    finally:
        postgres.sql("ALTER ROLE owner RESET synchronous_commit")
        postgres.sql("ALTER SYSTEM RESET fsync")
        postgres.sql("SELECT pg_reload_conf()")


async def test_a_warning_of_the_server_reaches_the_log(
    postgres: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_at(postgres) as store:
        await store._select("DO $$ BEGIN RAISE WARNING 'canceling the wait'; END $$")
        await store._select("DO $$ BEGIN RAISE NOTICE 'nothing of note'; END $$")
    assert "the server of the store" in caplog.text
    assert "canceling the wait" in caplog.text
    assert "nothing of note" not in caplog.text


# --- Views ------------------------------------------------------------------------------------


async def test_a_view_reads_beside_the_owner_what_is_committed(postgres: Place) -> None:
    async with store_at(postgres) as store, view(postgres.location) as seen:
        await store.commit(Change(None, flow(1)), notes={"n": b"v"})
        assert await seen.sender_flow(1) == flow(1)
        assert await seen.note("n") == b"v"
        assert await seen.peers(Role.SENDER) == [CANISTER]
        postgres.end_sessions()
        assert await ids(seen) == [1]
        await store.commit(Change(flow(1), None))
        assert await ids(seen) == []


async def test_a_question_that_a_standby_server_cut_short_is_asked_again(postgres: Place) -> None:
    async with store_at(postgres):
        pass
    postgres.sql(
        "CREATE FUNCTION at_first() RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " IF NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'"
        " AND pid = pg_backend_pid()) THEN PERFORM pg_advisory_lock(1);"
        " RAISE 'conflict with recovery' USING ERRCODE = '40001'; END IF; RETURN 1; END $$"
    )
    async with view(postgres.location) as seen:
        assert await seen._select("SELECT at_first()") == [(1,)]


async def test_a_view_cannot_write_and_makes_nothing(postgres: Place) -> None:
    with pytest.raises(StoreError, match=f"there is no store '{postgres.schema}'"):
        await view(postgres.location).open()
    assert postgres.sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", postgres.schema) == []
    async with store_at(postgres) as store:
        await store.commit(Change(None, flow(1)))
    async with view(postgres.location) as seen:
        assert not hasattr(seen, "commit")
        with pytest.raises(StoreError, match="read-only transaction"):
            await seen._select("DELETE FROM flow")


async def test_a_role_that_only_reads_can_view_and_is_told_that_it_cannot_own(
    postgres: Place,
) -> None:
    async with store_at(postgres) as store:
        await store.commit(Change(None, flow(1)))
    name = f"reader_{postgres.schema}"
    postgres.sql(f"CREATE ROLE {name} LOGIN")
    postgres.sql(f"GRANT USAGE ON SCHEMA {postgres.schema} TO {name}")
    postgres.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {postgres.schema} TO {name}")
    conninfo = postgres.server.conninfo(name)
    with pytest.raises(StoreError, match=r"permission denied.*grant this role what it lacks"):
        await PostgresStore(conninfo, schema=postgres.schema).open()
    with pytest.raises(StoreError, match=r"permission denied.*grant this role what it lacks"):
        await PostgresStore(conninfo, schema=postgres.schema + "_new").open()
    async with view(f"{conninfo}&schema={postgres.schema}") as seen:
        assert await ids(seen) == [1]


# --- What cannot be a store -------------------------------------------------------------------


@pytest.mark.parametrize("may_create", [False, True])
@pytest.mark.parametrize("is_there", [False, True])
async def test_a_schema_that_the_role_may_not_use_is_refused_and_nothing_is_made(
    postgres: Place, may_create: bool, is_there: bool
) -> None:
    name = f"app_{postgres.schema}"
    postgres.sql(f"CREATE ROLE {name} LOGIN")
    if is_there:
        async with store_at(postgres) as store:
            await store.commit(Change(None, flow(1)))
    else:
        postgres.sql(f"CREATE SCHEMA {postgres.schema}")
    if may_create:
        postgres.sql(f"GRANT CREATE ON SCHEMA {postgres.schema} TO {name}")
    there = "SELECT count(*) FROM pg_class WHERE relname = 'store'"
    before = postgres.sql(there)
    place = f"{postgres.server.conninfo(name)}&schema={postgres.schema}"
    for refused in (PostgresStore(place), view(place)):
        with pytest.raises(StoreError, match=r"permission denied for schema.*grant this role"):
            await refused.open()
    assert postgres.sql(there) == before


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_of_another_encoding_and_a_role_of_other_customs_do(
    postgres: Place, encoding: str
) -> None:
    name = f"{encoding.lower()}_{postgres.schema}"
    postgres.sql(
        f"CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        f" ENCODING '{encoding}'"
    )
    conninfo = postgres.conninfo.replace("/postgres?", f"/{name}?")
    for style in ("German", "SQL, DMY", "Postgres, MDY"):
        postgres.sql(f"ALTER DATABASE {name} SET DateStyle = '{style}'")
        postgres.sql(f"ALTER DATABASE {name} SET TimeZone = '<+03>-03'")
        async with PostgresStore(conninfo, schema=style + " größe") as store:
            await store.commit(Change(None, flow(1)), notes={"größe": b"v"})
            assert postgres.end_sessions() == 1
            assert await store.sender_flow(1) == flow(1)
            assert await store.note("größe") == b"v"
            assert await store.peers(Role.SENDER) == [CANISTER]


async def test_a_name_that_the_database_cannot_write_is_told(postgres: Place) -> None:
    name = f"latin_{postgres.schema}"
    postgres.sql(
        f"CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING 'LATIN1'"
    )
    conninfo = postgres.conninfo.replace("/postgres?", f"/{name}?")
    with pytest.raises(StoreError, match='no equivalent in encoding "LATIN1"'):
        await PostgresStore(conninfo, schema="☃").open()


async def test_a_newer_layout_is_refused(postgres: Place) -> None:
    async with store_at(postgres):
        pass
    postgres.sql("UPDATE store SET layout = 99")
    with pytest.raises(StoreError, match="layout 99, this version knows 1"):
        await store_at(postgres).open()
    with pytest.raises(StoreError, match="layout 99, this version knows 1"):
        await view(postgres.location).open()


async def test_a_schema_with_tables_of_others_is_refused_and_left_as_it_is(
    postgres: Place,
) -> None:
    postgres.sql(f"CREATE SCHEMA {postgres.schema}")
    postgres.sql("CREATE TABLE note (theirs text)")
    with pytest.raises(StoreError, match='relation "note" already exists'):
        await store_at(postgres).open()
    assert postgres.sql(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s", postgres.schema
    ) == [("note",)]


def with_another_pid(data: bytes) -> bytes:
    """What the server says, as a pooler would say it: its own key for a session."""
    at = data.find(b"K" + struct.pack("!i", 12))
    if at < 0:
        return data
    (pid,) = struct.unpack_from("!i", data, at + 5)
    return data[: at + 5] + struct.pack("!i", pid + 1) + data[at + 9 :]


async def test_a_connection_pooler_is_refused(postgres: Place, relay) -> None:
    relay.after = with_another_pid
    with pytest.raises(StoreError, match=r"is a connection pooler.*the server's own address"):
        await PostgresStore(relay.conninfo, schema=postgres.schema).open()


async def test_a_server_that_is_not_there_is_told(postgres: Place, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"failed: connection .*see that the server runs"):
        await PostgresStore(f"postgresql:///flows?host={tmp_path}").open()
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        await PostgresStore(postgres.conninfo.replace("/postgres?", "/nowhere?")).open()


@pytest.mark.parametrize("schema", ["", "pg_mine", "a" * 64, "nul\0", "$user", "\ud800"])
def test_a_name_that_cannot_be_a_schemas_is_refused(schema: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a schema"):
        PostgresStore("postgresql:///flows", schema=schema)


async def test_no_password_is_ever_told(postgres: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s3cret-w0rd"
    if postgres.sql("SELECT 1 FROM pg_roles WHERE rolname = 'locked'") == []:
        postgres.sql("CREATE ROLE locked LOGIN PASSWORD 'another'")
    folder = postgres.server.folder
    told = []
    for conninfo in (
        f"postgresql://locked:{secret}@/postgres?host={folder}",
        f"host={folder} user=locked dbname=postgres password={secret}",
        f"postgresql://locked:{secret}@/postgres?host={folder}/none",
        f"postgresql://locked:p@{secret}@localhost/postgres",
        f"postgresql://locked:pa55/{secret}@localhost/postgres",
        f"postgresql://locked:55/{secret}@localhost/postgres",
        f"postgresql://locked:{secret}/more@localhost/postgres",
        f"dbname='postgresql://locked:{secret}@localhost/postgres' host={folder}",
        f"postgresql://locked:{secret}@/postgres?nonsense=1",
        f"host={folder} password={secret} nonsense={secret}",
        f"postgresql://locked:{secret}@[::1/postgres",
    ):
        try:
            store = PostgresStore(conninfo)
            told += [repr(store), str(store)]
            await store.open()
        except (StoreError, UsageError) as error:
            told.append("".join(traceback.format_exception(error)))
        else:
            pytest.fail(conninfo)
    assert any("password authentication failed" in text for text in told)
    assert secret not in "".join([*told, caplog.text])


def test_without_the_extra_the_cure_is_told_and_all_else_works(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError(\"No module named 'psycopg'\")")
    program = (
        "from bridge import PostgresStore, SQLiteStore\n"
        "from bridge.errors import UsageError\n"
        "from bridge.store import view\n"
        "for make in (PostgresStore, view):\n"
        "    try:\n        make('postgresql:///flows')\n"
        "    except UsageError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).resolve().parents[2],
    )
    said, again = done.stdout.splitlines()
    assert said == again
    assert said == (
        "PostgreSQL needs the package psycopg: No module named 'psycopg'"
        " (pip install 'ic-bridge[postgres]')"
    )


async def test_opening_twice_is_refused_and_harms_nothing(postgres: Place) -> None:
    async with store_at(postgres) as store:
        with pytest.raises(StoreError, match="open already"):
            await store.open()
        await store.commit(Change(None, flow(1)))
    with pytest.raises(StoreError, match="not open"):
        await store.commit(Change(None, flow(2)))
    with pytest.raises(StoreError, match="not open"):
        await store.sender_flow(1)
