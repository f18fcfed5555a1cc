"""Statuses: what MQTT and HTTP show about each model, derived from its files, its history and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import ModelNotFoundError, ModelNotReadyError
from agent.status import ModelStatus, VersionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.listeners import Listener
    from agent.models.candidates import Files
    from agent.models.history import History
    from agent.models.serving import Served
    from agent.models.versions import ModelHistory, Version
    from agent.status import VersionState


class Statuses:
    """Announces a status when it has changed. On the loop's thread."""

    def __init__(self, *, files: Mapping[str, Files], history: History, served: Served, listener: Listener) -> None:
        self._files = files
        self._history = history
        self._served = served
        self._listener = listener
        self._announced: dict[str, ModelStatus] = {}

    @property
    def all(self) -> list[ModelStatus]:
        """The status of each model that has a file or serves, sorted by name."""
        return [self._derived(name) for name in sorted(self._files.keys() | self._served.stable.keys())]

    def knows(self, name: str) -> bool:
        return name in self._files or name in self._served.stable

    def announce(self, name: str) -> None:
        """Announces the status if it has changed. Does nothing for a name that has no file and does not serve."""
        if not self.knows(name):
            return
        status = self._derived(name)
        if status != self._announced.get(name, ModelStatus(name)):
            self._announced[name] = status
            self._listener.model_changed(status)

    def forget(self, name: str) -> None:
        """Announces that the model no longer exists."""
        self._announced.pop(name, None)
        self._listener.model_changed(ModelStatus(name))

    def missing(self, name: str | None, version: str | None, *, folder: Path) -> ModelNotFoundError:
        """The error for a model, or a version of it, that does not serve; `folder` is where models are dropped."""
        is_known = name is not None and self.knows(name) and name not in self._served.stable
        return (ModelNotReadyError if is_known else ModelNotFoundError)(self._why_missing(name, version, folder))

    def _why_missing(self, name: str | None, version: str | None, folder: Path) -> str:
        served = self._served.stable
        if name is None:
            candidates = (status.name for status in self.all if status.candidate)
            name = min(served, default=None) or next(candidates, None)
        if name is None:
            return f"No model is served. Drop a .tflite file into {folder}."
        known = ", ".join(sorted(served)) or "none"
        if version is not None and name in served:
            number = served[name].identity.version
            return f"Model {name} does not serve {version} now; its stable version is {number}."
        status = self._derived(name)
        if status.candidate is not None:
            return f"Model {name} is being loaded. Try again in a second."
        if status.rejection is not None:
            return f"Model {name} is not served: {status.rejection.reason} Served: {known}."
        return f"Model {name} is not served. Drop {name}.tflite into {folder}. Served: {known}."

    def _derived(self, name: str) -> ModelStatus:
        return model_status(name, files=self._files.get(name), history=self._history[name], served=self._served)


def model_status(name: str, *, files: Files | None, history: ModelHistory, served: Served) -> ModelStatus:
    stable, canary, in_memory = served.stable.get(name), served.canaries.get(name), served.models.get(name)
    serving = stable.identity if stable else None
    versions = tuple(
        _version_status(
            version,
            serving=serving.version if serving else None,
            canary=canary.identity.version if canary else None,
        )
        for version in reversed(history.versions)
    )
    return ModelStatus(
        name,
        serving=serving,
        since_ns=in_memory.since_ns if in_memory and serving else None,
        candidate=files.candidate if files else None,
        trying=files.trying if files else False,
        rejection=files.rejection if files else None,
        probation=bool(in_memory and serving and serving.version in in_memory.probations),
        pinned=history.pinned,
        canary=canary.identity if canary else None,
        versions=versions,
        runs_on=stable.runs_on if stable else None,
    )


def _version_status(version: Version, *, serving: int | None, canary: int | None) -> VersionStatus:
    state: VersionState = "rejected" if version.withdrawn else "admitted"
    if version.number == serving:
        state = "serving"
    elif version.number == canary:
        state = "canary"
    return VersionStatus(version.number, version.sha256, state, version.file, version.admitted_ns, version.withdrawn)
