"""Prints the measurements made under emulation at the end of the run."""

from system.measured import note, pytest_configure, pytest_terminal_summary

__all__ = ["note", "pytest_configure", "pytest_terminal_summary"]
