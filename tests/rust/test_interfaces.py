"""The built canisters: their interfaces keep the contracts, their bytes are the listed ones."""

from pathlib import Path

import pytest

from bridge import candid, contracts
from bridge.network import metadata
from bridge.reference.contract import contract_interface

RUST = Path(__file__).resolve().parents[2] / "rust_reference"
COMMON = ["unified", "outbox", "watch", "batch"]

CANISTERS = {
    "sender": (COMMON, ["send", "outcome"]),
    "receiver": (COMMON, ["handled"]),
    "echo": (COMMON, ["handled"]),
    "both": (COMMON, ["send", "outcome", "handled"]),
    "both_maf": ([*COMMON, "maf"], ["send", "outcome", "handled"]),
    "both_bounty": ([*COMMON, "bounty"], ["send", "outcome", "handled"]),
    "both_positional": ([*COMMON, "positional"], ["send", "outcome", "handled"]),
    "player": (COMMON, ["handled"]),
    "player_maf": ([*COMMON, "maf"], ["handled"]),
    "player_bounty": ([*COMMON, "bounty"], ["handled"]),
    "player_positional": ([*COMMON, "positional"], ["handled"]),
    "priced": (["outbox", "watch"], ["handled"]),
    "priced_maf": (["outbox", "watch"], ["handled"]),
    "priced_bounty": (["outbox", "watch"], ["handled"]),
    "priced_positional": (["outbox", "watch"], ["handled"]),
    "broken": (["outbox", "watch"], ["send", "outcome", "handled"]),
    "mailbox": (["mailbox", "unified"], []),
    "chaos": (["chaos"], []),
}


@pytest.mark.parametrize("name", CANISTERS)
def test_each_module_carries_its_interface_and_keeps_its_contracts(name):
    wasm = contracts.rust_canister(name)
    assert b"icp:public candid:service" in wasm
    text = metadata(wasm, "candid:service")
    (file,) = (RUST / "canisters").rglob(f"{name}.did")
    assert text == file.read_bytes()
    built = candid.parse_did(text.decode())
    served, driven = CANISTERS[name]
    for one in served:
        assert candid.subtype_faults(built.service, contract_interface(one).service) == []
    reference = contract_interface("reference").service.methods
    for method in driven:
        assert candid.subtype_faults(built.service.methods[method], reference[method]) == []
    if "watch" in served:
        (taken,), (given,) = built.init_args, contract_interface("settings").init_args
        assert candid.subtype_faults(given, taken) == []


def test_every_built_canister_is_listed_and_nothing_else():
    listed = (RUST / "wasm" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    names = {line.split()[1] for line in listed}
    assert names == {file.name for file in (RUST / "wasm").glob("*.wasm")}
    assert names == {f"{name}.wasm" for name in CANISTERS}


def test_the_example_of_the_readme_is_the_one_that_is_compiled():
    readme = (RUST / "README.md").read_text(encoding="utf-8")
    shown = readme.split("```rust\n")[1].split("```")[0].strip()
    compiled = (RUST / "async_flow" / "examples" / "answer.rs").read_text(encoding="utf-8")
    assert shown in compiled
