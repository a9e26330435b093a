"""``ic-bridge watch`` as operators and cron use it: exit codes, JSON, a terminal, the network."""

import asyncio
import contextlib
import json
import os
import pty
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge import Agent, Bridge, Identity, MemoryStore, Network, PostgresStore, SQLiteStore
from bridge.agent.agent import MAINNET_ROOT_KEY
from bridge.cli import root
from bridge.contracts import motoko_canister
from bridge.errors import BridgeError, NotSentError
from bridge.monitor import CanisterWatch
from bridge.principal import Principal
from bridge.reference import SHORT_WAITS, ReferenceCanister, install_argument

COMMAND = str(Path(sys.executable).with_name("ic-bridge"))
EVIL = "\x1b]0;owned\x07\x1b[31m\u202e[bold]\n"


@pytest.fixture
def watch(command, key_file):
    """``ic-bridge watch``, on a world's replica and by its agent."""

    async def run(world, what, *words, identity=True, **variables):
        own = ["--network", world.replica.url]
        if identity:
            own += ["--identity", key_file(world.agent.identity)]
        return await command("watch", what, *words, *own, **variables)

    return run


@pytest.fixture
def here(key_file, tmp_path, monkeypatch):
    """The same in this process, which is quicker, for commands that ask once."""
    monkeypatch.chdir(tmp_path)

    async def run(world, what, *words, identity=True):
        line = ["watch", what, *words, "--network", world.replica.url]
        if identity:
            line += ["--identity", key_file(world.agent.identity)]
        done = await asyncio.to_thread(CliRunner().invoke, root, [str(word) for word in line])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return subprocess.CompletedProcess(line, done.exit_code, done.stdout, done.stderr)

    return run


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- Asking once ----------------------------------------------------------------------------------


async def test_one_line_of_cron_finds_what_needs_a_person(world, watch, troubled):
    a, b = await troubled(world)
    sources = (f"shop={a.id}", f"bank={b.id}")
    done = await watch(world, "flows", *sources, "--fail-on", "dead_letter,stalled", "--json")
    assert done.returncode == 1, done.stderr
    assert done.stderr == "shop: 1 flow is dead_letter\nbank: 1 flow is stalled\n"
    shop, bank = lines(done)
    assert (shop["source"], shop["trust"], shop["complete"]) == ("shop", "one node", True)
    dead, sending = sorted(shop["flows"], key=lambda flow: flow["msg_id"])
    assert (dead["role"], dead["peer"], dead["msg_id"]) == ("sender", str(b.id), "1")
    assert (dead["state"], sending["state"]) == ("dead_letter", "sending")
    assert [flow["state"] for flow in bank["flows"]] == ["stalled"]
    for words in (["--fail-on", "corrupt,overdue"], []):
        done = await watch(world, "flows", *sources, *words)
        assert (done.returncode, "dead_letter" in done.stdout) == (0, True), done.stderr
    done = await watch(world, "flows", *sources, "--state", "dead_letter", "--certified", "--json")
    assert [(one["trust"], len(one["flows"])) for one in lines(done)] == [
        ("certified", 1),
        ("certified", 0),
    ]


async def test_filters_narrow_what_is_listed(one_world, here, troubled):
    a, b = await troubled(one_world)

    async def listed(*words):
        done = await here(one_world, "flows", a.id, "--json", *words)
        assert done.returncode == 0, done.stderr
        (found,) = lines(done)
        return [int(flow["msg_id"]) for flow in found["flows"]]

    assert sorted(await listed("--all")) == [1, 2]
    assert await listed("--peer", b.id, "--state", "dead_letter") == [1]
    assert await listed("--peer", a.id) == []
    assert await listed("--role", "receiver") == []
    assert await listed("--idle", "1 d") == []
    assert await listed("--limit", "1") == [1]
    for condition, code in (("stalled", 0), ("sending", 1), ("dead_letter", 1)):
        done = await here(one_world, "flows", a.id, "--limit", "1", "--fail-on", condition)
        assert (done.returncode, "raise --limit" in done.stderr) == (code, True)


