"""Metrics for Prometheus: scraped over HTTP and read by its own parser, bounded in every way."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from bridge import Bridge, MemoryStore, SQLiteStore
from bridge.errors import NotSentError, UsageError
from bridge.flow import Ack, Fin, New, Role
from bridge.monitor import (
    BridgeMetrics,
    CanisterWatch,
    Exporter,
    FlowView,
    SideUsage,
    Status,
    StoreWatch,
    Trust,
    Watch,
)
from bridge.monitor.metrics import OF_PROGRAMS, OF_SOURCES, BoundedLabels
from bridge.monitor.records import role_of
from bridge.monitor.watch import Page
from bridge.principal import Principal
from bridge.service import Sighting

COMMAND = str(Path(sys.executable).with_name("ic-bridge"))
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "watch-flows.md"
PEER = Principal.from_text("rrkah-fqaaa-aaaaa-aaaaq-cai")
SECOND = 1_000_000_000


async def scraped(url, accept=None, **headers):
    """What a scrape reads: {(name, (label, ...)...): value}, the labels sorted by their names."""
    headers |= {} if accept is None else {"Accept": accept}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.status == 200, await response.text()
        text = await response.text()
        parse = open_metrics if "openmetrics" in response.headers["Content-Type"] else plain_text
        return samples(parse(text))


def samples(families):
    found = {}
    for family in families:
        for sample in family.samples:
            labels = [value for _, value in sorted(sample.labels.items())]
            found[sample.name.removeprefix("ic_bridge_"), *labels] = sample.value
    return found


async def test_what_a_scrape_says_of_canisters_and_stores(world, troubled):
    a, b = await troubled(world)
    async with MemoryStore() as store:
        watches = [
            CanisterWatch(world.agent, a.id, name="shop"),
            CanisterWatch(world.agent, b.id, name="bank"),
            StoreWatch(store, name="desk"),
        ]
        async with Exporter(watches).serving() as url:
            assert url.startswith("http://127.0.0.1:")
            told = await scraped(url)
            again = await scraped(url, "application/openmetrics-text; version=1.0.0")
    assert told["flows", str(b.id), "sender", "shop", "dead_letter"] == 1
    assert told["flows", str(b.id), "sender", "shop", "sending"] == 1
    assert told["flows", str(a.id), "receiver", "bank", "stalled"] == 1
    assert told["open_flows", "sender", "shop"] == 2
    assert told["open_flows_limit", "shop"] == 100_000
    assert told["tombstones", "receiver", "bank"] == 1
    assert told["stored_bytes", "sender", "shop"] > 0
    assert told["stored_bytes_limit", "bank"] == 2**30
    assert told["peers", "sender", "desk"] == 0
    assert told["oldest_open_flow_age_seconds", "sender", "shop"] >= 0
    assert told["most_overdue_seconds", "receiver", "shop"] == 0
    assert told["peer_messages_total", "sent", str(b.id), "shop"] >= 2
    assert told["starts_total", "bank"] == 1
    assert told["source_info", "canister", "shop", "one node", "0.1.0"] == 1
    assert told["source_info", "store", "desk", "own store", ""] == 1
    for name in ("shop", "bank", "desk"):
        assert told["source_up", name] == told["source_complete", name] == 1
        assert abs(told["source_last_success_timestamp_seconds", name] - time.time()) < 3_600
    assert ("starts_total", "desk") not in told
    assert again.items() >= {key: told[key] for key in told if key[0] == "flows"}.items()


async def test_what_is_counted_is_a_counter_and_ages_are_by_the_canisters_clock(
    one_world, troubled
):
    a, b = await troubled(one_world)
    async with one_world.another_agent() as stranger:
        await b.speak(stranger, "FIN", msg_id=1)
    await one_world.advance(0.5)
    watches = [
        CanisterWatch(one_world.agent, one.id, name=name) for one, name in ((a, "a"), (b, "b"))
    ]
    before = await b.counters()
    async with Exporter(watches).serving() as url:
        told = await scraped(url)
    after = await b.counters()
    counted = {
        key[1]: value for key, value in told.items() if key[0] == "counted_total" and key[2] == "b"
    }
    assert all(before[name] <= counted[name] <= after[name] for name in before)
    assert any(name.startswith("refused.") for name in before)
    assert told["instructions_total", "receive", "b"] > 1_000  # by kind, and source
    assert not any(name.startswith("instructions.") for name in counted)
    assert told["oldest_open_flow_age_seconds", "sender", "a"] >= 5


class Acting(Watch):
    """A source that does what it is told to when it is asked."""

    kind = "store"

    def __init__(self, name, act):
        super().__init__(name)
        self.act = act
        self.asked = 0

    @property
    def trust(self):
        return Trust.OWN_STORE

    async def status(self):
        self.asked += 1
        await self.act()
        usage = [SideUsage(role=role, open=0, tombstones=0, bytes=0, peers=0) for role in Role]
        return Status(source=self.name, trust=self.trust, time=1, usage=tuple(usage))

    async def _page(self, role, state, cursor):
        return Page((), None)

    async def latest_event(self):
        return None

    def events(self, **_options):
        raise NotImplementedError


class Keeping(Acting):
    """A source with so many flows of each of these states."""

    def __init__(self, name, counts):
        super().__init__(name, nothing)
        self.counts = counts

    async def _page(self, role, state, cursor):
        begin = int(cursor or b"0")
        end = min(begin + 1_000, self.counts.get(str(state), 0))
        flows = [a_flow(state, number) for number in range(begin, end)]
        more = end < self.counts.get(str(state), 0)
        return Page(tuple(flows), str(end).encode() if more else None)


def a_flow(state, number):
    """A dead letter is younger than all others."""
    return FlowView(
        role=role_of(state),
        peer=PEER,
        msg_id=number,
        state=state,
        failure=None,
        late=False,
        attempts=0,
        due=None,
        opened=1,
        changed=2 if state == "dead_letter" else 1,
        payload_hash=0,
        response_hash=None,
    )


async def nothing():
    pass


async def hang():
    await asyncio.Event().wait()


async def away():
    raise NotSentError("no connection")


async def test_sources_fail_and_hang_for_themselves_and_a_scrape_ends():
    watches = [Acting("good", nothing), Acting("stuck", hang), Acting("away", away)]
    hurried = {"X-Prometheus-Scrape-Timeout-Seconds": "1"}

    async def until(url, *sample):
        async with asyncio.timeout(300):
            while not (told := await scraped(url, **hurried)).get(sample):
                pass
        return told

    async with Exporter([Acting("stuck", hang)], timeout=0.05).serving() as url:
        await until(url, "source_last_error_info", "TimeoutError", "stuck")
    async with Exporter(watches, timeout=3_600, floor=3_600).serving() as url:
        await until(url, "source_look_failures_total", "NotSentError", "away")
        told = await until(url, "source_up", "good")
    assert [told["source_up", one.name] for one in watches] == [1, 0, 0]
    assert told["source_look_failures_total", "NotSentError", "away"] == 1
    assert told["source_last_success_timestamp_seconds", "away"] == 0
    assert ("open_flows", "sender", "away") not in told


async def test_flows_of_one_state_hide_none_of_another():
    source = Keeping("x", {"processing": 30, "queued": 11, "dead_letter": 1, "stalled": 10})
    async with Exporter([source], most_flows=10).serving() as url:
        told = await scraped(url)
    flows = {key[4]: value for key, value in told.items() if key[0] == "flows"}
    assert flows == {"processing": 10, "queued": 10, "dead_letter": 1, "stalled": 10}
    assert told["source_complete", "x"] == 0
    whole = Keeping("x", {"processing": 1_500, "dead_letter": 1})
    async with Exporter([whole], most_flows=1_500).serving() as url:
        told = await scraped(url)
    assert told["flows", str(PEER), "receiver", "x", "processing"] == 1_500
    assert told["source_complete", "x"] == 1


async def test_a_source_that_failed_is_not_waited_for_as_long_as_one_that_did_not():
    late = asyncio.Event()
    hurt, good = Acting("hurt", away), Acting("good", nothing)
    async with Exporter([hurt, good], floor=0, timeout=3_600).serving() as url:
        await scraped(url)
        hurt.act = late.wait
        told = await scraped(url)  # which ends, though neither look nor scraper has a near end
        assert (told["source_up", "hurt"], told["source_up", "good"]) == (0, 1)
        late.set()
        async with asyncio.timeout(300):
            while (await scraped(url))["source_up", "hurt"] == 0:
                pass


def test_sources_of_one_name_would_be_one_anothers():
    with pytest.raises(UsageError, match="two sources have one name"):
        Exporter([Acting("x", nothing), Acting("x", nothing)])


async def test_a_fault_of_the_program_is_logged_and_the_source_is_down(caplog):
    async def wrong():
        raise ZeroDivisionError

    source = Acting("x", nothing)
    async with Exporter([source], floor=0).serving() as url:
        assert (await scraped(url))["source_up", "x"] == 1
        source.act = wrong
        told = await scraped(url)
    assert told["source_up", "x"] == 0
    assert told["source_look_failures_total", "ZeroDivisionError", "x"] == 1
    assert "x could not be looked at" in caplog.text


async def test_who_scrapes_may_have_less_patience_than_a_look_takes():
    stuck = Acting("stuck", hang)
    async with Exporter([stuck], timeout=3_600).serving() as url:
        told = await scraped(url, **{"X-Prometheus-Scrape-Timeout-Seconds": "0.6"})
        assert told["source_up", "stuck"] == 0
        assert ("source_last_error_info", "TimeoutError", "stuck") not in told  # it still looks
    assert stuck.asked == 1


async def test_a_source_is_looked_at_side_by_side_and_no_more_often_than_the_floor():
    met = asyncio.Barrier(2)
    watches = [Acting(name, met.wait) for name in ("a", "b")]  # neither ends without the other
    async with Exporter(watches, floor=3_600, timeout=60).serving() as url:
        found = await asyncio.gather(*(scraped(url) for _ in range(5)))
        found.append(await scraped(url))
    assert all(told["source_up", "a"] == told["source_up", "b"] == 1 for told in found)
    assert [one.asked for one in watches] == [1, 1]
    often = Acting("often", nothing)
    async with Exporter([often], floor=0).serving() as url:
        for _ in range(3):
            await scraped(url)
    assert often.asked == 3


async def test_a_source_that_was_away_comes_back(one_world):
    coming = Acting("x", away)
    async with Exporter([coming], floor=0).serving() as url:
        assert (await scraped(url))["source_up", "x"] == 0
        coming.act = nothing
        told = await scraped(url)
        assert told["source_up", "x"] == 1
        assert told["source_last_error_info", "NotSentError", "x"] == 1  # the last that there was
        coming.act = away
        gone = await scraped(url)
    last = "source_last_success_timestamp_seconds"
    assert (gone["source_up", "x"], gone[last, "x"]) == (0, told[last, "x"])


async def test_hundreds_of_peers_and_thousands_of_reasons_fill_no_database(
    one_world, liar, told_status, told_flow
):
    peers = [Principal(number.to_bytes(9, "big") + b"\x01") for number in range(900)]
    flows = [told_flow(msg_id=number, peer=peer) for number, peer in enumerate(peers)]
    flows += [told_flow(msg_id=number, peer=peers[7]) for number in range(900, 903)]
    rows = [{"peer": peer, "sent": 1, "received": 2, "refused": 3} for peer in peers]
    canister_id = await liar(
        one_world,
        status=told_status(
            counters=[(f"\x1b{number:05}\n" + "x" * 300, 1) for number in range(5_000)]
            + [("y" * 100 + str(number), 5) for number in range(3)],  # which begin alike
            version="\n" * 5_000,
            peers=rows,
        ),
        flows={"flows": flows, "next": None},
    )

    class Told(CanisterWatch):
        """The liar's answers, where it is asked for what it tells; it tells nothing else."""

        async def _page(self, role, state, cursor):
            if state == "sending":
                return await super()._page(role, state, cursor)
            return Page((), None)

    watch = Told(one_world.agent, canister_id, name="x")
    async with Exporter([watch], most_peers=20, floor=0).serving() as url:
        for _ in range(2):
            told = await scraped(url)
    shown = {key[1]: value for key, value in told.items() if key[0] == "flows"}
    assert len(shown) == 21
    assert shown[str(peers[7])] == 4  # who has most is shown first
    assert (sum(shown.values()), shown["other"]) == (903, 903 - 4 - 19)
    reasons = [value for key, value in told.items() if key[0] == "counted_total"]
    assert (len(reasons), sum(reasons)) == (101, 5_000 + 15)
    passed = [key for key in told if key[0] == "peer_messages_total"]
    assert len(passed) == 3 * 21
    assert all(len(label) < 100 and label.isprintable() for key in told for label in key)


