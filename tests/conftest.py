"""What holds for every test: no generated example is too slow, nothing is skipped without a reason.

In CI, a skip that is not listed with its reason fails the run.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Only here can they be asked for.
pytest_plugins = ["pytester", "canister_world", "postgres_server"]

# An example may take its time: another machine, or a loaded one, is no failure.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

_LIST = Path(__file__).with_name("allowed_skips.txt")


def _allowed() -> set[str]:
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    return {line.split("  ")[0].strip() for line in lines if line and not line.startswith("#")}


def _unlisted_skips(reporter: pytest.TerminalReporter) -> list[str]:
    return sorted({report.nodeid for report in reporter.stats.get("skipped", [])} - _allowed())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI"):
        return
    if unlisted := _unlisted_skips(reporter):
        reporter.section("skipped, but not in tests/allowed_skips.txt", red=True)
        for nodeid in unlisted:
            reporter.line(nodeid)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
