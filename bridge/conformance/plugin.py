"""The scenarios as tests: ``pytest --ic-receiver my.wasm --ic-dialect maf``.

The installed pytest plugin loads this module where one of its options is given. Each cell of the
matrix is a test of its own, ``conformance::F1[rust -> my, maf]``: it passes, fails with what was
expected and observed, or is skipped with the reason where it is unsupported.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bridge.agent import Identity
from bridge.conformance import entries
from bridge.conformance.cell import Programs, play_cell
from bridge.conformance.entries import Entry
from bridge.conformance.place import Place
from bridge.conformance.results import Cell, CellKey, Verdict
from bridge.conformance.runner import Again, Task, ask_for_unknown, distrusted, plan_tasks
from bridge.conformance.world import World, Worlds
from bridge.errors import BridgeError, UsageError
from bridge.network import Network, open_network


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options ask for.

    Attributes:
        senders: Who sends, as a command line calls them; this package's own where empty.
        receivers: Who receives, likewise.
        dialects: In which dialects; what a bare module speaks.
        scenarios: Ids; all where empty.
        seed: Draws whatever is random.
        network: The network, as `open_network` takes it.
        root_key: Its root key (DER), where given.
        identity: The PEM file of who deploys and asks there; a fresh one where ``None``.
    """

    senders: Sequence[str]
    receivers: Sequence[str]
    dialects: Sequence[str]
    scenarios: Sequence[str]
    seed: int
    network: str = "embedded"
    root_key: bytes | None = None
    identity: Path | None = None

    def cast(self, role: str) -> dict[str, Entry]:
        """Who takes a role, by what the options call it.

        Raises:
            UsageError: If an option is wrong.
        """
        named = self.senders if role == "sender" else self.receivers
        tongues = tuple(self.dialects)
        return {
            text: entries.brought(text, role=role, dialects=tongues)
            for text in named or entries.SHIPPED
        }

    def tasks(self) -> list[Task]:
        """What is to be played.

        Raises:
            UsageError: If an option is wrong.
        """
        tasks, _ = plan_tasks(
            list(self.cast("sender").values()),
            list(self.cast("receiver").values()),
            scenarios=self.scenarios or None,
            dialects=self.dialects or None,
            seed=self.seed,
        )
        return tasks

    def again(self, place: Place) -> Again:
        """How one cell is played alone by the command line."""
        everyone = [*self.cast("sender").items(), *self.cast("receiver").items()]
        called = {entry.name: text for text, entry in everyone}
        options = [] if self.root_key is None else ["--root-key", self.root_key.hex()]
        options += [] if self.identity is None else ["--identity", str(self.identity)]
        return Again(self.seed, place, called, tuple(options))


class ConformancePlugin:
    """Adds the scenarios to the tests of a session.

    Args:
        asked: What the options ask for.
    """

    def __init__(self, asked: Asked) -> None:
        self._stage = Stage(asked)
        self._asked = asked

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        """Add a test for each cell; before others look at the items."""
        try:
            tasks = self._asked.tasks()
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
        group = Group.from_parent(session, name="conformance")
        items.extend(
            Test.from_parent(group, name=_title(key), task=task, key=key, stage=self._stage)
            for task in tasks
            for key in task.keys
        )

    def pytest_report_header(self) -> str:
        """What reproduces the session."""
        return f"conformance: seed {self._asked.seed}"

    def pytest_unconfigure(self) -> None:
        """End the replica and the drivers."""
        self._stage.close()


def _title(key: CellKey) -> str:
    return f"{key.scenario}[{key.sender} -> {key.receiver}, {key.dialect}]"