async def test_a_store_that_is_watched_already_can_be_exported_too(tmp_path):
    async with SQLiteStore(tmp_path / "flows.db"), StoreWatch(tmp_path / "flows.db") as watch:
        async with Exporter([watch]).serving() as url:
            assert (await scraped(url))["source_up", watch.name] == 1
        assert len(await watch.flows()) == 0


def test_labels_that_were_given_are_kept():
    labels = BoundedLabels(2)
    labels.admit(["a", "other", "b", "c"])
    labels.admit(["c", "d"])
    assert [labels[name] for name in ("a", "b", "c", "other")] == ["a", "b", "other", "other"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/nothing", {}, 404),
        ("/metrics?name[]=ic_bridge_source_up", {}, 200),
        ("/metrics", {"Accept": "application/openmetrics-text; version=newest"}, 400),
        ("/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": "soon"}, 200),
        ("/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": "-1"}, 200),
        ("/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": "nan"}, 200),
    ],
)
async def test_odd_requests_are_answered(path, headers, status):
    async with (
        Exporter([Acting("x", nothing)]).serving() as url,
        aiohttp.ClientSession() as session,
        session.get(url.removesuffix("/metrics") + path, headers=headers) as response,
    ):
        assert response.status == status


async def test_an_address_in_use_is_told(one_world):
    exporter = Exporter([])
    async with exporter.serving() as url:
        with pytest.raises(UsageError, match="cannot be listened on"):
            async with Exporter([]).serving(port=int(url.split(":")[2].split("/")[0])):
                pass


