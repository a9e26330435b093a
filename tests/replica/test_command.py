"""``ic-bridge replica``: the real commands, each as a process."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from types import SimpleNamespace

import aiohttp
import pytest

from bridge.principal import Principal

# Each starts processes, one after the other.


class Shell:
    """Runs commands of one user, whose state directory is a temporary one."""

    def __init__(self, home):
        self.home = home
        self.environment = {**os.environ, "XDG_STATE_HOME": str(home / "state-home")}

    async def begin(self, *arguments, **how):
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge.cli", "replica", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=self.environment, **how,
        )  # fmt: skip

    async def run(self, *arguments):
        """The exit code, what is on stdout, and what is on stderr."""
        process = await self.begin(*arguments)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def start(self, *arguments):
        code, out, err = await self.run("start", "--background", *arguments)
        assert code == 0, err
        return json.loads(out)

    async def status(self, *arguments):
        code, out, _ = await self.run("status", "--json", *arguments)
        told = json.loads(out)
        assert (code == 0) == told["running"] == bool(told["replicas"])
        return told["replicas"]


@pytest.fixture
async def shell(tmp_path):
    shell = Shell(tmp_path)
    yield shell
    folder = tmp_path / "state-home" / "ic-bridge" / "replicas"
    for record in folder.glob("*.json"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)


def port_of(told):
    return told["url"].rpartition(":")[2]


@pytest.mark.covers("command")
async def test_a_replica_in_the_background_is_found_and_stopped(shell):
    code, out, err = await shell.run("status")
    assert (code, out, "no replica runs" in err) == (1, "", True)
    told = await shell.start("--no-system-canisters")
    assert bytes.fromhex(told["root_key"])
    assert not told["admin"]
    (found,) = await shell.status()
    assert (found["url"], found["answers"], found["state_dir"]) == (told["url"], True, None)
    folder = shell.home / "state-home" / "ic-bridge" / "replicas"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())
    code, out, _ = await shell.run("status")
    assert (code, told["url"] in out, str(found["pid"]) in out) == (0, True, True)
    code, out, err = await shell.run("stop", "--json")
    assert (code, json.loads(out)) == (0, {"stopped": [told["url"]]})
    assert await shell.status() == []
    assert list(folder.iterdir()) == []
    code, out, err = await shell.run("stop")
    assert (code, out, "no replica runs" in err) == (1, "", True)


@pytest.mark.covers("command")
async def test_several_replicas_are_told_apart_by_port_and_directory(shell):
    state = shell.home / "state"
    one = await shell.start("--no-system-canisters", "--state-dir", str(state))
    two = await shell.start("--no-system-canisters")
    assert one["state_dir"] == str(state)
    assert len(await shell.status()) == 2
    (found,) = await shell.status("--state-dir", str(state))
    assert (found["url"], found["log"]) == (one["url"], str(state / "replica.log"))
    (found,) = await shell.status("--port", port_of(two))
    assert found["url"] == two["url"]
    assert await shell.status("--port", "1") == []
    code, _, err = await shell.run("stop", "--port", "1")
    assert (code, err.startswith("no replica runs at port 1; running: ")) == (1, True)
    assert one["url"] in err
    assert two["url"] in err
    code, _, err = await shell.run("stop")
    assert (code, f"--port {port_of(one)}" in err, f"--port {port_of(two)}" in err) == (
        2, True, True,
    )  # fmt: skip
    code, _, err = await shell.run("start", "--background", "--state-dir", str(state))
    assert (code, "in use by another replica" in err) == (1, True)
    code, _, err = await shell.run("start", "--background", "--port", port_of(two))
    assert (code, f"port {port_of(two)} cannot be had" in err) == (1, True)
    code, out, _ = await shell.run("stop", "--state-dir", str(state), "--json")
    assert json.loads(out) == {"stopped": [one["url"]]}
    code, out, _ = await shell.run("stop", "--all", "--json")
    assert json.loads(out) == {"stopped": [two["url"]]}


async def test_a_killed_replica_does_not_run_and_its_state_is_there_again(shell):
    options = ("--no-system-canisters", "--state-dir", str(shell.home / "state"))
    told = await shell.start(*options)
    (found,) = await shell.status()
    os.kill(found["pid"], signal.SIGKILL)
    async with asyncio.timeout(240):
        while await shell.status():
            pass
    again = await shell.start(*options)
    assert again["root_key"] == told["root_key"]


async def test_a_replica_in_a_terminal_is_found_too(shell):
    process = await shell.begin("start", "--no-system-canisters", "--json")
    told = json.loads(await process.stdout.readline())
    (found,) = await shell.status()
    assert (found["pid"], found["url"], found["log"]) == (process.pid, told["url"], None)
    code, _, err = await shell.run("logs")
    assert (code, "serves in a terminal" in err, "--background" in err) == (1, True, True)
    code, _, _ = await shell.run("stop")
    assert (code, await process.wait()) == (0, 0)


@pytest.mark.covers("command")
async def test_logs_show_what_canisters_print(shell, make_client, universal_wasm, program):
    told = await shell.start("--no-system-canisters", "--admin", "--fees")
    replica = type("Running", (), {"url": told["url"], "root_key": bytes.fromhex(told["root_key"])})
    async with aiohttp.ClientSession() as session:
        client = make_client(replica, session)
        assert (await client.admin("GET", "/status"))[1]["fees"]
        canister = await client.create(universal_wasm(True))
        await client.certified(canister, "update", program().debug_print(b"hello").reply(b""))
        code, out, _ = await shell.run("logs")
        assert (code, f"[{canister}] hello" in out) == (0, True)
        quiet = await client.create(universal_wasm(True))
        code, out, err = await shell.run("logs", str(quiet))
        assert (code, out, err) == (0, "", f"canister {quiet} has written nothing to its log\n")
        code, out, _ = await shell.run("logs", str(canister), "--json")
        (line,) = [json.loads(line) for line in out.splitlines()]
        assert bytes.fromhex(line["content"]) == b"hello"
        assert (line["index"], line["text"].endswith("] hello")) == (0, True)

        following = await shell.begin("logs", str(canister), "--follow")
        assert (await following.stdout.readline()).endswith(b"] hello\n")
        await client.certified(canister, "update", program().debug_print(b"again").reply(b""))
        assert (await following.stdout.readline()).endswith(b"] again\n")
        whole = await shell.begin("logs", "--follow")
        assert b"hello" in await whole.stdout.readline()
        assert b"again" in await whole.stdout.readline()
    code, out, err = await shell.run("logs", str(Principal(b"\x01\x01")))
    assert (code, out, "there is no canister" in err) == (1, "", True)
    await shell.run("stop")
    assert await following.wait() == 0
    assert await whole.wait() == 0


async def test_a_canisters_log_needs_the_admin_interface(shell):
    await shell.start("--no-system-canisters")
    code, _, err = await shell.run("logs", "aaaaa-aa")
    assert (code, "start it with --admin" in err) == (1, True)


async def test_what_makes_no_sense_is_a_usage_error(shell):
    code, _, err = await shell.run("start", "--time", "yesterday")
    assert (code, "is no time" in err) == (2, True)
    code, _, err = await shell.run("start", "--background", "--until-eof")
    assert (code, "exclude each other" in err) == (2, True)


@pytest.mark.covers("command")
async def test_it_ends_when_told_although_canisters_are_executed(
    shell, make_client, universal_wasm, program
):
    process = await shell.begin("start", "--no-system-canisters", "--json")
    told = json.loads(await process.stdout.readline())
    running = SimpleNamespace(url=told["url"], root_key=bytes.fromhex(told["root_key"]))
    async with aiohttp.ClientSession() as session:
        client = make_client(running, session)
        canisters = [await client.create(universal_wasm(True)) for _ in range(2)]
        asked = [
            asyncio.create_task(client.query(canister, "query", program().spin()))
            for canister in canisters
        ]
        # Each may use 40 billion instructions, and begins when it is taken in.
        for canister in canisters:
            status, _, _ = await client.call(canister, "update", program().spin(), version=2)
            assert status == 202
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 240) == 0
        # Those that a quick machine has answered already are none the worse for it.
        ends = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(end, aiohttp.ClientError | tuple) for end in ends)
