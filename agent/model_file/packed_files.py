"""Packed files: the zip archive at the end of a model file, with its labels and other files."""

from __future__ import annotations

import io
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.model_file.flatbuffer import damaged
from agent.model_file.labels import parse_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_TEXT_BYTES = 1 << 20
_MAX_SMALL_FILES = 8
# What zipfile raises for damaged offsets, names and compressed data; RuntimeError is an encrypted file.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)


class PackedFiles:
    """Has no names if the model has no archive. A file is unpacked only when it is read.

    Raises IncompleteModelError if that fails.
    """

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)
        self._entries: dict[str, zipfile.ZipInfo] = {}
        with _zip_errors_as_damage():
            if zipfile.is_zipfile(self._stream):
                with zipfile.ZipFile(self._stream) as archive:
                    self._entries = {entry.filename: entry for entry in archive.infolist()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def small_files(self, ending: str) -> list[str]:
        """The first few files whose names end so and that are small enough for labels."""
        names = [name for name in self.names if name.endswith(ending)]
        return [name for name in names if self._entries[name].file_size <= _MAX_TEXT_BYTES][:_MAX_SMALL_FILES]

    def read_labels(self, name: str) -> tuple[str, ...]:
        return parse_labels(self.read(name), where=name)

    def read(self, name: str, *, max_bytes: int = _MAX_TEXT_BYTES) -> bytes:
        with _zip_errors_as_damage(), zipfile.ZipFile(self._stream) as archive:
            entry = self._entries[name]
            # For other methods zipfile cannot limit the size: one block can unpack to gigabytes.
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise damaged(f"{name} uses a compression method other than deflate")
            with archive.open(entry) as file:
                content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise damaged(f"{name} is larger than {max_bytes >> 20} MB")
        return content


@contextmanager
def _zip_errors_as_damage() -> Iterator[None]:
    try:
        yield
    except _ZIP_ERRORS as error:
        raise damaged(f"its packed files cannot be read: {error}") from error
