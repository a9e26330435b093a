"""What the README shows compiles with the pinned compiler, and does what is said of it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.network import create_canister, install_code

MOTOKO = Path(__file__).resolve().parents[2] / "motoko_reference"
NO_ARGUMENT = b"DIDL\0\0"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example as Wasm; a warning of the compiler is an error."""
    if shutil.which("node") is None or not (MOTOKO / "node_modules" / "motoko").is_dir():
        pytest.skip("needs the Motoko compiler, which make canisters-check installs")
    file = tmp_path_factory.mktemp("readme") / "readme.wasm"
    command = ["node", "--stack-size=4000", "build.mjs", "--readme", str(file)]
    subprocess.run(command, cwd=MOTOKO, check=True, capture_output=True, text=True)
    return file.read_bytes()


@pytest.mark.slow
async def test_the_example_answers_each_request_once_also_after_an_upgrade(world, example):
    a = await world.deploy("player")
    shown = await create_canister(world.agent)
    await install_code(world.agent, shown, example, NO_ARGUMENT)
    for msg_id in (1, 2):
        await a.open(shown, msg_id, b"request")
        await a.until(msg_id, "acknowledged")
        await install_code(world.agent, shown, example, NO_ARGUMENT, mode="upgrade")
    told = (await a.call("heard"))["told"]
    assert [(t["msg_id"], t["response"]) for t in told] == [(1, b"request"), (2, b"request")]
