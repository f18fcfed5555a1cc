"""Delivery: puts a finished version, signature first, into the output folder, and runs the command for it."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from agent.host.durable import replace_file
from agent.security.minisign import key_name
from converter.signing import signature_file, trusted_comment

if TYPE_CHECKING:
    from pathlib import Path

    from converter.signing import SecretKey

MODEL = "model.tflite"  # in TensorFlow Serving's layout; an agent expects this name


class OutputFolder:
    """`<output>/<name>/<number>/model.tflite`. Blocks; all calls raise OSError."""

    def __init__(self, path: Path, key: SecretKey | None) -> None:
        """Without a key, versions are not signed."""
        self._path = path
        self._key = key
        self._hashed: dict[Path, tuple[tuple[int, int, int], str]] = {}

    @property
    def key_id(self) -> str:
        return key_name(self._key.id) if self._key else ""

    def model(self, name: str, number: int) -> Path:
        return self._path / name / str(number) / MODEL

    def has(self, name: str, number: int, sha256: str) -> bool:
        """Whether that file is there, with a signature if there is a key."""
        model = self.model(name, number)
        if self._key is not None and not _signature(model).is_file():
            return False
        return model.is_file() and self._sha256(model) == sha256

    def put(self, name: str, number: int, finished: Path) -> None:
        """An agent may look at any moment: it never sees the model without its signature, nor a part of either."""
        self._path.stat()  # a disk that is not mounted must not become a folder
        model = self.model(name, number)
        content = finished.read_bytes()
        if self._key is not None:
            comment = trusted_comment(MODEL, timestamp_s=int(time.time()), version=number, words=None)
            replace_file(_signature(model), signature_file(finished, self._key, comment=comment))
        replace_file(model, content)

    def _sha256(self, model: Path) -> str:
        status = model.stat()
        stamp = status.st_ino, status.st_size, status.st_ctime_ns
        stamped, sha256 = self._hashed.get(model, (None, ""))
        if stamped != stamp:
            sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
            self._hashed[model] = stamp, sha256
        return sha256


def _signature(model: Path) -> Path:
    return model.with_name(f"{model.name}.minisig")
