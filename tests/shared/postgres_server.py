"""A PostgreSQL server of a test run's own, on a socket and on nothing else.

One for each process that runs tests; each test gets a schema. It ends with the process, however
that ends: a keeper waits for the end of a pipe that nobody else holds.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

_KEEPER = """
import shutil, subprocess, sys
pg_ctl, folder, *ids = sys.argv[1:]
sys.stdin.read()
user = dict(zip(["user", "group"], map(int, ids)), extra_groups=[]) if ids else {}
subprocess.run([pg_ctl, "stop", "-D", folder + "/data", "-m", "immediate"], cwd="/",
               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
shutil.rmtree(folder, ignore_errors=True)
"""
# A role of its own whose password is asked for: whoever else comes through the socket is let in.
_ACCESS = "local all locked scram-sha-256\nlocal all all trust\n"
_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
recovery_init_sync_method = syncfs
max_connections = 40
shared_buffers = 16MB
"""


def programs() -> Path | None:
    """Where the programs of the newest PostgreSQL of this machine are."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.parent.name)).parent
    anywhere = shutil.which("initdb")
    return None if anywhere is None else Path(anywhere).resolve().parent


def _user() -> dict[str, Any]:
    """As whom it runs: the server refuses to be root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class PostgresServer:
    """A server that runs.

    Args:
        bin: Where its programs are.
    """

    def __init__(self, bin: Path) -> None:  # noqa: A002 - as PostgreSQL names it
        self._bin = bin
        self._as = _user()
        # Where its user gets to, whatever folder of root's own is the one for temporary files.
        place = "/tmp" if self._as else None
        self.folder = Path(tempfile.mkdtemp(prefix="ic-bridge-pg-", dir=place))
        ids = []
        if self._as:
            ids = [str(self._as["user"]), str(self._as["group"])]
            os.chown(self.folder, *map(int, ids))
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", _KEEPER, bin / "pg_ctl", self.folder, *ids],
            stdin=subprocess.PIPE,
            start_new_session=True,  # an interrupt of the run is none of its own
        )
        data = self.folder / "data"
        self._run(
            "initdb", "-D", data, "-U", "owner", "-N", "-A", "trust", "-E", "UTF8", "--locale=C"
        )
        settings = _SETTINGS.format(folder=self.folder)
        with (data / "postgresql.conf").open("a") as file:
            file.write(settings)
        (data / "pg_hba.conf").write_text(_ACCESS)
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        with (
            tempfile.TemporaryFile() as said
        ):  # no pipe: the server would inherit it and hold it open
            done = subprocess.run(
                [str(self._bin / program), *map(str, arguments)],
                stdout=said,
                stderr=said,
                stdin=subprocess.DEVNULL,
                cwd="/",
                check=False,
                **self._as,
            )
            said.seek(0)
            assert done.returncode == 0, said.read().decode()

    def start(self) -> None:
        """Start it, and return once it lets sessions in."""
        log = self.folder / "log"
        self._run("pg_ctl", "start", "-w", "-D", self.folder / "data", "-l", log)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; ``immediate`` is what a crash is to its clients."""
        self._run("pg_ctl", "stop", "-w", "-D", self.folder / "data", "-m", mode)

    def restart(self) -> None:
        """Crash it, and start it again: it recovers from its log."""
        self.stop()
        self.start()

    def end(self) -> None:
        """End it, and take its files away."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait()

    def conninfo(self, user: str = "owner") -> str:
        """How to connect."""
        return f"postgresql://{user}@/postgres?host={self.folder}"


@dataclass
class Place:
    """A schema for one test.

    Attributes:
        server: Where it is.
        conninfo: How to connect.
        schema: Its name; it is not there yet.
    """

    server: PostgresServer
    conninfo: str
    schema: str

    @property
    def location(self) -> str:
        """The place in one string."""
        return f"{self.conninfo}&schema={self.schema}"

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What an administrator would ask, in the schema."""
        import psycopg

        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute("SELECT set_config('search_path', %s, false)", [f'"{self.schema}"'])
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def end_sessions(self) -> int:
        """End every session of a bridge, as an administrator can; how many there were."""
        return len(
            self.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ic-bridge'"
            )
        )


@contextlib.contextmanager
def running() -> Iterator[PostgresServer]:
    """A server, for as long as it is needed."""
    found = programs()
    if found is None:
        pytest.skip("needs PostgreSQL: as root, apt-get install postgresql")
    server = PostgresServer(found)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Place:
    return Place(postgres_server, postgres_server.conninfo(), f"test_{uuid4().hex}")