async def test_a_flow_that_nothing_serves_is_overdue(one_world, liar, told_status, told_flow, here):
    now = 1_800_000_000_000_000_000
    flows = [told_flow(due=now - 90_000_000_000), told_flow(msg_id=2, due=now + 1)]
    canister_id = await liar(
        one_world, status=told_status(time=now), flows={"flows": flows, "next": None}
    )
    asked = ("flows", f"x={canister_id}", "--state", "sending", "--fail-on", "overdue")
    done = await here(one_world, *asked)
    assert (done.returncode, done.stderr) == (1, "trust: one node\nx: 1 flow is overdue\n")
    assert "1 min ago" in done.stdout
    assert (await here(one_world, *asked, "--grace", "2 min")).returncode == 0


async def test_a_status_is_read_back(one_world, here, troubled):
    a, b = await troubled(one_world)
    done = await here(one_world, "status", a.id, "--json")
    (told,) = lines(done)
    assert told["usage"]["sender"]["open"] == 2
    assert told["limits"] == {"open": 100_000, "tombstones": 1_000_000, "bytes": 2**30}
    assert told["starts"] == 1
    assert str(b.id) in {row["peer"] for row in told["peers"]}
    done = await here(one_world, "status", a.id)
    assert "2 of 100,000" in done.stdout


