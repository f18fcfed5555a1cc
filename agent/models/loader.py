"""Loader: loads a version from the store and warms up its classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import ModelError, StoreError
from agent.host.memory import free_bytes
from agent.model_file.model import read_model
from agent.model_file.settings import ModelSettings
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.tensorflow import TensorFlowOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model_file.model import Model
    from agent.models.store import Store
    from agent.models.versions import Version
    from agent.runtimes.classifier import Classifier
    from agent.runtimes.saved_classifier import BatchLimits
    from agent.runtimes.selection import Wanted
    from agent.security.minisign import TrustedKeys


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """One version in memory: what it was read from, its final settings, and one classifier per worker."""

    model: Model
    settings: ModelSettings
    classifiers: tuple[Classifier, ...]


class Loader:
    """Reads only from the store, never from the drop folder."""

    def __init__(
        self,
        *,
        store: Store,
        workers: int,
        threads: int,
        accelerator: Wanted = "cpu",
        settings: dict[str, ModelSettings] | None = None,
        signers: TrustedKeys | None = None,
        free_bytes: Callable[[], int] = free_bytes,
        tensorflow: TensorFlowOptions = TensorFlowOptions(),  # noqa: B008  (frozen)
        batches: BatchLimits | None = None,
    ) -> None:
        """`settings` come from the configuration, by model; they override the sidecars, which override the file.

        With `signers`, a version is loaded only if it was admitted with the signature of a key that is still trusted.
        """
        self._tensorflow = tensorflow
        self._batches = batches
        self._signers = signers
        self._free_bytes = free_bytes
        self._store = store
        self._threads = threads
        self._accelerator: Wanted = accelerator
        self._settings = settings or {}
        self._workers = workers

    def bytes_of(self, version: Version) -> int:
        """The approximate memory that the version needs."""
        return version.bytes_each * (1 if version.is_shared else self._workers)

    def has_room_for(self, version: Version) -> bool:
        return self.bytes_of(version) <= self._free_bytes()

    def has_copy_of(self, version: Version) -> bool:
        """Also true if the disk does not respond."""
        return self._store.has(version.sha256)

    def load(self, name: str, version: Version) -> LoadedModel:
        """Blocks; any thread. Raises StoreError if the copy is missing or damaged, ModelError if it does not load."""
        if self._signers is not None and version.key_id not in self._signers.names():
            signed = f"signed with the key {version.key_id}, which is not trusted" if version.key_id else "not signed"
            raise ModelError(
                f"Version {version.number} is {signed}, but models.signatures is now `required`. Drop it again with a "
                ".minisig from a key in models.trusted_keys."
            )
        model = self._read(version)
        given = self._settings.get(name, ModelSettings())
        settings = model.settings.overridden_by(version.sidecar).overridden_by(given)
        classifiers = open_classifiers(
            model,
            settings,
            workers=self._workers,
            threads=self._threads,
            seen=version.scores,
            accelerator=self._accelerator,
            tensorflow=self._tensorflow,
            batches=self._batches,
        )
        for classifier in classifiers:
            classifier.warm_up()
        return LoadedModel(model, settings, classifiers)

    def _read(self, version: Version) -> Model:
        try:
            return read_model(self._store.read(version.sha256))
        except OSError as error:
            raise StoreError(
                f"The stored model {self._store.path(version.sha256)} cannot be read: {error.strerror}. The agent "
                "retries automatically."
            ) from error


def unexpected(error: Exception) -> str:
    """The reason to reject a file that caused an unexpected error."""
    words = " ".join(f"{type(error).__name__} {error}".split())[:300].encode(errors="replace").decode()
    return f"The file cannot be loaded ({words}). Drop another file, and report this error with the service's log."
