"""Prints the measurements at the end of the run."""

from system.measured import (
    note,
    pytest_configure,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

__all__ = ["note", "pytest_configure", "pytest_sessionfinish", "pytest_terminal_summary", "pytest_testnodedown"]
