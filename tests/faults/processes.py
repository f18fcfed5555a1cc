"""Processes: which belong to one agent, by a variable in their environment, which children inherit."""

from __future__ import annotations

import uuid
from pathlib import Path

_VARIABLE = "FAULTS_AGENT"


def mark() -> dict[str, str]:
    """For the environment of an agent that is to be followed."""
    return {_VARIABLE: uuid.uuid4().hex}


def marked(mark: dict[str, str]) -> list[str]:
    """The command lines of those that run now."""
    wanted = f"{_VARIABLE}={mark[_VARIABLE]}".encode()
    processes = [path for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [_command(process) for process in processes if wanted in _read(process / "environ")]


def _command(process: Path) -> str:
    return _read(process / "cmdline").replace(b"\0", b" ").decode()


def _read(path: Path) -> bytes:
    """Empty where the process has ended meanwhile, and of a zombie."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