async def test_each_source_answers_for_itself_and_the_worst_code_counts(
    one_world, here, command, tmp_path, troubled
):
    a, _ = await troubled(one_world)
    await an_empty_store(tmp_path / "flows.db")
    done = await here(one_world, "status", a.id, "flows.db", "--json", identity=False)
    assert done.returncode == 1
    assert "only controllers and listed monitors may watch" in done.stderr
    assert [one["source"] for one in lines(done)] == ["flows.db"]
    away = ("--network", "http://127.0.0.1:1")
    done = await command("watch", "status", a.id, "flows.db", "--json", *away)
    assert (done.returncode, len(lines(done))) == (3, 1)
    assert "no connection to http://127.0.0.1:1" in done.stderr
    key = MAINNET_ROOT_KEY.hex()
    done = await here(one_world, "flows", a.id, "flows.db", "--root-key", key)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"ic-bridge: {a.id}: " in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "nonsense"], "neither a canister's id nor a store"),
        (["status", "aaaaa-aa"], "aaaaa-aa is no canister's id"),
        (["status"], "Missing argument"),
        (["status", "rrkah-fqaaa-aaaaa-aaaaq-cai"], "no network 'nowhere'"),
        (["status", "a=key", "a=key"], "two sources have one name"),
        (["status", "mysql://host/flows"], "mysql"),
        (["flows", "key", "--fail-on", "dead_leter"], "did you mean 'dead_letter'"),
        (["flows", "key", "--fail-on", "finished"], "which is not looked for"),
        (["flows", "key", "--idle", "soon"], "the units are"),
        (["flows", "key", "--state", "dead"], "'dead' is not one of"),
        (["flows", "key", "--all", "--state", "failed"], "exclude each other"),
        (["events", "key", "--after", "1", "--new"], "exclude each other"),
        (["export", "key", "--listen", "9654"], "no address and port"),
        (["export", "key", "--listen", "[::1]:70000"], "no address and port"),
        (["export", "flows.db", "--listen", "192.0.2.1:1"], "cannot be listened on"),
        (["events", "flows.db"], "is a store, which keeps flows and no history"),
        (["events", "flows.db", "--new"], "is a store, which keeps flows and no history"),
    ],
)
def test_a_mistake_is_usage(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("")
    asyncio.run(an_empty_store(tmp_path / "flows.db"))
    done = CliRunner().invoke(root, ["watch", *words, "--network", "nowhere"])
    told = str(done.exception) if isinstance(done.exception, BridgeError) else done.stderr
    assert said in told.replace("\n", " ")
    assert getattr(done.exception, "exit_code", done.exit_code) == 2


async def an_empty_store(path):
    async with SQLiteStore(path):
        pass


async def test_what_is_no_store_is_told(command, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing of the kind, but long enough" * 100)
    done = await command("watch", "flows", "notes.txt")
    # Not 1, which says that a condition holds: nobody could look.
    assert (done.returncode, "not a database" in done.stderr) == (3, True)


async def test_a_server_that_is_away_is_no_condition(command):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    where = f"desk=postgresql://me:secret@127.0.0.1:{port}/flows"
    done = await command("watch", "flows", where, "--fail-on", "dead_letter")
    assert (done.returncode, done.stdout) == (3, "")
    assert "ic-bridge: desk: the store 'ic_bridge' in flows on 127.0.0.1 failed" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "source",
    ["host=db password=secret", "x=host=db password=secret", "password=secret", "me:secret@db"],
)
def test_what_may_hold_a_password_is_not_repeated(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(root, ["watch", "flows", source])
    assert done.exception.exit_code == 2
    assert "or a URI that begins with postgresql://" in str(done.exception)
    assert "secret" not in str(done.exception)


def test_a_pipe_is_no_store_to_wait_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("flows.db")
    done = CliRunner().invoke(root, ["watch", "flows", "flows.db"])
    assert "is no regular file" in str(done.exception)
    assert done.exception.exit_code == 2


async def test_a_source_that_never_answers_costs_the_others_nothing(command, tmp_path):
    await an_empty_store(tmp_path / "flows.db")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = ("rrkah-fqaaa-aaaaa-aaaaq-cai", "flows.db", "--network", url, "--json")
        both = [command("watch", what, *line, "--timeout", "10 s") for what in ("status", "flows")]
        for done in await asyncio.gather(*both):
            assert [one["source"] for one in lines(done)] == ["flows.db"], done.stderr
            assert (done.returncode, "no whole answer within 10 s" in done.stderr) == (3, True)


async def test_a_thousand_healthy_flows_are_no_alarm_and_hide_none(command, tmp_path, many_flows):
    await many_flows(tmp_path / "flows.db", 1_001)
    line = ("watch", "flows", "flows.db", "--limit", "1", "--json", "--fail-on")
    done = await command(*line, "dead_letter,stalled")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "flows.db: there are more flows than these; raise --limit\n"
    assert [one["complete"] for one in lines(done)] == [False]
    await many_flows(tmp_path / "flows.db", 1, dead=True)  # the youngest of all
    done = await command(*line, "dead_letter,stalled")
    assert (done.returncode, "1 flow is dead_letter" in done.stderr) == (1, True)
    assert [flow["state"] for one in lines(done) for flow in one["flows"]] == ["queued"]
    done = await command(*line, "overdue")
    assert (done.returncode, "1001 flows are overdue" in done.stderr) == (1, True)


async def test_settings_and_completion_serve_this_command_too(one_world, command, key_file):
    a = await one_world.deploy("both")
    done = await command(
        *("watch", "flows", a.id, "--json"),
        IC_BRIDGE_NETWORK=one_world.replica.url,
        IC_BRIDGE_WATCH_FLOWS_IDENTITY=str(key_file(one_world.agent.identity)),
    )
    assert lines(done) == [
        {"source": str(a.id), "trust": "one node", "complete": True, "flows": []}
    ]
    done = await command(
        _IC_BRIDGE_COMPLETE="bash_complete",
        COMP_WORDS="ic-bridge watch flows x --fail-on stalled,dead",
        COMP_CWORD="5",
    )
    assert done.stdout == "plain,stalled,dead_letter\n"


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    """A store, and where ``ic-bridge`` finds it."""
    if request.param == "sqlite":
        return SQLiteStore(tmp_path / "flows.db"), "flows.db", "flows.db"
    place = request.getfixturevalue("postgres")
    shown = f"postgresql:///postgres?schema={place.schema}"
    return PostgresStore(place.conninfo, schema=place.schema), place.location, shown


async def test_a_store_is_watched_while_a_bridge_works_on_it(one_world, command, store):
    store, location, shown = store
    gone = await one_world.deploy("both")
    await one_world.manage("stop_canister", gone)
    async with store, Bridge(one_world.agent, store) as bridge:
        msg_id = await bridge.post(gone.id, b"hello", dialect="unified")
        done = await command("watch", "flows", f"shop={location}", "--json")
        (told,) = lines(done)
        assert (told["source"], told["trust"]) == ("shop", "own store")
        (flow,) = told["flows"]
        assert (flow["msg_id"], flow["peer"]) == (str(msg_id), str(gone.id))
        assert flow["state"] in {"queued", "sending"}
        done = await command("watch", "status", location, "--json")
        (told,) = lines(done)
        assert (told["source"], told["usage"]["sender"]["open"]) == (shown, 1)
        assert told["usage"]["sender"]["peers"] == 1


async def test_who_reads_only_the_beginning_hears_no_complaint(tmp_path, environment, many_flows):
    await many_flows(tmp_path / "flows.db", 1_000)  # more than a pipe holds
    line = f"{COMMAND} watch flows flows.db --json | head -c 1"
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", line],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{", "")


# --- What a hostile canister says -----------------------------------------------------------------


def on_a_terminal(words, folder, environment, no_color="1"):
    """What a command prints to a terminal, and to stderr that is one too."""
    own, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, *map(str, words)],
        cwd=folder,
        env=environment | {"TERM": "dumb", "NO_COLOR": no_color},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        printed = b""
        with contextlib.suppress(OSError):  # which is how the end of a terminal is told
            while part := os.read(own, 65_536):
                printed += part
        code = process.wait(timeout=300)
    os.close(own)
    return code, printed.decode()


