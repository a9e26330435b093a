"""Networks by URL, by name, and as dfx, icp-cli and PocketIC say where theirs are."""

import base64
import json
import os
import shutil
import stat
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bridge.agent import Identity
from bridge.agent.agent import MAINNET_ROOT_KEY
from bridge.errors import NotSentError, TransportError, UsageError
from bridge.network import Network, open_network, parse_root_key
from bridge.network.pocket_ic import default_effective_canister_id
from bridge.principal import Principal
from bridge.replica import Replica

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def replica():
    async with Replica() as running:
        yield running


@pytest.fixture
async def serve():
    """Serve routes on a free port; gives the URL."""
    runners = []

    async def start(*routes):
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program on the PATH that prints the given text, and only there."""

    def make(name, prints, code=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text(prints)
        stream = "" if code == 0 else " >&2"
        script = (
            f'#!/bin/sh\necho "$@" > "{folder}/{name}.asked"\ncat "{folder}/{name}.txt"{stream}\n'
        )
        (folder / name).write_text(script + f"exit {code}\n")
        (folder / name).chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
        return lambda: (folder / f"{name}.asked").read_text().split()

    return make


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder for dfx's own files."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("DFX_CONFIG_ROOT", str(folder))
    return folder


def write_json(file: Path, value) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


async def serves_canisters(network: Network) -> bool:
    async with network.agent(Identity.generate()) as agent:
        canister_id = await network.create(agent)
        return list(await agent.controllers(canister_id)) == [agent.principal]


# --- By URL -------------------------------------------------------------------------------------


async def test_a_replica_on_this_machine_is_asked_for_its_root_key(replica) -> None:
    network = await Network.at(replica.url)
    assert network.root_key == replica.root_key
    assert await serves_canisters(network)


async def test_a_replica_elsewhere_needs_its_root_key_to_be_given(monkeypatch) -> None:
    with pytest.raises(UsageError, match=r"not on this machine.*--ic-root-key"):
        await Network.at("http://192.0.2.1:4943")


@pytest.mark.parametrize("url", ["http://127.0.0.1:4944x", "http://[::1"])
@pytest.mark.parametrize("root_key", [None, b"key"])
async def test_what_is_no_url_is_a_wrong_argument(url, root_key) -> None:
    with pytest.raises(UsageError, match=r"is not a URL.*such as http://127") as caught:
        await Network.at(url, root_key)
    assert caught.value.__suppress_context__


async def test_mainnet_is_known_by_its_gateways_and_creates_nothing_for_free() -> None:
    for url in ("https://icp0.io", "https://icp-api.io", "https://ryjl3.icp0.io"):
        network = await Network.at(url)
        assert network.root_key is None
        async with network.agent(Identity.generate()) as agent:
            assert agent.root_key == MAINNET_ROOT_KEY
            with pytest.raises(UsageError, match=r"mainnet.*pass its id"):
                await network.create(agent)
    with pytest.raises(UsageError, match="root key must be given"):
        await Network.at("https://icp0.io.example.com")


async def test_nothing_that_listens_is_told_from_something_else_that_listens(serve) -> None:
    async def hello(_request):
        return web.Response(text="hello")

    with pytest.raises(TransportError, match="status"):
        await Network.at(await serve(web.get("/{any:.*}", hello)))
    async with Replica() as gone:
        url = gone.url
    with pytest.raises(NotSentError):
        await Network.at(url)


# --- Canisters are routed as the network wants ---------------------------------------------------


async def test_new_canisters_are_routed_by_the_id_that_the_topology_tells(replica, serve) -> None:
    # The embedded replica behind a gateway that tells a topology, as PocketIC's does.
    wanted = Principal.from_text("bkyz2-fmaaa-aaaaa-qaaaq-cai")
    paths = []

    async def topology(_request):
        told = base64.b64encode(wanted.raw).decode()
        return web.json_response({"default_effective_canister_id": {"canister_id": told}})

    async def forward(request):
        paths.append(request.path)
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                replica.url + request.path_qs,
                data=await request.read(),
                headers={"Content-Type": "application/cbor"},
            ) as answer,
        ):
            return web.Response(
                status=answer.status,
                body=await answer.read(),
                content_type=answer.content_type,
            )

    url = await serve(web.get("/_/topology", topology), web.route("*", "/{any:.*}", forward))
    network = await Network.at(url)
    assert network.effective_canister_id == wanted
    assert await serves_canisters(network)
    assert any(f"/canister/{wanted}/call" in path for path in paths)
    assert not any("/canister/aaaaa-aa/" in path for path in paths)


@pytest.mark.parametrize(
    "told",
    [
        "no JSON",
        "[]",
        '{"default_effective_canister_id": null}',
        '{"default_effective_canister_id": {"canister_id": "%"}}',
        json.dumps({"default_effective_canister_id": {"canister_id": "AAAA" * 20}}),
    ],
)
async def test_a_topology_that_makes_no_sense_is_as_none(serve, told) -> None:
    async def topology(_request):
        return web.Response(text=told)

    assert (
        await default_effective_canister_id(await serve(web.get("/_/topology", topology))) is None
    )


# --- dfx ----------------------------------------------------------------------------------------


async def test_dfx_networks_come_from_the_project_before_the_shared_file(
    replica, home, tmp_path
) -> None:
    bind = replica.url.removeprefix("http://")
    project = tmp_path / "project"
    inside = project / "src" / "deep"
    inside.mkdir(parents=True)
    shared = {"local": {"bind": "127.0.0.1:9"}, "other": {"providers": [replica.url]}}
    write_json(home / ".config" / "dfx" / "networks.json", shared)
    write_json(project / "dfx.json", {"networks": {"local": {"bind": bind}}})
    assert (await Network.dfx(inside)).root_key == replica.root_key
    assert (await Network.dfx(inside, "other")).url == replica.url
    with pytest.raises(UsageError, match=r"no network 'third'.*dfx\.json.*networks\.json"):
        await Network.dfx(inside, "third")
    async with open_network("dfx", folder=inside) as network:
        assert await serves_canisters(network)


async def test_dfx_that_runs_tells_its_port_where_no_file_does(
    replica, home, tmp_path, program
) -> None:
    asked = program("dfx", replica.url.rsplit(":", 1)[1] + "\n")
    assert (await Network.dfx(tmp_path)).url == replica.url
    assert asked() == ["info", "webserver-port"]
    write_json(tmp_path / "dfx.json", {"networks": {"local": {"bind": "127.0.0.1:0"}}})
    assert (await Network.dfx(tmp_path)).url == replica.url


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "no JSON object"),
        ('{"networks": {"local": {}, "x": {}}}', "neither providers nor a bind address"),
        ('{"networks": {"x": 5}}', "neither providers nor a bind address"),
    ],
)
async def test_a_dfx_file_that_makes_no_sense_is_named(home, tmp_path, content, said) -> None:
    (tmp_path / "dfx.json").write_text(content)
    with pytest.raises(UsageError, match=rf"dfx\.json.*{said}|{said}"):
        await Network.dfx(tmp_path, "x")


# --- icp-cli ------------------------------------------------------------------------------------


async def test_icp_tells_where_its_networks_are(replica, tmp_path, program) -> None:
    told = {
        "managed": True,
        "api_url": replica.url + "/",
        "gateway_url": replica.url + "/",
        "root_key": replica.root_key.hex(),
    }
    asked = program("icp", json.dumps(told))
    network = await Network.icp_cli(tmp_path, "mine")
    assert (network.url, network.root_key) == (replica.url, replica.root_key)
    assert asked() == ["network", "status", "mine", "--json"]
    (tmp_path / "icp.yaml").write_text("")
    async with open_network("local", folder=tmp_path) as local:
        assert await serves_canisters(local)
    assert asked() == ["network", "status", "local", "--json"]


async def test_icp_that_knows_no_network_gives_its_reason(tmp_path, program) -> None:
    program("icp", "Hint\nError: unable to access network 'local', is it running?\nmore", code=1)
    with pytest.raises(UsageError, match=r"is it running\?.*icp network start"):
        await Network.icp_cli(tmp_path)
    program("icp", "{}")
    with pytest.raises(UsageError, match="api_url"):
        await Network.icp_cli(tmp_path)


async def test_without_icp_the_user_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="icp is not on the PATH"):
        await Network.icp_cli(tmp_path)


async def test_the_real_icp_command_tells_a_connected_network(
    replica, tmp_path, monkeypatch
) -> None:
    # `make test` sets it up, by the lock file of tests/clients.
    ours = ROOT / "build/clients/node/node_modules/@icp-sdk/icp-cli-linux-x64/bin"
    monkeypatch.setenv("PATH", os.pathsep.join([str(ours), os.environ["PATH"]]))
    monkeypatch.setenv("HOME", str(tmp_path))
    if shutil.which("icp") is None:
        pytest.skip("the command icp is not here: make clients")
    (tmp_path / "icp.yaml").write_text(
        f"networks:\n  - name: mine\n    mode: connected\n    url: {replica.url}\n"
        f"    root-key: {replica.root_key.hex()}\n"
    )
    network = await Network.icp_cli(tmp_path, "mine")
    assert network.root_key == replica.root_key
    assert await serves_canisters(network)


async def test_a_canister_is_deployed_on_a_running_dfx_network() -> None:
    if shutil.which("dfx") is None:
        pytest.skip("the command dfx is not here")
    assert await serves_canisters(await Network.dfx())


# --- PocketIC -----------------------------------------------------------------------------------


class PocketIc:
    """The documented part of a PocketIC server, with the embedded replica as its one instance."""

    def __init__(self, replica, *, running=False, gateways=()) -> None:
        self.port = int(replica.url.rsplit(":", 1)[1])
        self.running = running
        self.busy = 2
        self.gateways = list(gateways)

    def routes(self):
        return [
            web.post("/instances/0/auto_progress", self.progress),
            web.get("/http_gateway", self.list),
            web.post("/http_gateway", self.create),
        ]

    async def progress(self, request):
        assert await request.json() == {"artificial_delay_ms": None}
        if self.running:
            text = "Auto progress mode has already been enabled."
            return web.json_response({"message": text}, status=400)
        if self.busy:
            self.busy -= 1
            return web.json_response({}, status=409)
        self.running = True
        return web.json_response(None)

    async def list(self, _request):
        return web.json_response(self.gateways)

    async def create(self, request):
        forward = (await request.json())["forward_to"]
        if forward != {"PocketIcInstance": 0}:
            return web.json_response({"Error": {"message": "no such instance"}})
        self.gateways.append({"port": self.port, "forward_to": forward, "https_config": None})
        return web.json_response({"Created": {"instance_id": 0, "port": self.port}})


async def test_an_instance_of_pocket_ic_gets_time_and_one_gateway(replica, serve) -> None:
    pocket_ic = PocketIc(replica)
    server = await serve(*pocket_ic.routes())
    for _ in range(2):
        network = await Network.pocket_ic(server)
        assert network.url == replica.url
    assert pocket_ic.running
    assert len(pocket_ic.gateways) == 1
    assert await serves_canisters(network)


async def test_a_pocket_ic_without_that_instance_is_told(replica, serve) -> None:
    server = await serve(*PocketIc(replica).routes())
    with pytest.raises(TransportError, match=r"404.*instances/7"):
        await Network.pocket_ic(server, 7)


async def test_a_canister_is_deployed_on_a_running_pocket_ic() -> None:
    server = os.environ.get("POCKET_IC_SERVER_URL")
    if server is None:
        pytest.skip("no PocketIC server is here: POCKET_IC_SERVER_URL is not set")
    assert await serves_canisters(await Network.pocket_ic(server))


# --- By one word --------------------------------------------------------------------------------


async def test_a_word_chooses_a_network(replica) -> None:
    async with open_network(replica.url) as network:
        assert network.root_key == replica.root_key
    async with open_network(replica.url, replica.root_key) as network:
        assert network.root_key == replica.root_key
    async with open_network("ic") as network:
        assert network.root_key is None
    async with open_network("embedded", admin=True) as network:
        assert network.admin is not None


async def test_a_word_that_is_no_network_names_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"'remote'.*embedded, local, dfx, icp, ic, or a URL"):
        async with open_network("remote"):
            pass
    with pytest.raises(UsageError, match="has its own root key"):
        async with open_network("embedded", bytes(133)):
            pass


def test_a_root_key_is_hexadecimal_or_a_file(tmp_path) -> None:
    file = tmp_path / "key"
    assert parse_root_key(MAINNET_ROOT_KEY.hex()) == MAINNET_ROOT_KEY
    file.write_bytes(MAINNET_ROOT_KEY)
    assert parse_root_key(str(file)) == MAINNET_ROOT_KEY
    file.write_text(MAINNET_ROOT_KEY.hex() + "\n")
    assert parse_root_key(str(file)) == MAINNET_ROOT_KEY
    for wrong in ("", "abc", "ab" * 132, str(tmp_path / "absent")):
        with pytest.raises(UsageError, match="266 hexadecimal digits"):
            parse_root_key(wrong)
