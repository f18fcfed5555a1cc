"""Acceleration: moves versions that serve on the CPU to the GPU, if it computes them right and faster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from typing import TYPE_CHECKING

from agent.errors import AcceleratorError
from agent.model_file.metadata import ModelFile
from agent.models.choices import key_of
from agent.runtimes.accelerator import Accelerator
from agent.runtimes.compiled_model import has_gpu_runtime
from agent.runtimes.edge_tpu import needs_edge_tpu
from agent.runtimes.interpreter import runtime
from agent.runtimes.selection import Choice, select
from agent.runtimes.tflite import TFLiteClassifier
from agent.runtimes.vulkan import find_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.classification import ModelIdentity
    from agent.model_file.settings import ModelSettings
    from agent.models.accelerator_trial import AcceleratorTrial
    from agent.models.choices import Choices
    from agent.models.loader import LoadedModel
    from agent.models.serving import ServedModel
    from agent.runtimes.score_kind import SeenScores
    from agent.runtimes.selection import Wanted

log = logging.getLogger(__name__)


class Selector:
    """Chooses what computes a model. Blocks; one thread at a time."""

    def __init__(
        self,
        *,
        wanted: Wanted,
        trial: AcceleratorTrial,
        choices: Choices,
        threads: int,
        driver: Callable[[], str | None] = find_driver,
    ) -> None:
        """`driver` gives a text that changes with the driver; None if there is none."""
        self._wanted = wanted
        self._trial = trial
        self._choices = choices
        self._threads = threads
        self._driver = driver

    def choose(self, sha256: str, model: ModelFile, settings: ModelSettings, seen: SeenScores | None) -> Choice:
        """Takes seconds if the GPU has to be tried."""
        if self._wanted == "edgetpu":
            return Choice("cpu", "The model is not compiled for the Edge TPU. Compile it: edgetpu_compiler.")
        if not has_gpu_runtime():
            return self._without_gpu(f"{runtime()} cannot use a GPU. Install ai-edge-litert.")
        driver = self._driver()
        if driver is None:
            return self._without_gpu(
                "The agent may use no GPU here, or its Vulkan driver is missing. See docs/how-to/accelerators.md."
            )
        key = key_of(model=sha256, wanted=self._wanted, driver=driver, runtime=runtime(), threads=self._threads)
        if (known := self._choices.get(key)) is not None:
            return known
        try:
            choice = self._tried(model, settings, seen)
        except OSError as error:  # no memory or descriptors for a process, which another time may have
            return _unusable(error)
        self._choices.put(key, choice)
        return choice

    def _without_gpu(self, why: str) -> Choice:
        return Choice("cpu", why if self._wanted == "gpu" else None)

    def _tried(self, model: ModelFile, settings: ModelSettings, seen: SeenScores | None) -> Choice:
        try:
            return select(self._wanted, self._trial.run(model, settings, seen))
        except AcceleratorError as error:
            return _unusable(error)


class Acceleration:
    """Every version serves on the CPU first, so that no driver delays it. On the loop's thread."""

    def __init__(
        self,
        selector: Selector | None,
        *,
        served: Callable[[], Iterable[ServedModel]],
        announce: Callable[[str], None],
    ) -> None:
        """Without a selector, everything stays where it is. `announce` is called with the model's name after a move."""
        self._selector = selector
        self._served = served
        self._announce = announce
        self._changed = asyncio.Event()
        self._placed: weakref.WeakSet[LoadedModel] = weakref.WeakSet()

    def look(self) -> None:
        """To be called after each swap."""
        self._changed.set()

    async def run(self) -> None:
        """Until canceled. One version at a time: two trials would disturb each other's times."""
        if self._selector is None:
            return
        while True:
            await self._changed.wait()
            self._changed.clear()
            while (found := self._next()) is not None:
                await self._place(*found)

    def _next(self) -> tuple[ModelIdentity, weakref.ref[LoadedModel]] | None:
        """A version that was not placed yet; a weak reference, because a swap may wait for its memory."""
        for served in self._served():
            if served.loaded not in self._placed:
                self._placed.add(served.loaded)
                return served.identity, weakref.ref(served.loaded)
        return None

    async def _place(self, identity: ModelIdentity, loaded: weakref.ref[LoadedModel]) -> None:
        if (facts := _facts(loaded())) is None or self._selector is None:
            return
        model, settings, seen = facts
        choice = await asyncio.to_thread(self._selector.choose, identity.sha256, model, settings, seen)
        accelerator = None
        if choice.accelerator == "gpu" and loaded() is not None:
            try:
                accelerator = await asyncio.to_thread(Accelerator, "gpu", model)
            except AcceleratorError as error:
                choice = _unusable(error)
        if (still := loaded()) is not None:
            self._move(identity, still, accelerator, choice)

    def _move(
        self, identity: ModelIdentity, loaded: LoadedModel, accelerator: Accelerator | None, choice: Choice
    ) -> None:
        if accelerator is not None:
            accelerator.on_failure = self._when_failed(identity, asyncio.get_running_loop())
        for classifier in loaded.classifiers:
            if isinstance(classifier, TFLiteClassifier):
                classifier.place(accelerator, choice.reason)
        if choice.reason is not None:
            where = "GPU" if accelerator else "CPU"
            what = (identity.name, identity.version, where, choice.reason)
            log.info("Model %s version %d runs on the %s. %s", *what, extra={"model": identity.name})
        self._announce(identity.name)

    def _when_failed(self, identity: ModelIdentity, loop: asyncio.AbstractEventLoop) -> Callable[[str], None]:
        def report(reason: str) -> None:
            log.warning(
                "The GPU failed while it computed model %s version %d: %s. The CPU computes it from now on.",
                identity.name,
                identity.version,
                reason,
                extra={"model": identity.name},
            )
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._announce, identity.name)

        return report


def _unusable(error: Exception) -> Choice:
    return Choice("cpu", f"The GPU cannot be used: {error}.")


def _facts(loaded: LoadedModel | None) -> tuple[ModelFile, ModelSettings, SeenScores | None] | None:
    """None for what no GPU of LiteRT computes: a SavedModel, a model for an Edge TPU, or a batch of several images."""
    if loaded is None or not isinstance(loaded.model, ModelFile) or needs_edge_tpu(loaded.model):
        return None
    first = loaded.classifiers[0]
    return (loaded.model, loaded.settings, first.seen) if first.layout.batch == 1 else None
