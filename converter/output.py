"""Output: checks of output paths, and atomic writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.host.durable import write_and_rename
from converter.errors import ConverterError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_output(paths: Iterable[Path], *, force: bool) -> None:
    """Raises UsageError, before any work, if a path exists already or its folder cannot take it."""
    for path in paths:
        check_parent(path)
        if path.is_dir():
            raise UsageError(f"{path} is a folder. Give the name of a file.")
        if path.exists() and not force:
            raise UsageError(f"{path} already exists. Use --force to replace it.")


def check_parent(path: Path) -> None:
    """Raises UsageError if the folder of `path` does not exist or cannot be written to."""
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} does not exist. Create it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path.parent.absolute()} cannot be written to. Get write access, or use another folder.")


def check_report(page: Path) -> None:
    """Raises UsageError, before any work, if the page or the figures next to it cannot be written or replaced."""
    figures = page.with_suffix(".json")
    if page.suffix not in (".html", ".htm"):
        raise UsageError(f"--report {page}: the name must end in .html. The figures are written next to it as .json.")
    check_output([page, figures], force=True)
    if figures.exists() and not page.exists():
        raise UsageError(f"{figures} already exists and does not belong to a report. Use another name for --report.")


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write to a temporary file next to `path` that agents ignore, then rename it: no agent sees an incomplete file.

    The umask reduces `mode`. Raises ConverterError if the disk is full or the folder is not writable.
    """
    try:
        write_and_rename(path.with_name(f".{path.name}.{os.getpid()}.part"), path, content, mode=mode)
    except OSError as error:
        raise ConverterError(f"{path} cannot be written: {error.strerror}.") from error
