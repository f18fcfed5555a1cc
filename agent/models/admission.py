"""Admission: from a dropped file to classifiers that may serve, or the reason why not."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import ModelError
from agent.models.metadata import ModelFile, read_model_file
from agent.models.settings import ModelSettings, final_settings
from agent.models.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class AdmittedModel:
    """A file whose every check passed, with one warm classifier for each worker thread."""

    file: ModelFile
    settings: ModelSettings
    sha256: str
    classifiers: tuple[TFLiteClassifier, ...]


class Admission:
    """Reads, checks, loads and warms. Blocks for as long as that takes; call it from a thread of its own."""

    def __init__(
        self, *, workers: int, threads: int, max_bytes: int, settings: dict[str, ModelSettings] | None = None
    ) -> None:
        self._workers = workers
        self._threads = threads
        self._max_bytes = max_bytes
        self._settings = settings or {}

    def admit(self, path: Path, *, name: str) -> AdmittedModel:
        """Raises ModelError with the cause and the remedy. The file is read once, into memory, never mapped."""
        content = self._read(path)
        model = read_model_file(content)
        settings = final_settings(path, own=model.settings, given=self._settings.get(name, ModelSettings()))
        classifiers = tuple(TFLiteClassifier(model, settings, threads=self._threads) for _ in range(self._workers))
        for classifier in classifiers:
            classifier.warm_up()
        return AdmittedModel(model, settings, hashlib.sha256(content).hexdigest(), classifiers)

    def _read(self, path: Path) -> bytes:
        try:
            with open(path, "rb", opener=_open_plain_file) as file:
                content = file.read(self._max_bytes + 1)
        except OSError as error:
            raise ModelError(
                f"The file cannot be read: {error.strerror}. Let the agent's user read it: chmod a+r {path.name}."
            ) from error
        if len(content) > self._max_bytes:
            raise ModelError(
                f"The file has more than {self._max_bytes >> 20} MB. Drop a smaller model or raise models.max_mb."
            )
        return content


def _open_plain_file(path: str, flags: int) -> int:
    """A FIFO or a link that takes the file's place between listing and opening must not hold us up."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", path)
    return descriptor
