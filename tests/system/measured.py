"""Prints measurements at the end of the test run. A conftest.py imports these names; the last two are for xdist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Note = Callable[[str, str], None]

_LINES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LINES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("measured")
    for line in config.stash[_LINES]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def note(request: pytest.FixtureRequest) -> Note:
    """Records a measurement, such as those in docs/reliability.md and docs/performance.md."""
    lines = request.config.stash[_LINES]
    return lambda name, value: lines.append(f"{name}: {value}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist: the main process prints
        session.config.workeroutput["measured"] = session.config.stash[_LINES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LINES] += node.workeroutput["measured"]
