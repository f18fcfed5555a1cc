"""Prints measurements at the end of the test run. A conftest.py imports these three names."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
