"""Options: what several commands take, and reading the files that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.errors import AgentError

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file; defaults apply without one.")]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="A .tflite file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AgentError(f"{path} cannot be read: {error.strerror}.") from None
