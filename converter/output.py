"""Output: finished files, written whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.host.durable import write_and_rename
from converter.errors import ConverterError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_output(paths: Iterable[Path], *, force: bool) -> None:
    """Raises UsageError, before any work, for what would be overwritten or has no folder to go to."""
    for path in paths:
        if not path.parent.is_dir():
            raise UsageError(f"The folder {path.parent} does not exist: make it first.")
        if path.is_dir():
            raise UsageError(f"{path} is a folder: give a file's name.")
        if path.exists() and not force:
            raise UsageError(f"{path} exists already: --force replaces it.")


def check_report(page: Path) -> None:
    """Raises UsageError, before any work, if the page or the figures beside it cannot be written or replaced."""
    figures = page.with_suffix(".json")
    if page.suffix not in (".html", ".htm"):
        raise UsageError(f"--report {page}: the page's name ends in .html; its figures go beside it as .json.")
    check_output([page, figures], force=True)
    if figures.exists() and not page.exists():
        raise UsageError(f"{figures} exists and is of no earlier report: give another name.")


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Beside `path`, under a name that agents ignore, then renamed: a running agent never sees half of it.

    `mode` holds its permissions, less the umask. Raises ConverterError when the disk is full or the folder does not
    let us.
    """
    try:
        write_and_rename(path.with_name(f".{path.name}.{os.getpid()}.part"), path, content, mode=mode)
    except OSError as error:
        raise ConverterError(f"{path} cannot be written: {error.strerror}.") from error
