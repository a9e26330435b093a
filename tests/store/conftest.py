"""A way to the PostgreSQL server that is cut, held or forged at a chosen byte."""

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_server import Place

_SOCKET = ".s.PGSQL.5432"


class Fault:
    """Does something to the first data that holds a text, and passes on all else.

    Attributes:
        done: Whether it was met.
    """

    def __init__(self, text: bytes, what: str) -> None:
        self._text = text
        self._what = what
        self.done = False

    def __call__(self, data: bytes) -> bytes | str:
        if self.done or self._text not in data:
            return data
        self.done = True
        return self._what


class Relay:
    """A socket beside the server's own, which passes on what comes.

    Attributes:
        up: Whether new connections are taken.
        refused: How many were not.
        before: Called with what a client says before it is passed on, and `after` with what the
            server says: ``"cut"`` ends the connection instead of passing it on, ``"lose"`` ends it
            on the client's side only, ``"hold"`` passes nothing on any more; else it is what is to
            be passed on.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.folder = Path(tempfile.mkdtemp(prefix="ic-bridge-relay-"))
        self.up = True
        self.refused = 0
        self.before: Callable[[bytes], bytes | str] = lambda data: data
        self.after: Callable[[bytes], bytes | str] = lambda data: data
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / _SOCKET))
        self._listener.listen()
        self._held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def conninfo(self) -> str:
        return self._place.conninfo.replace(str(self._place.server.folder), str(self.folder))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                if not self.up:
                    raise ConnectionError
                server.connect(str(self._place.server.folder / _SOCKET))
            except OSError:
                client.close()
                server.close()
                self.refused += 1
                continue
            self._held += [client, server]
            for source, sink, which in ((client, server, "before"), (server, client, "after")):
                threading.Thread(
                    target=self._pass_on, args=(source, sink, which, client), daemon=True
                ).start()

    def _pass_on(
        self, source: socket.socket, sink: socket.socket, which: str, client: socket.socket
    ) -> None:
        try:
            while data := source.recv(1 << 20):
                done = getattr(self, which)(data)
                if done == "hold":
                    return
                if done == "lose":
                    client.shutdown(socket.SHUT_RDWR)
                    return
                if done == "cut":
                    break
                sink.sendall(done)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def fail(self, which: str, text: bytes, what: str) -> Fault:
        """Let one thing happen at a text, `before` or `after`."""
        fault = Fault(text, what)
        setattr(self, which, fault)
        return fault

    def break_all(self) -> None:
        """Cut every connection that there is."""
        for end in self._held:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_all()
        for end in self._held:
            end.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def relay(postgres: Place) -> Iterator[Relay]:
    made = Relay(postgres)
    yield made
    made.end()
