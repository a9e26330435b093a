"""The built canisters: their interfaces keep the contracts, their bytes are the listed ones."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from bridge import candid, contracts
from bridge.network import module_interface
from bridge.reference.contract import contract_interface

MOTOKO = Path(__file__).resolve().parents[2] / "motoko_reference"
COMMON = ["unified", "outbox", "watch", "batch"]
SENDING = ["send", "outcome"]
HANDLING = ["handled"]

CANISTERS = {
    "sender": (COMMON, SENDING),
    "receiver": (COMMON, HANDLING),
    "echo": (COMMON, HANDLING),
    "both": (COMMON, SENDING + HANDLING),
    "both_maf": ([*COMMON, "maf"], SENDING + HANDLING),
    "both_bounty": ([*COMMON, "bounty"], SENDING + HANDLING),
    "both_positional": ([*COMMON, "positional"], SENDING + HANDLING),
    "player": (COMMON, HANDLING),
    "player_maf": ([*COMMON, "maf"], HANDLING),
    "player_bounty": ([*COMMON, "bounty"], HANDLING),
    "player_positional": ([*COMMON, "positional"], HANDLING),
}
PRICED = {
    "priced": "asyncFlow",
    "priced_maf": "com_asyncFlow_newMessage",
    "priced_bounty": "com_asyncFlow_newMessage",
    "priced_positional": "com_asyncFlow_newMessage",
}
FOREIGN = ["foreign_maf_sender", "foreign_maf_receiver"]


def built(name):
    return candid.parse_did((MOTOKO / "canisters" / f"{name}.did").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CANISTERS)
def test_each_canister_is_a_subtype_of_its_contracts(name):
    served, driven = CANISTERS[name]
    service = built(name).service
    for dialect in served:
        assert candid.subtype_faults(service, contract_interface(dialect).service) == []
    reference = contract_interface("reference").service.methods
    for method in driven:
        assert candid.subtype_faults(service.methods[method], reference[method]) == []


@pytest.mark.parametrize("name", [*CANISTERS, *PRICED])
def test_each_canister_takes_the_install_argument_of_the_contract(name):
    settings = contract_interface("settings")
    (taken,), (given,) = built(name).init_args, settings.init_args
    assert candid.subtype_faults(given, taken) == []
    assert candid.subtype_faults(built(name).service, settings.service) == []


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("foreign_maf_sender", ["com_asyncFlow_ack"]),
        ("foreign_maf_receiver", ["com_asyncFlow_newMessage", "com_asyncFlow_fin"]),
    ],
)
def test_the_foreign_pair_speaks_maf_and_nothing_else_of_ours(name, methods):
    served, maf = built(name).service.methods, contract_interface("maf").service.methods
    for method in methods:
        assert candid.subtype_faults(served[method], maf[method]) == []
    assert [method for method in served if "asyncFlow" in method] == sorted(methods)


@pytest.mark.parametrize("name", PRICED)
def test_a_priced_canister_declares_no_one_way_new(name):
    methods = built(name).service.methods
    for method in ("asyncFlow", "asyncFlow_batch", PRICED[name]):
        assert "oneway" not in methods[method].modes


@pytest.mark.parametrize("name", PRICED)
def test_a_priced_canister_differs_from_its_contracts_in_no_more_than_one_way_methods(name):
    """Not even in those: a caller that declares them one-way may call them all the same."""
    _, _, dialect = name.partition("_")
    methods = built(name).service.methods
    for contracted in filter(None, ("unified", dialect)):
        for method, wanted in contract_interface(contracted).service.methods.items():
            served = methods[method]
            assert (
                candid.subtype_faults(
                    candid.Func(served.args, served.results),
                    candid.Func(wanted.args, wanted.results),
                )
                == []
            )


@pytest.mark.parametrize("name", [*CANISTERS, *PRICED, "tables", *FOREIGN])
def test_the_interface_file_is_the_one_in_the_module(name):
    wasm = contracts.motoko_canister(name)
    assert b"icp:public candid:service" in wasm
    inside = module_interface(wasm)
    assert candid.upgrade_faults(inside, built(name)) == []
    assert candid.upgrade_faults(built(name), inside) == []


def test_every_built_module_is_listed_and_every_listed_one_is_there():
    sums = (MOTOKO / "wasm" / "SHA256SUMS").read_text(encoding="utf-8").split()
    listed = dict(zip(sums[1::2], sums[::2], strict=True))
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (MOTOKO / "wasm").glob("*.wasm")
    }
    assert listed == found


def test_the_package_is_what_the_registry_of_motoko_packages_takes():
    package = tomllib.loads((MOTOKO / "mops.toml").read_text(encoding="utf-8"))
    about, words = package["package"], re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
    assert words.fullmatch(about["name"])
    assert all(words.fullmatch(word) and len(word) <= 20 for word in about["keywords"])
    assert len(about["keywords"]) <= 10
    assert len(about["description"]) <= 200
    watch = (MOTOKO / "src" / "Watch.mo").read_text(encoding="utf-8")
    assert f'version = "{about["version"]}"' in watch
    readme = (MOTOKO / about["readme"]).read_text(encoding="utf-8")
    assert f'import AsyncFlow "mo:{about["name"]}";' in readme


def test_an_application_adds_the_library_in_under_twenty_lines():
    text = (MOTOKO / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```motoko\n(import AsyncFlow .*?)```", text, re.DOTALL)
    assert len(example.splitlines()) < 20