class Stage:
    """The world that the tests of a session are played on; made when the first one runs.

    Args:
        asked: What the options ask for.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._runner: asyncio.Runner | None = None
        self._held = contextlib.AsyncExitStack()
        self._worlds = Worlds()
        self._place: Place | None = None
        self._programs = Programs()
        self._told: dict[str, str] = {}
        self._played: dict[tuple[str, ...], Cell] = {}

    def play(self, task: Task, key: CellKey) -> Cell:
        """One cell; its scenario is played for the first of the cells that it tells."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        name = task.job.name
        if name not in self._played:
            self._played[name] = self._runner.run(self._play(task))
        again = self._asked.again(self._place or Place())
        return replace(self._played[name], key=key, rerun=again.line(key))

    async def _play(self, task: Task) -> Cell:
        for entry in (task.job.sender, task.job.receiver):
            if entry is not None and entry.name not in self._told:
                self._told[entry.name] = await ask_for_unknown(entry)
        job = replace(task.job, distrusted=distrusted(self._told))
        world: World | BridgeError
        try:
            self._place = self._place or await self._find_place()
            world = await self._worlds.at(job.place(self._place))
        except BridgeError as error:
            world = error
        return await play_cell(world, job, task.keys[0], self._programs)

    async def _find_place(self) -> Place:
        if self._asked.network == "embedded":
            return Place(identity=self._identity())
        opened = open_network(self._asked.network, self._asked.root_key)
        network: Network = await self._held.enter_async_context(opened)
        return Place(network.url, network.root_key, self._identity())

    def _identity(self) -> Identity | None:
        return None if self._asked.identity is None else Identity.from_pem(self._asked.identity)

    def close(self) -> None:
        """End all that runs."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        try:
            runner.run(self._programs.end())
            runner.run(self._worlds.aclose())
            runner.run(self._held.aclose())
        finally:
            runner.close()


class Group(pytest.Collector):
    """Under which the tests stand."""

    def collect(self) -> list[pytest.Item]:
        """Nothing: its tests are made from options, not found."""
        return []


class NotConformingError(Exception):
    """A cell that did not pass; its text is the test's report.

    Args:
        cell: The cell.
    """

    def __init__(self, cell: Cell) -> None:
        lines = [
            f"{cell.key}: {cell.verdict}",
            f"must hold: {cell.requirement}",
            f"expected:  {cell.expected}",
            f"observed:  {cell.observed}",
        ]
        if cell.clean_up_observed:
            lines.append(f"clean-up:  {cell.clean_up_observed}")
        lines += [f"unjudged:  {reason}" for reason in cell.unjudged]
        if cell.hazard is not None:
            lines.append(f"danger:    {cell.hazard.name}: {cell.hazard.meaning}")
            lines.append(f"to do:     {cell.hazard.remedy}")
        lines += [
            f"{(record.time - cell.timeline[0].time) / 1e9:10.1f} s  {record.flow}  "
            f"{record.sender} -> {record.receiver}  {record.message}  {record.outcome}"
            for record in cell.timeline[:40]
        ]
        again = [f"again:     {cell.rerun}"]
        super().__init__("\n".join([*lines, *cell.log, *again]))


class Test(pytest.Item):
    """One cell as a test.

    Args:
        task: What it plays.
        key: Which of the cells that this tells.
        stage: Where.
        given: For pytest.
    """

    def __init__(self, *, task: Task, key: CellKey, stage: Stage, **given: Any) -> None:
        super().__init__(**given)
        self._task = task
        self._key = key
        self._stage = stage

    def runtest(self) -> None:
        """Play it."""
        cell = self._stage.play(self._task, self._key)
        self.user_properties.append(("seed", cell.seed))
        if cell.verdict is Verdict.UNSUPPORTED:
            pytest.skip(cell.observed)
        if cell.verdict is not Verdict.PASSED:
            raise NotConformingError(cell)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: object) -> Any:
        """The cell's own words instead of a traceback."""
        if isinstance(excinfo.value, NotConformingError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Where it stands: in no file."""
        return self.path, None, f"conformance {self.name}"


def register(config: pytest.Config, value: Callable[[str], Collection[str]], **where: Any) -> None:
    """Add the scenarios to a session whose options ask for them.

    Args:
        config: Pytest's configuration.
        value: The values of one of the options ``sender``, ``receiver``, ``dialect``,
            ``scenario`` and ``seed``.
        where: ``network``, ``root_key`` and ``identity`` as `Asked` has them.
    """
    asked = Asked(
        senders=list(value("sender")),
        receivers=list(value("receiver")),
        dialects=list(value("dialect")),
        scenarios=list(value("scenario")),
        seed=int(next(iter(value("seed")), "0")),
        **where,
    )
    config.pluginmanager.register(ConformancePlugin(asked), "ic-bridge-conformance")
