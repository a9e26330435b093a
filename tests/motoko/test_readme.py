"""What the README shows compiles with the pinned compiler, and does what is said of it."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from canister_world import PATIENCE

from bridge import candid
from bridge.network import create_canister, install_code
from bridge.principal import Principal
from bridge.reference.contract import install_types

MOTOKO = Path(__file__).resolve().parents[2] / "motoko_reference"
NO_ARGUMENT = b"DIDL\0\0"


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The examples as Wasm, by name; a warning of the compiler is an error."""
    if shutil.which("node") is None or not (MOTOKO / "node_modules" / "motoko").is_dir():
        pytest.skip("needs the Motoko compiler, which make canisters-check installs")
    folder = tmp_path_factory.mktemp("readme")
    command = ["node", "--stack-size=4000", "build.mjs", "--readme", str(folder)]
    subprocess.run(command, cwd=MOTOKO, check=True, capture_output=True, text=True)
    return {file.stem: file.read_bytes() for file in folder.glob("*.wasm")}


async def called(world, canister_id, name, *values):
    """A method of an example, by the interface in its metadata."""
    text = await world.agent.metadata(canister_id, "candid:service")
    method = candid.parse_did(text.decode()).service.methods[name]
    ask = world.agent.query if "query" in method.modes else world.agent.update
    reply = await ask(canister_id, name, candid.encode(method.args, list(values)))
    return candid.decode(method.results, reply)


@pytest.mark.slow
async def test_the_example_answers_each_request_once_also_after_an_upgrade(world, examples):
    a = await world.deploy("player")
    shown = await create_canister(world.agent)
    await install_code(world.agent, shown, examples["answers"], NO_ARGUMENT)
    for msg_id in (1, 2):
        await a.open(shown, msg_id, b"request")
        await a.until(msg_id, "acknowledged")
        await install_code(world.agent, shown, examples["answers"], NO_ARGUMENT, mode="upgrade")
    told = (await a.call("heard"))["told"]
    assert [(t["msg_id"], t["response"]) for t in told] == [(1, b"request"), (2, b"request")]


@pytest.mark.slow
async def test_the_example_that_asks_hears_how_each_flow_ends(world, examples):
    shown, echo = [await create_canister(world.agent) for _ in range(2)]
    await install_code(world.agent, shown, examples["asks"], NO_ARGUMENT)
    await install_code(world.agent, echo, examples["answers"], NO_ARGUMENT)
    ((opened,), (refused,)) = [
        await called(world, shown, "ask", peer, b"request")
        for peer in (echo, Principal.anonymous())
    ]
    assert (opened.label, refused.label) == ("ok", "err")
    answers, failures = await called(world, shown, "latest")
    for _ in range(PATIENCE):
        if answers:
            break
        await asyncio.sleep(0.02)
        answers, failures = await called(world, shown, "latest")
    assert answers == [(opened.value, b"request")]
    assert failures == []


@pytest.mark.slow
async def test_the_install_argument_that_is_shown_lets_an_agent_in(world, examples):
    (shown,) = re.findall(r"`(\(opt record .*?\))`", (MOTOKO / "README.md").read_text("utf-8"))
    types = install_types("settings")
    text = shown.replace("…", str(world.agent.principal))
    echo = await create_canister(world.agent)
    argument = candid.encode(types, candid.parse_values(text, types))
    await install_code(world.agent, echo, examples["answers"], argument)
    page = {"after": None, "limit": 1}
    assert await called(world, echo, "asyncFlow_outbox", page) == [[]]
