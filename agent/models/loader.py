"""Loader: from a version in the store to warm classifiers in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import ModelError
from agent.model_file.metadata import ModelFile, read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.runtime import open_classifiers

if TYPE_CHECKING:
    from agent.models.store import Store
    from agent.models.versions import Version
    from agent.runtimes.classifier import Classifier
    from agent.security.minisign import TrustedKeys


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """What belongs together of one version: its file, the settings by which it is fed, a classifier a worker."""

    file: ModelFile
    settings: ModelSettings
    classifiers: tuple[Classifier, ...]


class Loader:
    """Reads from the store only."""

    def __init__(
        self,
        *,
        store: Store,
        workers: int,
        threads: int,
        settings: dict[str, ModelSettings] | None = None,
        signers: TrustedKeys | None = None,
    ) -> None:
        """`settings` are the configuration's, by model; they beat the sidecars, and these the file.

        With `signers` nothing is loaded that was admitted without a signature, or by one whose key is gone.
        """
        self._signers = signers
        self._store = store
        self._threads = threads
        self._settings = settings or {}
        self.workers = workers

    def load(self, name: str, version: Version) -> LoadedModel:
        """Blocks; any thread. Raises StoreError when the copy is gone or damaged, ModelError when it does not load."""
        if self._signers is not None and version.key_id not in self._signers.names():
            signed = f"signed with the key {version.key_id}, which is not trusted" if version.key_id else "not signed"
            raise ModelError(
                f"Version {version.number} is {signed}, and models.signatures is required now. Drop it again with a "
                ".minisig of a key in models.trusted_keys."
            )
        file = read_model_file(self._store.read(version.sha256))
        given = self._settings.get(name, ModelSettings())
        settings = file.settings.overridden_by(version.sidecar).overridden_by(given)
        classifiers = open_classifiers(file, settings, workers=self.workers, threads=self._threads)
        for classifier in classifiers:
            classifier.warm_up()
        return LoadedModel(file, settings, classifiers)
