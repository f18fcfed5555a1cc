"""Options: arguments and options of several commands, and reading the files that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.errors import AgentError

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file (YAML). Without it, the defaults and the environment apply."),
]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file (.tflite).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error.strerror}.") from None
