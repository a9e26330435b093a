"""A stranger's canister is installed, upgraded and asked by its entry alone."""

import gzip
from pathlib import Path

import pytest
import wasmtime

from bridge import contracts
from bridge.conformance import entries
from bridge.conformance.canister import CanisterEnd
from bridge.conformance.place import Place
from bridge.conformance.world import World
from bridge.errors import BridgeError

# Traps where it is given no argument: one of six bytes is none.
NEEDS_ITS_ARGUMENT = """(module
  (import "ic0" "msg_arg_data_size" (func $size (result i32)))
  (func $check (if (i32.eq (call $size) (i32.const 6)) (then unreachable)))
  (func (export "canister_init") (call $check))
  (func (export "canister_post_upgrade") (call $check))
  (func (export "canister_update asyncFlow")))"""
SPEAKS_ODDLY = """(module
  (@custom "icp:public candid:service" "no Candid at all {")
  (func (export "canister_update asyncFlow")))"""


@pytest.fixture
async def world():
    async with World.enter(Place()) as world:
        yield world


@pytest.fixture
def theirs(tmp_path):
    """The entry of a module in text or bytes."""

    def entry(module, **given):
        file = tmp_path / "theirs.wasm"
        file.write_bytes(module if isinstance(module, bytes) else bytes(wasmtime.wat2wasm(module)))
        raw = {"name": "theirs", "role": "receiver", "dialects": ["unified"], "wasm": str(file)}
        return entries.from_mapping(raw | given, place=Path(), called="theirs")

    return entry


async def deployed(world, entry, dialect="unified", role="receiver"):
    return await CanisterEnd.deploy(world, entry, dialect, role, {}, [])


async def test_it_is_upgraded_with_the_argument_with_which_it_was_installed(world, theirs):
    end = await deployed(world, theirs(NEEDS_ITS_ARGUMENT, install='("mine")'))
    await end.upgrade()
    with pytest.raises(BridgeError):
        await deployed(world, theirs(NEEDS_ITS_ARGUMENT))


async def test_what_is_asked_nothing_may_publish_anything(world, theirs):
    end = await deployed(world, theirs(SPEAKS_ODDLY))
    assert end.methods == {}
    with pytest.raises(BridgeError):
        await deployed(world, theirs(SPEAKS_ODDLY, asked="watch", install="()"))


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
async def test_methods_that_are_not_published_may_be_there(world, theirs, packed):
    module = packed(contracts.rust_canister("both_positional"))
    end = await deployed(
        world, theirs(module, install="(null)", dialects=["positional"]), "positional"
    )
    assert end.methods == {}
    wrong = packed(contracts.rust_canister("receiver"))
    with pytest.raises(BridgeError, match="publishes no method com_asyncFlow_newMessage"):
        await deployed(world, theirs(wrong, install="(null)", dialects=["maf"]), "maf")
