"""Checkpoint: the finished steps of a training, in a hidden folder next to its output.

Each step has a name and is deterministic. A training that starts again takes the finished steps from here, so that it
ends as if it had not been interrupted.
"""

from __future__ import annotations

import io
import shutil
import time
import zipfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.host.durable import replace_file
from converter.errors import ConverterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    Arrays: TypeAlias = Mapping[str, npt.NDArray[np.generic]]

_KEY, _SPENT = "key", "spent_s"


class Checkpoint:
    """Steps of the training with this `key`; those of another training in the same folder are deleted.

    Raises ConverterError if the folder cannot be written.
    """

    def __init__(self, folder: Path, *, key: str) -> None:
        self._folder = folder
        self._started = time.monotonic()
        try:
            if _text(folder / _KEY) != key:
                shutil.rmtree(folder, ignore_errors=True)
                replace_file(folder / _KEY, key.encode())
        except OSError as error:
            raise _cannot_write(folder, error) from error
        self._before_s = float(_text(folder / _SPENT) or 0)
        self.resumed = any(folder.glob("*.npz"))

    @staticmethod
    def folder_of(output: Path) -> Path:
        return output.with_name(f".{output.name}.training")

    @property
    def spent_s(self) -> float:
        """Since the training began, without the time in which it did not run."""
        return self._before_s + time.monotonic() - self._started

    def load(self, name: str) -> Arrays | None:
        """None if the step is not finished, or its file is damaged."""
        try:
            content = (self._folder / f"{name}.npz").read_bytes()
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            return None

    def save(self, name: str, arrays: Arrays) -> None:
        """Whole, or not at all. Raises ConverterError."""
        content = io.BytesIO()
        np.savez(content, **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]
        try:
            replace_file(self._folder / f"{name}.npz", content.getvalue())
            replace_file(self._folder / _SPENT, f"{self.spent_s:.1f}".encode())
        except OSError as error:
            raise _cannot_write(self._folder, error) from error

    def delete(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _text(path: Path) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return None


def _cannot_write(folder: Path, error: OSError) -> ConverterError:
    return ConverterError(
        f"{folder} cannot be written: {error.strerror}. Make room, or give write access; then the same "
        "command continues."
    )
