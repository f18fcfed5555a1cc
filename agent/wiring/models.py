"""Models: the model manager, built from the configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.config.load import model_settings
from agent.errors import StartError
from agent.models.admission import Admission
from agent.models.folder import ModelFolder
from agent.models.history import History
from agent.models.loader import Loader
from agent.models.manager import ModelManager
from agent.models.serving import Serving
from agent.models.store import Store, copies_of
from agent.models.trial import Trial
from agent.security.minisign import TrustedKeys

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.sections import Config
    from agent.listeners import Listener


def build_models(config: Config, listener: Listener) -> ModelManager:
    """Raises ConfigError for label files that cannot be read, StartError if the models folder is missing."""
    workers, threads = config.engine.sizes()
    models, settings = config.models, model_settings(config)
    store = Store(copies_of(config.device.state_folder), max_bytes=models.max_mb << 20)
    history = History(config.device.state_folder / "models/history.json")
    unloads_first = models.swap == "resource"
    keys = TrustedKeys(models.trusted_keys) if models.trusted_keys else None
    admission = Admission(
        store=store,
        trial=Trial(threads=threads),
        workers=workers,
        unloads_first=unloads_first,
        settings=settings,
        signatures=models.signatures,
        keys=keys,
    )
    serving = Serving(
        history=history,
        store=store,
        loader=Loader(
            store=store,
            workers=workers,
            threads=threads,
            settings=settings,
            signers=keys if models.signatures == "required" else None,
        ),
        on_change=lambda name: manager.refresh(name),  # noqa: PLW0108  (which is made of this)
        on_rollback=listener.version_withdrawn,
        on_gap=listener.swap_gap,
        canary_shares=models.canary,
        unloads_first=unloads_first,
    )
    manager = ModelManager(
        folder=ModelFolder(_existing_folder(models.folder)),
        store=store,
        history=history,
        admission=admission,
        serving=serving,
        retire_after_s=models.retire_after_s,
        keep_versions=models.keep_versions,
        on_change=listener.model_changed,
        on_load=listener.model_tried,
    )
    return manager


def _existing_folder(path: Path) -> Path:
    if not os.path.isdir(path):  # noqa: PTH112  (Path raises for a closed folder)
        raise StartError(f"models.folder {path} is no folder. Make it (mkdir -p {path}) or correct models.folder.")
    return path
