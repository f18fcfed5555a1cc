"""Managed: a model manager with a real folder and a real store, whose trials run in the test process."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agents.models_on_disk import digits, photo_of_3, write_whole

from agent.classification import Timing
from agent.host.memory import free_bytes
from agent.listeners import Listener
from agent.models import trial_process
from agent.models.admission import Admission
from agent.models.folder import ModelFolder
from agent.models.history import History
from agent.models.loader import Loader
from agent.models.manager import ModelManager
from agent.models.policy import Rules, Times
from agent.models.store import Store, write_durably
from agent.models.trial import Trial, TrialReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.classification import ModelIdentity
    from agent.errors import ModelError
    from agent.listeners import TrialOutcome, WithdrawalCause
    from agent.model_file.settings import ModelSettings
    from agent.models.acceleration import Selector
    from agent.models.admission import Signatures
    from agent.models.copying import Copy
    from agent.models.loader import LoadedModel
    from agent.models.tree import Tree
    from agent.models.versions import Version
    from agent.security.minisign import TrustedKeys
    from agent.status import ModelStatus

LONG_S = 60.0
AT_ONCE = Times(rest_s=0, patience_s=0, rescan_s=LONG_S, retire_after_s=LONG_S)
AS_USUAL = Rules()
ONE, TWO, THREE, FOUR = (digits(str(number)) for number in (1, 2, 3, 4))


class InProcessTrial(Trial):
    """The real trial without its process, which takes 0.5 s to start; tests/models/test_trial.py covers that."""

    def __init__(self, **reported: Any) -> None:
        """`reported` replaces measured values of the report."""
        super().__init__(threads=1)
        self._reported = reported
        self.runs: list[Path] = []

    def run(self, path: Path, overrides: ModelSettings) -> TrialReport:
        self.runs.append(path)
        order = {"path": str(path), "overrides": overrides.to_json(), "threads": 1, "tensorflow": {}}
        return TrialReport.read({**trial_process.try_out(order), **self._reported})


class HookedStore(Store):
    """The real store with hooks, which are called with the path or the SHA-256 and may raise."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        super().__init__(folder, max_bytes=max_bytes)
        self.before_put: Callable[[Path], object] = nothing
        self.after_put: Callable[[Path], object] = nothing
        self.before_read: Callable[[str], object] = nothing

    def put(self, source: Path, *, root: Path | None = None) -> Copy:
        self.before_put(source)
        copy = super().put(source, root=root)
        self.after_put(source)
        return copy

    def put_folder(self, source: Path, tree: Tree, *, root: Path | None = None) -> Copy:
        self.before_put(source)
        copy = super().put_folder(source, tree, root=root)
        self.after_put(source)
        return copy

    def read(self, sha256: str) -> bytes | Path:
        self.before_read(sha256)
        return super().read(sha256)