async def test_control_characters_of_a_canister_never_reach_a_terminal(
    one_world, liar, told_status, told_flow, told_event, tmp_path, environment, watch
):
    canister_id = await liar(
        one_world,
        status=told_status(version=EVIL, counters=[(EVIL, 1)], gauges=[(EVIL, 1)]),
        flows={"flows": [told_flow()], "next": None},
        events=[told_event(why=EVIL)],
    )
    for what in ("status", "events", "flows"):
        words = ["watch", what, canister_id, "--network", one_world.replica.url]
        words += ["--state", "sending"] if what == "flows" else []
        code, printed = await asyncio.to_thread(on_a_terminal, words, tmp_path, environment)
        assert code == 0, printed
        assert str(canister_id) in printed or what == "events"
        assert all(char.isprintable() or char in "\r\n" for char in printed), repr(printed)
        assert what == "flows" or r"\x1b]0;owned" in printed
        assert "one node" in printed
    done = await watch(one_world, "flows", canister_id, "--state", "sending")
    assert done.stderr == "trust: one node\n"
    narrow = {"PYTHONIOENCODING": "ascii"}
    done = await watch(one_world, "events", canister_id, **narrow)
    assert (done.returncode, "\\u202e" in done.stdout) == (0, True)
    done = await watch(one_world, "events", canister_id, "--json")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert lines(done)[0]["why"] == EVIL


@pytest.mark.parametrize(("source", "told"), [("nonsense", 2), ("notes.txt", 3)])
def test_a_complaint_is_without_colours_where_none_are_wanted(tmp_path, environment, source, told):
    (tmp_path / "notes.txt").write_text("nothing of the kind, but long enough" * 100)
    line = ["watch", "flows", source]
    code, printed = on_a_terminal(line, tmp_path, environment)
    assert (code, "ic-bridge: " in printed, "\x1b" in printed) == (told, True, False)
    _, printed = on_a_terminal(line, tmp_path, environment, no_color="")
    assert "\x1b[31mic-bridge: " in printed


async def test_a_canister_that_keeps_no_contract_is_not_to_be_trusted(one_world, liar, here):
    canister_id = await liar(one_world, status=b"DIDL\x00\x00", flows=b"")
    for what in ("status", "flows"):
        done = await here(one_world, what, canister_id)
        assert (done.returncode, done.stdout) == (4, "")
        assert "does not keep the contract" in done.stderr


