"""Processes: finds all processes of one agent by an environment variable, which children inherit."""

from __future__ import annotations

import uuid
from pathlib import Path

_VARIABLE = "FAULTS_AGENT"


def mark() -> dict[str, str]:
    """An addition to the environment of the agent whose processes are to be found."""
    return {_VARIABLE: uuid.uuid4().hex}


def marked(mark: dict[str, str]) -> list[str]:
    """The command lines of the running processes with this mark."""
    wanted = f"{_VARIABLE}={mark[_VARIABLE]}".encode()
    processes = [path for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [_command(process) for process in processes if wanted in _read(process / "environ")]


def _command(process: Path) -> str:
    return _read(process / "cmdline").replace(b"\0", b" ").decode()


def _read(path: Path) -> bytes:
    """Empty for a zombie, or if the process has ended in the meantime."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
