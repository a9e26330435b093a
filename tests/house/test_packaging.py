"""What an import costs, what is packaged, and what must never be imported."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bridge import __version__, candid, contracts
from bridge.errors import UsageError

PROJECT = Path(__file__).resolve().parents[2]


def test_import_bridge_is_light() -> None:
    heavy = ["aiohttp", "cryptography", "wasmtime", "ulid", "cbor2", "pyblst", "click", "rich"]
    heavy += ["prometheus_client"]
    heavy += ["psycopg"]
    program = f"import bridge, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_of_bridge_arrives_on_first_use() -> None:
    import bridge

    assert bridge.__all__
    for name in bridge.__all__:
        assert getattr(bridge, name) is not None
    assert set(bridge.__all__) <= set(dir(bridge))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = bridge.nonsense


def test_nobody_imports_the_contracts_folder_as_a_module() -> None:
    for file in [*PROJECT.glob("bridge/**/*.py"), *PROJECT.glob("tests/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert "candid" not in {alias.name.split(".")[0] for alias in node.names}, file
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] != "candid", file


@pytest.mark.parametrize("file", sorted(PROJECT.glob("candid/*.did")), ids=lambda file: file.stem)
def test_every_contract_is_a_valid_interface(file: Path) -> None:
    text = contracts.interface(file.stem)
    interface = candid.parse_did(text, loader=lambda name: contracts.interface(name[:-4]))
    assert interface.service is not None
    assert interface.service.methods


def test_an_unknown_contract_or_canister_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'nonsense' \(choose one of .*unified"):
        contracts.interface("nonsense")
    with pytest.raises(UsageError, match=r"'nonsense' \(choose one of .*receiver"):
        contracts.motoko_canister("nonsense")


NOT_TO_DEPLOY = {
    f"motoko_reference/wasm/{name}.wasm"
    # The vectors' own; and those that stand on a replica from the beginning.
    for name in ("tables", "cycles_ledger", "cycles_minting", "icp_ledger")
}


def test_deployment_files_name_every_built_canister_and_no_file_that_is_not_there() -> None:
    built = {
        f"{sums.parent.relative_to(PROJECT)}/{line.split()[1]}"
        for sums in PROJECT.glob("*_reference/wasm/SHA256SUMS")
        for line in sums.read_text(encoding="utf-8").splitlines()
    } - NOT_TO_DEPLOY
    canisters = json.loads((PROJECT / "dfx.json").read_text(encoding="utf-8"))["canisters"]
    assert {entry["wasm"] for entry in canisters.values()} == built
    icp = (PROJECT / "icp.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"path: (\S+)", icp)) == built
    named = re.findall(r"^  - name: (\w+)\n    build", icp, re.MULTILINE)
    in_environments = re.findall(r"^      - (\w+)$", icp, re.MULTILINE)
    assert sorted(in_environments) == sorted(named)
    for path in built | {entry["candid"] for entry in canisters.values()}:
        assert (PROJECT / path).is_file(), path


def test_every_package_has_the_licence_and_the_version() -> None:
    licence = (PROJECT / "LICENSE").read_bytes()
    crates = tomllib.loads((PROJECT / "rust_reference/Cargo.toml").read_text(encoding="utf-8"))
    mops = tomllib.loads((PROJECT / "motoko_reference/mops.toml").read_text(encoding="utf-8"))
    for package in (crates["workspace"]["package"], mops["package"]):
        assert (package["license"], package["version"]) == ("Apache-2.0", __version__)
    for folder in ("motoko_reference", "rust_reference/async_flow"):
        assert (PROJECT / folder / "LICENSE").read_bytes() == licence


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_what_a_page_for_contributors_names_is_there(page: str) -> None:
    text = (PROJECT / page).read_text(encoding="utf-8")
    makefiles = "".join(
        file.read_text(encoding="utf-8")
        for file in [PROJECT / "Makefile", *PROJECT.glob("make/*.mk")]
    )
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert re.search(rf"^{target}:", makefiles, re.MULTILINE), target
    paths = re.findall(
        r"`((?:bridge|candid|docs|make|tests|motoko_reference|rust_reference)/[^`<>\s]*)`", text
    )
    paths += re.findall(r"\]\(((?!http)[^)#]+)", text)
    for path in paths:
        assert (PROJECT / path).exists(), path
    for heading in re.findall(r"\.md#([a-z-]+)\)", text):
        contributing = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8").lower()
        assert f"## {heading.replace('-', ' ')}" in contributing