# --- The command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_exporter_serves_until_it_is_told_to_end(
    one_world, tmp_path, environment, key_file, number, troubled
):
    a, b = await troubled(one_world)
    words = ["watch", "export", f"shop={a.id}", f"bank={b.id}", "--listen", "127.0.0.1:0"]
    words += ["--network", one_world.replica.url, "--identity", key_file(one_world.agent.identity)]
    process = await asyncio.to_thread(
        subprocess.Popen,
        [COMMAND, *map(str, words)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            url = json.loads(await asyncio.to_thread(process.stdout.readline))["url"]
            told = await scraped(url)
            assert told["flows", str(b.id), "sender", "shop", "dead_letter"] == 1
            assert told["flows", str(a.id), "receiver", "bank", "stalled"] == 1
            process.send_signal(number)
            said = await asyncio.to_thread(process.communicate, timeout=300)
        finally:
            process.kill()
    assert (process.returncode, *said) == (0, "", "")


async def test_without_the_extra_it_is_named(command, tmp_path):
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / "prometheus_client.py").write_text(
        'raise ModuleNotFoundError("No module named it", name="prometheus_client")\n'
    )
    (tmp_path / "flows.db").write_text("")
    done = await command("watch", "export", "flows.db", PYTHONPATH=str(missing))
    assert done.returncode == 2
    assert "Exporter needs prometheus-client, which is not installed" in done.stderr
    assert "pip install 'ic-bridge[monitor]'" in done.stderr
    done = await command("watch", "flows", "--help", PYTHONPATH=str(missing))
    assert done.returncode == 0


# --- A program's own bridges ----------------------------------------------------------------------


async def test_a_running_bridge_tells_what_it_sends_and_how_long_flows_take(one_world):
    echo = await one_world.deploy("both", access={"agents": [one_world.agent.principal]})
    registry = CollectorRegistry()
    metrics = BridgeMetrics(registry)
    async with (
        MemoryStore() as store,
        Bridge(one_world.agent, store, observer=metrics.observer("shop")) as bridge,
    ):
        metrics.attach(bridge, "shop")
        await asyncio.gather(*(bridge.send(echo.id, b"hello") for _ in range(3)))
        async with asyncio.timeout(300):
            while True:
                told = samples(plain_text(generate_latest(registry).decode()))
                sent = told.get(("program_messages_total", "shop", "sent", "FIN", "no"), 0)
                measured = told.get(("program_flow_duration_seconds_count", "shop", "sender"), 0)
                if (sent, measured) == (3, 3):
                    break
                await asyncio.sleep(0.02)
        counters = bridge.counters
    assert told["program_messages_total", "shop", "sent", "NEW", "no"] == 3
    assert told["program_messages_total", "shop", "received", "ACK", "unknown"] >= 3
    assert told["program_flow_duration_seconds_sum", "shop", "sender"] > 0
    assert told["program_flow_duration_seconds_bucket", "shop", "+Inf", "sender"] == 3
    assert told["program_counted_total", "shop", "received ACK"] == counters["received ACK"]


MINUTE = 60 * SECOND
START = 1_800_000_000 * SECOND
MINTED = (START // 1_000_000) << 80  # an id that says that it was minted then


def new(msg_id):
    return New(msg_id, b"hello")


def ack(msg_id):
    return Ack(msg_id, b"hello", None)


@pytest.mark.parametrize(
    ("seen", "durations"),
    [
        ([("sent", new(1), 0), ("received", ack(1), 5), ("sent", Fin(1, None), 6)], [5]),
        ([("sent", new(MINTED), 3), ("received", ack(MINTED), 5)], [5]),
        ([("received", ack(MINTED), 5), ("sent", new(MINTED), 6)], [5]),
        ([("received", ack(1), 5), ("sent", new(1), 6)], [0]),
        ([("sent", new(1), 0), ("sent", new(1), 3), ("received", ack(1), 5)], [5]),
        ([("sent", new(1), 0), ("received", ack(1), 5), ("received", ack(1), 7)], [5]),
        ([("received", ack(MINTED), 5), ("received", ack(MINTED), 6)], []),
        ([("received", new(1), 0), ("sent", ack(1), 5), ("received", Fin(1, None), 6)], [6]),
        ([("received", Fin(1, None), 6)], []),
        ([("received", new(1), 0), ("received", ack(1), 1)], []),
    ],
)
def test_a_flows_duration_is_told_once_and_only_of_flows_that_were(seen, durations):
    registry = CollectorRegistry()
    observe = BridgeMetrics(registry).observer()
    for direction, message, at in seen:
        attempt = 1 if direction == "sent" else 0
        observe(Sighting(START + at * SECOND, direction, PEER, message, attempt))
    told = samples(plain_text(generate_latest(registry).decode()))
    found = [value for key, value in told.items() if key[0] == "program_flow_duration_seconds_sum"]
    counts = [
        value for key, value in told.items() if key[0] == "program_flow_duration_seconds_count"
    ]
    assert found == durations
    assert counts == [1.0] * len(durations)


async def test_what_was_registered_can_be_taken_out_and_a_bridge_be_let_go(one_world):
    registry = CollectorRegistry()
    metrics = BridgeMetrics(registry)
    with pytest.raises(UsageError, match="has metrics of bridges already"):
        BridgeMetrics(registry)
    async with MemoryStore() as store, Bridge(one_world.agent, store) as bridge:
        metrics.attach(bridge, "shop")
        echo = await one_world.deploy("both", access={"agents": [one_world.agent.principal]})
        await bridge.send(echo.id, b"hello")
        counted = [key for key in told_by(registry) if key[0] == "program_counted_total"]
        assert {key[1] for key in counted} == {"shop"}
        metrics.detach("shop")
        metrics.detach("shop")
        assert not [key for key in told_by(registry) if key[0] == "program_counted_total"]
    registry.unregister(metrics)
    assert generate_latest(registry) == b""
    BridgeMetrics(registry).observer("shop")(Sighting(START, "received", PEER, new(1), 0))
    assert told_by(registry)["program_messages_total", "shop", "received", "NEW", "unknown"] == 1


def told_by(registry):
    return samples(plain_text(generate_latest(registry).decode()))


# --- The documentation ----------------------------------------------------------------------------


def test_the_guide_has_each_metric_with_its_type_and_labels():
    text = GUIDE.read_text(encoding="utf-8")
    row = re.compile(r"^\| `(ic_bridge_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
    told = {
        name: (kind, re.findall(r"`(\w+)`", labels), words.strip())
        for name, kind, labels, words in row.findall(text)
    }
    known = {
        one.name: (one.kind, list(one.labels), one.help)
        for one in [*OF_SOURCES.values(), *OF_PROGRAMS.values()]
    }
    assert told == known


def test_the_guides_alerts_speak_of_metrics_and_labels_that_there_are():
    text = GUIDE.read_text(encoding="utf-8")
    (block,) = re.findall(
        r'^```yaml title="alerts.yml"\n(.*?)^```$', text, re.DOTALL | re.MULTILINE
    )
    (group,) = yaml.safe_load(block)["groups"]
    known = {one.name: one for one in [*OF_SOURCES.values(), *OF_PROGRAMS.values()]}
    assert len(group["rules"]) >= 4
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        named = re.findall(r"ic_bridge_\w+", rule["expr"])
        assert named, rule
        labels = {label for name in named for label in known[name].labels}
        for selector in re.findall(r"\{([^}]*)\}", rule["expr"]):
            assert set(re.findall(r"(\w+)(?:=|!=|=~)", selector)) <= labels, rule
        scraped = {"job", "instance"}  # which Prometheus adds, and tells exporters apart by
        for how, listed in re.findall(r"\b(by|on|ignoring) *\(([^)]*)\)", rule["expr"]):
            words = set(re.findall(r"\w+", listed))
            assert words <= labels | scraped, rule
            assert how == "ignoring" or words >= scraped | {"source"}, rule
        # Which of an exporter's series belong together, all other labels say.
        assert not re.search(r"[-+*/] *on\b", rule["expr"]), rule


def test_there_is_an_alert_for_whatever_makes_another_blind():
    text = GUIDE.read_text(encoding="utf-8")
    for blind in ("ic_bridge_source_up == 0", "ic_bridge_source_complete == 0", "absent("):
        assert f"expr: {blind}" in text
