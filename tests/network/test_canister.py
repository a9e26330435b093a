"""Canisters called by their interface, and what modules say of themselves."""

import copy
import gzip

import pytest

from bridge import candid, contracts
from bridge.agent import Identity
from bridge.errors import CallRejectedError, CandidError, UsageError
from bridge.network import (
    Canister,
    Network,
    encode_arguments,
    install_code,
    metadata,
    module_interface,
)
from bridge.principal import Principal
from bridge.reference import install_argument
from bridge.replica import Replica

MAILBOX = contracts.rust_canister("mailbox")
EMPTY_MODULE = b"\0asm\1\0\0\0"


def number(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + number(value >> 7)


def custom(name: str, content: bytes) -> bytes:
    """A custom section."""
    body = number(len(name)) + name.encode() + content
    return b"\0" + number(len(body)) + body


@pytest.fixture
async def network():
    async with Replica(seed="canister") as replica:
        yield Network(replica.url, replica.root_key)


@pytest.fixture
async def agent(network):
    async with network.agent(Identity.from_seed(bytes(32))) as agent:
        yield agent


@pytest.fixture
async def mailbox(network, agent):
    interface = module_interface(MAILBOX)
    arg = encode_arguments(interface.init_args, [{"owner": agent.principal}])
    return Canister(agent, await network.deploy(agent, MAILBOX, arg), interface)


async def test_a_canister_is_called_by_its_methods_names(mailbox) -> None:
    status = await mailbox.mailbox_status()
    assert status["waiting"] == 0
    assert await mailbox.mailbox_status(update=True) == status
    assert "mailbox_status" in dir(mailbox)
    assert str(mailbox.id) in repr(mailbox)


async def test_a_one_way_method_gives_nothing(mailbox) -> None:
    message = candid.Case("NEW", {"msg_id": 1, "payload": b"x"})
    assert await mailbox.asyncFlow(message) is None


async def test_an_installed_canister_tells_its_interface(mailbox, network, agent) -> None:
    found = await Canister.at(agent, str(mailbox.id))
    assert (await found.mailbox_status())["waiting"] == 0
    async with network.agent(Identity.generate()) as other:
        assert found.as_agent(other).agent is other
        with pytest.raises(CallRejectedError, match="only the owner"):
            await found.as_agent(other).mailbox_status()
    nobody = await network.create(agent)
    with pytest.raises(UsageError, match=f"there is no canister {nobody} with a module"):
        await Canister.at(agent, nobody)
    silent = await network.deploy(agent, EMPTY_MODULE)
    with pytest.raises(UsageError, match=r"tells no interface.*\.did file"):
        await Canister.at(agent, silent)
    given = await Canister.at(agent, mailbox.id, candid.parse_did("service : { f : () -> () }"))
    with pytest.raises(CallRejectedError, match="f"):
        await given.f()


async def test_a_method_that_is_not_there_names_those_that_are(mailbox) -> None:
    with pytest.raises(AttributeError, match=r"no method 'status'.*mailbox_status"):
        _ = mailbox.status
    with pytest.raises(UsageError, match=r"no method 'status'.*mailbox_status"):
        await mailbox.call("status")
    assert not hasattr(mailbox, "__nothing__")
    assert copy.copy(mailbox).id == mailbox.id
    bare = candid.parse_did("type T = nat;")
    with pytest.raises(UsageError, match="no service"):
        Canister(mailbox.agent, mailbox.id, bare)


async def test_several_results_are_a_tuple(agent) -> None:
    class Asked:
        async def query(self, _canister, _method, arg):
            assert arg == candid.encode([candid.Nat, candid.Opt(candid.Text)], [1, None])
            return candid.encode([candid.Nat, candid.Text], [2, "two"])

    interface = candid.parse_did("service : { f : (nat, opt text) -> (nat, text) query }")
    canister = Canister(Asked(), Principal.management(), interface)
    assert await canister.f(1) == (2, "two")
    with pytest.raises(CandidError, match="expected 2 arguments, not 0"):
        await canister.f()


def test_trailing_arguments_that_may_be_null_may_be_left_out() -> None:
    types = [candid.Nat, candid.Opt(candid.Text), candid.Null, candid.Reserved]
    assert encode_arguments(types, [1]) == candid.encode(types, [1, None, None, None])
    with pytest.raises(CandidError, match="expected 4 arguments, not 5"):
        encode_arguments(types, [1, None, None, None, None])


# --- What a module says -------------------------------------------------------------------------


def test_a_motoko_module_tells_its_interface_with_the_install_argument() -> None:
    interface = module_interface(contracts.motoko_canister("echo"))
    assert "asyncFlow_status" in interface.service.methods
    given = encode_arguments(interface.init_args, [])
    assert given == encode_arguments(interface.init_args, [None])
    access = install_argument({}, agents=[])
    candid.decode(list(interface.init_args), access)  # the contract's argument is taken


def test_a_gzipped_module_tells_the_same() -> None:
    packed = gzip.compress(MAILBOX)
    assert metadata(packed, "candid:service") == metadata(MAILBOX, "candid:service")
    assert metadata(packed, "nothing") is None


def test_a_module_without_metadata_tells_nothing() -> None:
    assert module_interface(EMPTY_MODULE) is None
    assert metadata(EMPTY_MODULE + custom("name", b"x"), "name") is None
    assert metadata(EMPTY_MODULE + custom("icp:private note", b"x"), "note") == b"x"


def test_install_arguments_of_unknown_types_leave_the_methods_known() -> None:
    wasm = EMPTY_MODULE + custom("icp:public candid:service", b"service : { f : () -> () }")
    plain = module_interface(wasm + custom("icp:private candid:args", b"(opt nat)"))
    assert plain.init_args == (candid.Opt(candid.Nat),)
    unknown = module_interface(wasm + custom("icp:private candid:args", b"(Settings)"))
    assert unknown.init_args is None
    assert list(unknown.service.methods) == ["f"]


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        (b"\x7fELF", "begin like WebAssembly"),
        (b"\x1f\x8bnonsense", "does not unpack"),
        (gzip.compress(b"\x7fELF"), "begin like WebAssembly"),
        (EMPTY_MODULE + custom("icp:public x", b"long content")[:-3], "cut off"),
        (EMPTY_MODULE + b"\0\xff\xff\xff\xff\xff\xff", "cut off or damaged"),
        (EMPTY_MODULE + b"\0", "cut off or damaged"),
    ],
    ids=["another format", "no gzip", "another format packed", "cut in a section", "size", "end"],
)
def test_what_is_no_module_is_told(wasm, said) -> None:
    with pytest.raises(UsageError, match=said):
        metadata(wasm, "x")


# --- Large modules ------------------------------------------------------------------------------


@pytest.mark.covers("install from chunks", client="bridge")
async def test_a_module_too_large_for_one_message_is_installed_in_chunks(network, agent) -> None:
    padding = custom("padding", bytes(3 * 1024 * 1024))
    large = MAILBOX + padding
    interface = module_interface(large)
    arg = encode_arguments(interface.init_args, [{"owner": agent.principal}])
    mailbox = Canister(agent, await network.deploy(agent, large, arg), interface)
    assert (await mailbox.mailbox_status())["waiting"] == 0
    await network.deploy(agent, large + padding, arg, canister_id=mailbox.id, mode="upgrade")
    assert (await mailbox.mailbox_status())["waiting"] == 0
    with pytest.raises(CallRejectedError):
        await install_code(agent, mailbox.id, large + padding, arg)  # it has a module already
