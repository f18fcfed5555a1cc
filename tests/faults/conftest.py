"""Figures and scale of the fault tests: `make test-faults`, and `make test-faults-short` for each landing.

FAULTS is short or full; FAULTS_FIGURES is the document whose tables are rewritten, none where it is not set.
"""

from __future__ import annotations

import os
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from faults.figures import Figures, Row, rewrite
from faults.scale import Scale

_ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    document, rows = os.environ.get("FAULTS_FIGURES"), session.config.stash[_ROWS]
    if hasattr(session.config, "workeroutput"):  # one of pytest-xdist's processes: the first process has the last word
        session.config.workeroutput["figures"] = [astuple(row) for row in rows]
    elif document and rows:
        rewrite(Path(document), rows)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_ROWS] += [Row(*cells) for cells in node.workeroutput["figures"]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("figures")
    for row in config.stash[_ROWS]:
        terminalreporter.write_line(f"{row.what} [{row.asked}]: {row.measured}")


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """Tells what was measured, at the end of the run, and in docs/reliability.md where the run is for that."""
    rows = request.config.stash[_ROWS]
    return lambda what, asked, measured: rows.append(Row.of_today(what, asked, measured))


@pytest.fixture(scope="session")
def scale() -> Scale:
    form = os.environ.get("FAULTS", "short")
    assert form in ("short", "full"), f"FAULTS is short or full, not {form}"
    return Scale(full=form == "full")
