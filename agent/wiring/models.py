"""Models: builds the model manager and its parts from the configuration."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from agent.config.load import model_settings
from agent.errors import StartError
from agent.host.access import explain
from agent.models.acceleration import Selector
from agent.models.accelerator_trial import AcceleratorTrial
from agent.models.admission import Admission
from agent.models.choices import Choices
from agent.models.folder import ModelFolder
from agent.models.history import History
from agent.models.loader import Loader
from agent.models.manager import ModelManager
from agent.models.policy import Rules, Times
from agent.models.store import Store, copies_of, has_copies
from agent.models.trial import Trial
from agent.runtimes.saved_classifier import BatchLimits
from agent.runtimes.tensorflow import TensorFlowOptions
from agent.security.minisign import TrustedKeys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.config.sections import Config
    from agent.listeners import Listener
    from agent.runtimes.selection import Wanted


def build_models(config: Config, listener: Listener, *, is_throttled: Callable[[], bool]) -> ModelManager:
    """Does not load any model yet.

    Raises ConfigError for a label file that cannot be read.
    """
    models, settings, state_folder = config.models, model_settings(config), config.device.state_folder
    workers, threads = config.engine.sizes()
    rules = Rules(
        keep_versions=models.keep_versions, canary_shares=models.canary, unloads_first=models.swap == "resource"
    )
    wanted = config.engine.accelerator
    keys = TrustedKeys(models.trusted_keys) if models.trusted_keys else None
    tensorflow = TensorFlowOptions(**config.engine.tensorflow.model_dump())
    store = Store(copies_of(state_folder), max_bytes=models.max_mb << 20)
    return ModelManager(
        folder=ModelFolder(models.folder),
        store=store,
        history=History(state_folder / "models/history.json"),
        admission=Admission(
            store=store,
            trial=Trial(threads=threads, accelerator=wanted, tensorflow=tensorflow),
            workers=workers,
            unloads_first=rules.unloads_first,
            settings=settings,
            signatures=models.signatures,
            keys=keys,
        ),
        loader=Loader(
            store=store,
            workers=workers,
            threads=threads,
            accelerator=wanted,
            settings=settings,
            signers=keys if models.signatures == "required" else None,
            tensorflow=tensorflow,
            batches=_batches(config),
        ),
        rules=rules,
        listener=listener,
        selector=None if wanted == "cpu" else _selector(wanted, state_folder, threads=threads),
        times=Times(retire_after_s=models.retire_after_s),
        is_throttled=is_throttled,
    )


def _selector(wanted: Wanted, state_folder: Path, *, threads: int) -> Selector:
    choices = Choices(state_folder / "models/accelerators.json")
    return Selector(wanted=wanted, trial=AcceleratorTrial(threads=threads), choices=choices, threads=threads)


def _batches(config: Config) -> BatchLimits | None:
    batching = config.engine.batching
    if batching.enabled is False or batching.max_batch_size == 1:
        return None
    return BatchLimits(batching.max_batch_size, is_forced=batching.enabled is True)


def check_folder(config: Config) -> None:
    """Raises StartError if there is nothing to serve: no models folder, and no copies of its models.

    With copies, the folder is not even looked at: its file server may not answer.
    """
    path = config.models.folder
    if has_copies(config.device.state_folder):
        return
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder = False
    except OSError as error:
        raise StartError(f"models.folder {path} cannot be used: {explain(error, path)}") from None
    if not is_folder:
        raise StartError(f"models.folder {path} is not a folder. Create it (mkdir -p {path}) or correct models.folder.")