async def test_an_id_beyond_all_bounds_costs_only_its_own_source(
    one_world, liar, told_status, told_flow, told_event, here, watch, tmp_path
):
    wrong = {"msg_id": 2**20_000}
    canister_id = await liar(
        one_world,
        status=told_status(),
        flows={"flows": [told_flow(**wrong)], "next": None},
        events=[told_event(**wrong)],
    )
    await an_empty_store(tmp_path / "flows.db")
    for words in (["--all"], ["--all", "--json"]):
        done = await here(one_world, "flows", f"x={canister_id}", "desk=flows.db", *words)
        assert done.returncode == 4, done.stderr
        assert "ic-bridge: x: the canister tells a msg_id of 20001 bits" in done.stderr
        assert "--json" not in words or [one["source"] for one in lines(done)] == ["desk"]
    done = await watch(one_world, "events", canister_id, identity=False)
    assert (done.returncode, "msg_id of 20001 bits" in done.stderr) == (4, True)


async def test_a_quota_that_was_not_told_is_not_made_up(one_world, liar, told_status, here):
    canister_id = await liar(one_world, status=told_status(settings={"open_flows": 7}))
    done = await here(one_world, "status", canister_id, "--json")
    assert lines(done)[0]["limits"] == {"open": 7, "tombstones": None, "bytes": None}
    done = await here(one_world, "status", canister_id)
    assert ("0 of 7" in done.stdout, done.stdout.count(" of ")) == (True, 2)


# --- Following ------------------------------------------------------------------------------------


