"""Measured: what the tests of a bed note, told at the end of them; a conftest.py takes these three names."""

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
    """Tells what was measured: docs/reliability.md and docs/performance.md have it."""
    lines = request.config.stash[_LINES]
    return lambda what, measured: lines.append(f"{what}: {measured}")
