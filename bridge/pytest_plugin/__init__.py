"""The pytest plugin: canisters and agents on a replica, in sync and async tests.

This module is what pytest loads at every start, also in projects that never use it: it holds
options and fixtures only, and imports nothing of the network before a fixture is used.

- ``ic_canister``: deploys a module and returns the canister, called by its methods' names.
- ``ic_agent``: an agent by identity.
- ``ic_replica``: the replica itself: URL, root key, admin interface.
- ``ic_session``: the same for fixtures of wider scope, whose canisters stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.pytest_plugin.deploying import AgentFactory, CanisterFactory
    from bridge.pytest_plugin.session import ReplicaHandle, Session

_HELP = {
    "network": "where tests that use canisters run: embedded (default), local, dfx, icp, ic, or a "
    "URL such as http://127.0.0.1:4943",
    "root-key": "root key of a network that is not on this machine: hexadecimal, or a file",
    "identity": "PEM file of the default agent's key; by default a random one each session",
}

_CONFORMANCE = {
    "sender": "who sends in the scenarios: python, motoko, rust, a .toml entry or a .wasm module",
    "receiver": "who receives in the scenarios, likewise; with either, each scenario is a test",
    "dialect": "only this dialect, such as maf; what a bare .wasm speaks",
    "scenario": "only this scenario, such as F1",
    "seed": "what the scenarios draw from",
}
_SYSTEM = (
    "give the embedded replica the ICP ledger, the cycles minting canister and the cycles ledger, "
    "in which every agent then holds 1,000 T cycles and 1,000 ICP"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; each is also a setting in the ini file, and a variable IC_BRIDGE_*."""
    group = parser.getgroup("ic-bridge", "canisters of the Internet Computer")
    for name, told in _HELP.items():
        group.addoption(f"--ic-{name}", metavar=name.upper().replace("-", "_"), help=told)
        parser.addini(f"ic_{name.replace('-', '_')}", told)
    group.addoption("--ic-system-canisters", action="store_true", default=None, help=_SYSTEM)
    parser.addini("ic_system_canisters", _SYSTEM, type="bool", default=False)
    group = parser.getgroup("ic-bridge conformance", "the scenarios of Async Flow as tests")
    for name, told in _CONFORMANCE.items():
        group.addoption(f"--ic-{name}", metavar="WHAT", action="append", default=[], help=told)


def pytest_configure(config: pytest.Config) -> None:
    """Add the scenarios of conformance where an option names who is to play them."""
    if not (config.getoption("ic_sender") or config.getoption("ic_receiver")):
        return
    from bridge.conformance.plugin import register  # noqa: PLC0415 - heavy
    from bridge.network import parse_root_key  # noqa: PLC0415 - heavy
    from bridge.pytest_plugin.settings import Settings  # noqa: PLC0415 - heavy

    settings = Settings.of(config)
    root_key = parse_root_key(settings.root_key) if settings.root_key else None
    register(
        config,
        lambda name: config.getoption(f"ic_{name}"),
        network=settings.network,
        root_key=root_key,
        identity=settings.folder / settings.identity if settings.identity else None,
    )


@pytest.fixture(scope="session")
def _ic_session(request: pytest.FixtureRequest) -> Iterator[Session]:
    from bridge.pytest_plugin.session import open_session  # noqa: PLC0415 - heavy

    with open_session(request.config) as session:
        yield session


@pytest.fixture(scope="session")
def ic_session(_ic_session: Session) -> ReplicaHandle:
    """The replica for fixtures of wider scope than one test: what they deploy stays."""
    return _ic_session.replica


@pytest.fixture
def _ic_restored(_ic_session: Session) -> Iterator[Session]:
    with _ic_session.restored_afterwards():
        yield _ic_session


@pytest.fixture
def ic_replica(_ic_restored: Session) -> ReplicaHandle:
    """The replica of this session; what a test does to it is undone after the test."""
    return _ic_restored.replica


@pytest.fixture
def ic_agent(_ic_restored: Session) -> AgentFactory:
    """Agents: ``ic_agent()``, ``ic_agent("alice")``, ``ic_agent(identity)``."""
    return _ic_restored.agent


@pytest.fixture
def ic_canister(_ic_restored: Session) -> CanisterFactory:
    """Deploy a module and get its canister: ``ic_canister("counter.wasm", 5)``."""
    return _ic_restored.canister
