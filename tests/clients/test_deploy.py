"""``icp deploy`` of this project's own ``icp.yaml``, canisters of both languages."""

import asyncio
import hashlib
import json
import re
from pathlib import Path

import pytest

from bridge.agent import Identity
from bridge.network import Network
from bridge.principal import Principal
from bridge.wire import leb128

PROJECT = Path(__file__).resolve().parents[2]
NETWORK = """
networks:
  - name: embedded
    mode: connected
    url: {url}
    root-key: {key}
environments:
  - name: embedded
    network: embedded
    init_args:
      mailbox: '(opt record {{ owner = opt principal "{owner}" }})'
"""
AGENTS = """(record {{ access = opt record {{
  agents = vec {{ principal "{agent}" }}; monitors = vec {{}}; canisters = null }} }})"""
NEW = '(variant { NEW = record { msg_id = 7; payload = blob "hello" } })'


@pytest.fixture
def project(icp, replica):
    """The project as it is, with the replica as one more network."""
    folder = icp.home / "project"
    folder.mkdir()
    text = (PROJECT / "icp.yaml").read_text(encoding="utf-8")
    assert "\nnetworks:" not in text
    more = NETWORK.format(url=replica.url, key=replica.root_key.hex(), owner=icp.principal)
    (folder / "icp.yaml").write_text(text + more, encoding="utf-8")
    for language in ("motoko_reference", "rust_reference"):
        (folder / language).symlink_to(PROJECT / language)
    return folder


def hashes():
    """What icp.yaml deploys: name -> SHA-256 of the module."""
    text = (PROJECT / "icp.yaml").read_text(encoding="utf-8")
    found = re.findall(r"- name: (\w+)\n.*?path: (\S+)", text, re.DOTALL)
    return {name: hashlib.sha256((PROJECT / path).read_bytes()).hexdigest() for name, path in found}


def installed_at(replica, canister):
    """When code was last installed, in nanoseconds since 1970, as the state tree certifies."""
    name = Principal.from_text(canister)
    path = (b"canister", name.raw, b"last_install_timestamp")

    async def read():
        async with Network(replica.url, replica.root_key).agent(Identity.anonymous()) as agent:
            return await agent.read_state(name, [path])

    return leb128.decode(asyncio.run(read()).value(path))


@pytest.mark.slow
@pytest.mark.timeout(400)  # the first run on a machine compiles every module
@pytest.mark.covers("deploy, then upgrade", client="icp")
@pytest.mark.covers("install, upgrade, reinstall", client="icp")
def test_deploys_every_canister_of_the_project_and_upgrades_it_with_its_state(
    icp, project, replica
):
    def call(canister, method, argument):
        return icp("canister", "call", canister, method, argument, "-e", "embedded", cwd=project)

    def statuses():
        shown = icp("canister", "status", "--json", "-e", "embedded", cwd=project)
        return [json.loads(line) for line in shown.splitlines() if line.startswith("{")]

    def handled(canister):
        flow = f'(record {{ msg_id = 7; sender = principal "{icp.principal}" }})'
        return call(canister, "handled", flow).split()[0].strip("(")

    icp("deploy", "-e", "embedded", "--yes", cwd=project)
    expected = hashes()
    assert len(expected) >= 20
    installed = statuses()
    assert {one["name"]: one["module_hash"].removeprefix("0x") for one in installed} == expected

    for canister in ("echo", "rust_echo"):
        assert "ok" in call(canister, "asyncFlow_configure", AGENTS.format(agent=icp.principal))
        call(canister, "asyncFlow", NEW)
        assert handled(canister) == "1"
    before = {one["name"]: installed_at(replica, one["id"]) for one in installed}

    icp("deploy", "-e", "embedded", "--yes", cwd=project)
    upgraded = statuses()
    assert {one["name"]: one["id"] for one in upgraded} == {
        one["name"]: one["id"] for one in installed
    }
    assert {one["name"]: one["module_hash"].removeprefix("0x") for one in upgraded} == expected
    for canister in ("echo", "rust_echo"):
        assert handled(canister) == "1"
    for one in upgraded:
        assert installed_at(replica, one["id"]) > before[one["name"]], one["name"]
