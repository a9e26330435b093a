"""The clients that this project did not write, and a replica process for them to talk to."""

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.agent import Identity
from bridge.network import Network, create_canister, install_code
from bridge.replica import Replica
from bridge.replica.http import api

PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
CLIENTS = PROJECT / "build" / "clients"

_spec = importlib.util.spec_from_file_location(
    "clients_universal", PROJECT / "tests" / "replica" / "universal.py"
)
_universal = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_universal)


def environment(name):
    """The folder of one client's environment."""
    folder = CLIENTS / name
    if not (folder / ".ready").exists():
        pytest.skip(f"{folder.relative_to(PROJECT)} is not set up: make clients")
    return folder


class Peer:
    """A client program that answers questions, one JSON line each."""

    def __init__(self, command):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, op, **fields):
        """The answer: {"ok": ...} or {"error": ...}."""
        self._process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)

    def __call__(self, op, **fields):
        """What it answers when all is well."""
        answer = self.ask(op, **fields)
        assert "ok" in answer, answer
        return answer["ok"]

    def error(self, op, **fields):
        """Why it fails, as one text."""
        answer = self.ask(op, **fields)
        assert "error" in answer, answer
        return f"{answer['error']['name']}: {answer['error']['message']}"

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True)
class Target:
    """A replica that clients reach by URL and root key."""

    url: str
    root_key: bytes

    def deploy(self, wasm, arg=b"\0"):
        """A new canister with this module; its id as text."""

        async def run():
            network = Network(self.url, self.root_key)
            async with network.agent(Identity.from_seed(b"\5" * 32)) as agent:
                canister = await create_canister(agent)
                await install_code(agent, canister, wasm, bytes(arg))
                return str(canister)

        return asyncio.run(run())


@pytest.fixture(scope="session")
def replica():
    """A replica as its users start it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge.cli", "replica", "start", "--until-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        announced = json.loads(process.stdout.readline())
        yield Target(announced["url"], bytes.fromhex(announced["root_key"]))
        process.stdin.close()


class Delayed(Target):
    """A replica that answers a version 4 call with 202 if the answer is not there at once."""

    def deploy(self, wasm, arg=b"\0"):
        """Deploy; the next call then waits for half a second before it is executed."""
        canister = super().deploy(wasm, arg)
        fault = {
            "action": "delay", "kinds": ["ingress"], "to": canister, "nanoseconds": 500_000_000,
        }  # fmt: skip
        request = urllib.request.Request(
            f"{self.url}/_admin/faults",
            json.dumps(fault).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        return canister


@pytest.fixture
def delayed(monkeypatch):
    """A replica whose calls take so long that clients must poll."""
    monkeypatch.setattr(api, "SYNC_CALL_SECONDS", 0.05)
    ready, stop = threading.Event(), threading.Event()
    found = []

    async def serve():
        async with Replica(admin=True) as running:
            found.append(Delayed(running.url, running.root_key))
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield found[0]
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture(scope="session")
def universal():
    """The universal canister's Wasm."""
    return _universal.universal(memory64=False)


@pytest.fixture(scope="session")
def program():
    """Starts a program for the universal canister."""
    return _universal.Program


@pytest.fixture(scope="session")
def canister(replica, universal):
    """A universal canister that runs what it is sent."""
    return replica.deploy(universal)


@pytest.fixture(scope="session")
def whoami(program):
    """A program that replies the caller's principal, in Candid (the principal has 29 bytes)."""
    made = program().msg_reply_data_append(b"DIDL\0\1\x68\1\x1d").append_blob_of("msg_caller")
    return bytes(made.reply())


@pytest.fixture(scope="session")
def javascript():
    """The official JavaScript agent."""
    folder = environment("node")
    # Modules are found from where the program stands; every worker has a copy of its own.
    peer = folder / f"peer-{os.getpid()}.mjs"
    shutil.copy(HERE / "node" / "peer.mjs", peer)
    client = Peer(["node", str(peer)])
    yield client
    client.close()
    peer.unlink()


def python_client(name):
    python = environment(name) / "bin" / "python"
    return Peer([str(python), str(HERE / "python" / "peer.py"), name])


@pytest.fixture(scope="session")
def icp_py_core():
    """icp-py-core, in its own environment."""
    client = python_client("icp-py-core")
    yield client
    client.close()


@pytest.fixture(scope="session")
def ic_py():
    """ic-py, in its own environment."""
    client = python_client("ic-py")
    yield client
    client.close()


class Icp:
    """The official command line, with a home and an identity of its own."""

    def __init__(self, program, home, target):
        self._program = str(program)
        self.home = home
        self.target = target
        self.where = ("--network", target.url, "--root-key", target.root_key.hex())
        self._environment = {
            "HOME": str(home), "PATH": os.environ["PATH"], "DO_NOT_TRACK": "1", "NO_COLOR": "1",
        }  # fmt: skip
        self("identity", "new", "tester", "--storage", "plaintext")
        self("identity", "default", "tester")
        self.principal = self("identity", "principal").strip()

    def run(self, *arguments, cwd=None):
        return subprocess.run(
            [self._program, *arguments],
            cwd=cwd or self.home,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    def __call__(self, *arguments, cwd=None):
        """What the command prints."""
        done = self.run(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def on(self, *arguments):
        """The same on the replica."""
        return self(*arguments, *self.where)


@pytest.fixture
def icp(replica, tmp_path):
    """The official ``icp`` command."""
    program = (
        environment("node") / "node_modules" / "@icp-sdk" / "icp-cli-linux-x64" / "bin" / "icp"
    )
    if not program.exists():
        pytest.skip("the icp command is published for Linux on x64 only")
    return Icp(program, tmp_path, replica)
