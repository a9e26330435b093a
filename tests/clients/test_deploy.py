"""``icp deploy`` of this project's own ``icp.yaml``, canisters of both languages."""

import asyncio
import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from bridge.agent import Identity
from bridge.network import Network
from bridge.principal import Principal
from bridge.wire import leb128

PROJECT = Path(__file__).resolve().parents[2]
NETWORK = """
networks:
  - name: local
    mode: connected
    url: {url}
    root-key: {key}
"""
AGENTS = """(record {{ access = opt record {{
  agents = vec {{ principal "{agent}" }}; monitors = vec {{}}; canisters = null }} }})"""
NEW = '(variant { NEW = record { msg_id = 7; payload = blob "hello" } })'


@pytest.fixture
def project(icp, replica):
    """The project as it is, with the replica as the local network."""
    folder = icp.home / "project"
    folder.mkdir()
    text = (PROJECT / "icp.yaml").read_text(encoding="utf-8")
    assert "\nnetworks:" not in text
    more = NETWORK.format(url=replica.url, key=replica.root_key.hex())
    (folder / "icp.yaml").write_text(text + more, encoding="utf-8")
    for language in ("motoko_reference", "rust_reference"):
        shutil.copytree(PROJECT / language / "wasm", folder / language / "wasm")
    return folder


def modules(project, language):
    """What icp.yaml deploys of a language: name -> SHA-256 of the module."""
    text = (project / "icp.yaml").read_text(encoding="utf-8")
    found = re.findall(r"- name: (\w+)\n.*?path: (\S+)", text, re.DOTALL)
    return {
        name: hashlib.sha256((project / path).read_bytes()).hexdigest()
        for name, path in found
        if path.startswith(language)
    }


def installed_at(replica, canister):
    """When code was last installed, in nanoseconds since 1970, as the state tree certifies."""
    name = Principal.from_text(canister)
    path = (b"canister", name.raw, b"last_install_timestamp")

    async def read():
        async with Network(replica.url, replica.root_key).agent(Identity.anonymous()) as agent:
            return await agent.read_state(name, [path])

    return leb128.decode(asyncio.run(read()).value(path))


@pytest.mark.slow
@pytest.mark.parametrize(("language", "witness"), [("motoko", "echo"), ("rust", "rust_echo")])
@pytest.mark.covers("deploy, then upgrade", client="icp")
@pytest.mark.covers("install, upgrade, reinstall", client="icp")
def test_deploys_every_canister_of_the_project_and_upgrades_it_with_its_state(
    icp, project, replica, language, witness
):
    expected = modules(project, language)
    assert len(expected) >= 9

    def deploy():
        icp("deploy", *expected, "-e", language, "--yes", cwd=project)

    def call(canister, method, argument):
        return icp("canister", "call", canister, method, argument, "-e", language, cwd=project)

    def handled():
        flow = f'(record {{ msg_id = 7; sender = principal "{icp.principal}" }})'
        return call(witness, "handled", flow).split()[0].strip("(")

    def found(field):
        shown = icp("canister", "status", "--json", "-e", language, cwd=project)
        lines = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
        return {one["name"]: one[field].removeprefix("0x") for one in lines}

    deploy()
    assert found("module_hash") == expected
    ids = found("id")
    assert "ok" in call(witness, "asyncFlow_configure", AGENTS.format(agent=icp.principal))
    call(witness, "asyncFlow", NEW)
    assert handled() == "1"
    before = {name: installed_at(replica, canister) for name, canister in ids.items()}

    deploy()
    assert found("module_hash") == expected
    assert found("id") == ids
    assert handled() == "1"
    for name, canister in ids.items():
        assert installed_at(replica, canister) > before[name], name