class Following:
    """``ic-bridge watch events`` as another process, read line by line."""

    def __init__(self, words, folder, environment):
        self.process = subprocess.Popen(
            [COMMAND, "watch", "events", *map(str, words), "--json", "--every", "10 ms"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def line(self):
        text = await asyncio.to_thread(self.process.stdout.readline)
        assert text, await self.ended()
        return json.loads(text)

    async def ended(self):
        said = await asyncio.to_thread(self.process.communicate, timeout=300)
        return self.process.returncode, *said


@pytest.fixture
def following(tmp_path, environment):
    begun = []

    def begin(*words):
        begun.append(Following(words, tmp_path, environment))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_following_ends_cleanly_when_it_is_told_to(one_world, following, key_file, number):
    a, b = await one_world.deploy("player"), await one_world.deploy("player")
    where = ("--network", one_world.replica.url, "--identity", key_file(one_world.agent.identity))
    follow = following(a.id, b.id, "--follow", *where)
    await a.open(b.id, 1)
    seen = [await follow.line() for _ in range(7)]
    of_a = [(one["seq"], one["after"]) for one in seen if one["source"] == str(a.id)]
    assert of_a == [(1, "queued"), (2, "sending"), (3, "answered"), (4, "acknowledged")]
    assert {one["type"] for one in seen} == {"event"}
    follow.process.send_signal(number)
    assert await follow.ended() == (0, "", "")


async def test_being_told_to_end_hides_no_source_that_failed(one_world, following, key_file, liar):
    a, b = await one_world.deploy("player"), await one_world.deploy("player")
    await a.open(b.id, 1)
    wrong = await liar(one_world, events=b"DIDL\x00\x00")
    where = ("--network", one_world.replica.url, "--identity", key_file(one_world.agent.identity))
    follow = following(a.id, wrong, "--follow", *where)
    assert "does not keep the contract" in await asyncio.to_thread(follow.process.stderr.readline)
    await follow.line()
    follow.process.send_signal(signal.SIGTERM)
    assert (await follow.ended())[0] == 4


async def test_only_what_is_new_is_told_where_that_is_asked(one_world, following, key_file):
    a, b = await one_world.deploy("player"), await one_world.deploy("player")
    await a.open(b.id, 1)
    await a.until(1, "acknowledged")
    where = ("--network", one_world.replica.url, "--identity", key_file(one_world.agent.identity))
    follow = following(a.id, "--new", *where)
    opened = 1
    reading = asyncio.ensure_future(follow.line())
    while not reading.done():  # until the other process looks, what happens is not new to it
        opened += 1
        await a.open(b.id, opened)
        await asyncio.wait([reading], timeout=0.2)
    assert (await reading)["seq"] > 4


def free_port():
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Replica:
    """A replica as a process that keeps its state, to be killed and started again."""

    def __init__(self, folder, environment):
        self.port = free_port()
        self.line = [COMMAND, "replica", "start", "--port", str(self.port)]
        self.line += ["--state-dir", str(folder / "subnet"), "--no-system-canisters"]
        self.environment = environment
        self.process = None

    async def start(self):
        return await asyncio.to_thread(self._start)

    def _start(self):
        self.process = subprocess.Popen(
            self.line, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        told = json.loads(self.process.stdout.readline())
        return told["url"], bytes.fromhex(told["root_key"])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def replica(tmp_path, environment):
    replica = Replica(tmp_path, environment)
    yield replica
    replica.kill()


async def test_a_replica_that_goes_away_and_comes_back_is_told_and_followed_on(
    replica, following, key_file
):
    url, root_key = await replica.start()
    identity = Identity.generate()
    network = Network(url, root_key)
    async with network.agent(identity) as agent:
        install = install_argument(SHORT_WAITS, agents=[agent.principal])
        a, b = [
            ReferenceCanister(agent, await network.deploy(agent, motoko_canister(name), install))
            for name in ("sender", "echo")
        ]
        where = ("--network", url, "--identity", key_file(identity))
        follow = following(a.canister_id, "--follow", *where)
        first = await a.send(b.canister_id, b"one")
        assert [(await follow.line())["msg_id"] for _ in range(4)] == [str(first)] * 4
        replica.kill()
        lost = await follow.line()
        assert lost["type"] == "contact_lost"
        assert lost["error"]["error"] in {"NotSentError", "TransportError"}
        impatient = CanisterWatch(agent, a.canister_id).events(after=4, follow=True)
        with pytest.raises(NotSentError, match="no connection"):
            await anext(impatient)
        await replica.start()
        assert (await follow.line())["type"] == "contact_regained"
    async with Agent(url, identity, root_key) as agent:
        second = await ReferenceCanister(agent, a.canister_id).send(b.canister_id, b"two")
        seen = [await follow.line() for _ in range(4)]
        assert [(one["seq"], one["msg_id"]) for one in seen] == [
            (seq, str(second)) for seq in (5, 6, 7, 8)
        ]
        watch = CanisterWatch(agent, a.canister_id)
        patient = watch.events(after=8, follow=True, poll_every=0.01, patience=0)
        waiting = asyncio.ensure_future(anext(patient))
        await watch.status()
        replica.kill()
        with pytest.raises(NotSentError, match="no connection"):
            await waiting
    follow.process.send_signal(signal.SIGTERM)
    assert (await follow.ended())[0] == 0


def test_a_stores_place_is_named_without_its_password():
    from bridge.monitor.store import _place

    told = _place("postgresql://me:secret@db.example:5432/flows?password=secret")
    assert told == "postgresql://db.example:5432/flows"
    told = _place("postgresql://me:secret@/flows?host=/run&password=secret&schema=orders")
    assert told == "postgresql:///flows?schema=orders"
    assert _place("a/flows.db") == "a/flows.db"


def test_drawing_a_trace_loads_no_network_and_no_metrics():
    program = (
        "import sys; from bridge.monitor import draw_timeline; import bridge.monitor as m;"
        "print([n for n in ('aiohttp', 'cryptography', 'prometheus_client') if n in sys.modules]);"
        "[getattr(m, name) for name in m.__all__]; assert set(m.__all__) <= set(dir(m))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


async def test_a_memory_store_of_this_program_is_watched_without_a_file(one_world):
    from bridge import StoreWatch

    gone = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
    async with MemoryStore() as store, Bridge(one_world.agent, store) as bridge:
        await bridge.post(gone, b"hello", dialect="unified")
        async with StoreWatch(store, name="mine") as watch:
            found = await watch.flows(peer=gone)
            assert (len(found), found.source) == (1, "mine")
            assert next(iter(found)).role == "sender"