class HookedLoader(Loader):
    """The real loader with a hook, which is called with the version and may raise."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.before_load: Callable[[Version], object] = nothing

    def load(self, name: str, version: Version) -> LoadedModel:
        self.before_load(version)
        return super().load(name, version)


class Managed(Listener):
    """The manager, and its recorded events. A second one with the same folders acts as the agent's next start."""

    def __init__(
        self,
        folder: Path,
        *,
        times: Times = AT_ONCE,
        rules: Rules = AS_USUAL,
        trial: InProcessTrial | None = None,
        workers: int = 1,
        settings: dict[str, ModelSettings] | None = None,
        signatures: Signatures = "off",
        keys: TrustedKeys | None = None,
        models: ModelFolder | None = None,
        write: Callable[[Path, bytes], None] = write_durably,
        memory: Callable[[], int] = free_bytes,
        selector: Selector | None = None,
    ) -> None:
        """`models` replaces the list and watch of the folder; `memory` returns the free bytes."""
        self.folder, self.state = folder, folder.parent / "state"
        self.statuses: list[ModelStatus] = []
        self.loads: list[tuple[str, str]] = []
        self.rollbacks: list[tuple[str, str]] = []
        self.gaps: list[tuple[str, float]] = []
        self._changed = asyncio.Event()
        self.store = HookedStore(self.state / "copies", max_bytes=1 << 24)
        self.history = History(self.state / "history.json", write=write)
        self.trial = trial or InProcessTrial()
        self.loader = HookedLoader(
            store=self.store,
            workers=workers,
            threads=1,
            settings=settings,
            signers=keys if signatures == "required" else None,
            free_bytes=memory,
        )
        self.manager = ModelManager(
            folder=models or ModelFolder(folder),
            store=self.store,
            history=self.history,
            admission=Admission(
                store=self.store,
                trial=self.trial,
                workers=workers,
                unloads_first=rules.unloads_first,
                settings=settings,
                signatures=signatures,
                keys=keys,
                free_bytes=memory,
            ),
            loader=self.loader,
            rules=rules,
            listener=self,
            times=times,
            selector=selector,
        )

    def model_changed(self, status: ModelStatus) -> None:
        self.statuses.append(status)
        self._changed.set()

    def model_tried(self, model: str, outcome: TrialOutcome) -> None:
        self.loads.append((model, outcome))

    def version_withdrawn(self, model: str, cause: WithdrawalCause) -> None:
        self.rollbacks.append((model, cause))

    def swap_gap(self, model: str, seconds: float) -> None:
        self.gaps.append((model, seconds))

    async def start(self) -> None:
        """Starts as the service does: with the versions that served before, or the files in the folder."""
        await self.manager.start()
        if not self.manager.served:
            wait_s = await self.reconcile()
            if wait_s < 1:
                await asyncio.sleep(wait_s)
                await self.reconcile()

    async def reconcile(self) -> float:
        return await self.manager.reconcile()

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 30) -> None:
        async def wait() -> None:
            while not condition():
                await self._changed.wait()
                self._changed.clear()

        await asyncio.wait_for(wait(), timeout_s)

    def status(self, name: str = "m") -> ModelStatus:
        return next(status for status in self.manager.statuses if status.name == name)

    def identity(self, name: str = "m") -> ModelIdentity:
        return self.manager.get(name).identity

    def version(self, name: str = "m") -> int | None:
        served = self.manager.served.get(name)
        return served.identity.version if served else None

    def canary(self, name: str = "m") -> int | None:
        served = self.manager.canaries.get(name)
        return served.identity.version if served else None

    def reason(self, name: str = "m") -> str:
        rejection = self.status(name).rejection
        return rejection.reason if rejection else ""

    def label(self, name: str = "m") -> str:
        classifier = self.manager.get(name).loaded.classifiers[0]
        scores, _ = classifier.scores(photo_of_3())
        return scores.best(1)[0].label

    def states(self, name: str = "m") -> dict[int, Any]:
        return {version.version: version.state for version in self.status(name).versions}

    def copies(self) -> set[str]:
        """The SHA-256 of each stored copy, and the full names of other files in the store."""
        return {path.name.removesuffix(".tflite") for path in self.store.folder.iterdir()}


@asynccontextmanager
async def following(managed: Managed) -> AsyncIterator[None]:
    """Runs the manager, which follows its folder."""
    task = asyncio.create_task(managed.manager.run(), name="models")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), task.exception()


def drop(folder: Path, content: bytes, name: str = "m") -> None:
    write_whole(folder / f"{name}.tflite", content)


def put(folder: Path, version: int, content: bytes) -> None:
    """Writes a version in the folder layout of TensorFlow Serving."""
    (folder / "m" / str(version)).mkdir(parents=True, exist_ok=True)
    write_whole(folder / "m" / str(version) / "model.tflite", content)


async def dropped(folder: Path, *contents: bytes, **options: Any) -> Managed:
    """Returns a manager after each of `contents` was dropped and passed its probation."""
    managed = Managed(folder, **options)
    await managed.start()
    for content in contents:
        drop(folder, content)
        await managed.reconcile()
        await prove(managed)
    return managed


async def prove(managed: Managed) -> None:
    """Lets every loaded version pass its probation."""
    for served in (*managed.manager.served.values(), *managed.manager.canaries.values()):
        for _ in range(100):
            managed.manager.observe(served, answer())
    await decided()


async def next_start(managed: Managed, **options: Any) -> Managed:
    """Starts again after a clean stop."""
    await managed.manager.close()
    return await start_after_crash(managed, **options)


async def start_after_crash(managed: Managed, **options: Any) -> Managed:
    again = Managed(managed.folder, **options)
    await again.start()
    return again


def simulate_power_cut(managed: Managed) -> None:
    """Changes the boot id in the history, as if a power cut had ended the last run."""
    path = managed.state / "history.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "boot": "of another time"}))


def answer(ms: float = 1.0) -> Timing:
    return Timing(0, 0, ms, ms, cpu=ms)


def observe(managed: Managed, *outcomes: Timing | ModelError) -> None:
    for outcome in outcomes:
        managed.manager.observe(managed.manager.get("m"), outcome)


async def decided() -> None:
    """Waits until the decisions that observed inferences triggered are complete."""
    while tasks := {task for task in asyncio.all_tasks() if task.get_name() == "models-decision"}:
        await asyncio.wait(tasks)


def nothing(_: object) -> None:
    """A hook that does nothing."""


def refuse(error: Exception, *, number: int | None = None) -> Callable[[Any], None]:
    """Returns a hook that raises `error`; with `number`, only for that version."""

    def hook(what: Any) -> None:
        if number is None or what.number == number:
            raise error

    return hook


def times(**changes: Any) -> Times:
    return dataclasses.replace(AT_ONCE, **changes)
