"""The scenarios as tests: ``pytest --ic-receiver my.wasm --ic-dialect maf``.

The installed pytest plugin loads this module where one of its options is given. Each cell of the
matrix is a test of its own, ``conformance::F1[rust -> my, maf]``: it passes, fails with what was
expected and observed, or is skipped with the reason where it is unsupported.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.conformance import entries
from bridge.conformance.cell import Programs, play_cell
from bridge.conformance.place import Place
from bridge.conformance.results import Cell, CellKey, Verdict
from bridge.conformance.runner import Task, plan_tasks
from bridge.conformance.world import World
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
    """

    senders: Sequence[str]
    receivers: Sequence[str]
    dialects: Sequence[str]
    scenarios: Sequence[str]
    seed: int
    network: str = "embedded"
    root_key: bytes | None = None

    def tasks(self) -> list[Task]:
        """What is to be played.

        Raises:
            UsageError: If an option is wrong.
        """
        dialects = tuple(self.dialects)
        ours = list(entries.SHIPPED)
        senders = [
            entries.brought(s, role="sender", dialects=dialects) for s in self.senders or ours
        ]
        receivers = [
            entries.brought(r, role="receiver", dialects=dialects) for r in self.receivers or ours
        ]
        tasks, _ = plan_tasks(
            senders,
            receivers,
            scenarios=self.scenarios or None,
            dialects=dialects or None,
            seed=self.seed,
        )
        return tasks


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
            Test.from_parent(group, name=_title(task.keys[0]), task=task, stage=self._stage)
            for task in tasks
        )

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
        self._world: World | BridgeError | None = None
        self._programs = Programs()

    def play(self, task: Task) -> Cell:
        """Play one scenario."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._play(task))

    async def _play(self, task: Task) -> Cell:
        if self._world is None:
            try:
                place = await self._place()
                self._world = await self._held.enter_async_context(World.enter(place))
            except BridgeError as error:
                self._world = error
        return await play_cell(self._world, task.job, task.keys[0], self._programs)

    async def _place(self) -> Place:
        if self._asked.network == "embedded":
            return Place()
        opened = open_network(self._asked.network, self._asked.root_key)
        network: Network = await self._held.enter_async_context(opened)
        return Place(network.url, network.root_key)

    def close(self) -> None:
        """End all that runs."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        try:
            runner.run(self._programs.end())
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
        if cell.hazard is not None:
            lines.append(f"danger:    {cell.hazard.name}: {cell.hazard.meaning}")
            lines.append(f"to do:     {cell.hazard.remedy}")
        lines += [
            f"{(record.time - cell.timeline[0].time) / 1e9:10.1f} s  {record.flow}  "
            f"{record.sender} -> {record.receiver}  {record.message}  {record.outcome}"
            for record in cell.timeline[:40]
        ]
        super().__init__("\n".join([*lines, *cell.log]))


class Test(pytest.Item):
    """One cell as a test.

    Args:
        task: What it plays.
        stage: Where.
        given: For pytest.
    """

    def __init__(self, *, task: Task, stage: Stage, **given: Any) -> None:
        super().__init__(**given)
        self._task = task
        self._stage = stage

    def runtest(self) -> None:
        """Play it."""
        cell = self._stage.play(self._task)
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
        where: ``network`` and ``root_key`` as `Asked` has them.
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
