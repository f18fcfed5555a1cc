"""What was measured is told at the end."""

from system.measured import note, pytest_configure, pytest_terminal_summary

__all__ = ["note", "pytest_configure", "pytest_terminal_summary"]
