"""Figures and scale of the fault tests, which `make test-faults` and `make test-faults-short` run.

The environment variable FAULTS is short or full. FAULTS_FIGURES is the document whose tables are rewritten; if it is
not set, no document changes.
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
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist: the main process writes the document
        session.config.workeroutput["figures"] = [astuple(row) for row in rows]
    elif document and rows:
        rewrite(Path(document), rows)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_ROWS] += [Row(*cells) for cells in node.workeroutput["figures"]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("figures")
    for row in config.stash[_ROWS]:
        terminalreporter.write_line(f"{row.test} [{row.required}]: {row.measured}")


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """Records what was measured, for the end of the run and for the document that FAULTS_FIGURES names."""
    rows = request.config.stash[_ROWS]
    return lambda test, required, measured: rows.append(Row.of_today(test, required, measured))


@pytest.fixture(scope="session")
def scale() -> Scale:
    form = os.environ.get("FAULTS", "short")
    assert form in ("short", "full"), f"FAULTS is short or full, not {form}"
    return Scale(full=form == "full")
