"""What an import costs, what is packaged, and what must never be imported."""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bridge import __version__, candid, contracts
from bridge.errors import UsageError

PROJECT = Path(__file__).resolve().parents[2]


def test_import_bridge_is_light() -> None:
    heavy = ["aiohttp", "cryptography", "wasmtime", "ulid", "cbor2", "pyblst", "click", "rich"]
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
    for path in built | {entry["candid"] for entry in canisters.values()}:
        assert (PROJECT / path).is_file(), path


USE = """
import asyncio, sys
import bridge
from bridge import MemoryStore, SQLiteStore, contracts

async def main():
    async with SQLiteStore("flows.db") as store:
        assert await store.next_due() is None

asyncio.run(main())
assert "asyncFlow" in contracts.interface("unified")
assert contracts.motoko_canister("receiver").startswith(b"\\0asm")
print(bridge.__file__)
"""


def test_the_wheel_holds_all_that_the_package_needs(tmp_path: Path) -> None:
    wheels, installed = tmp_path / "wheels", tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert {path.name for path in installed.iterdir()} == {
        "bridge",
        f"ic_bridge-{__version__}.dist-info",
    }
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(installed / "bridge" / "__init__.py")
