"""Edge TPU classifier: a classifier for a model that only a Coral Edge TPU can compute."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from agent.errors import AcceleratorError, ModelError
from agent.runtimes.accelerator import Accelerator
from agent.runtimes.classifier import Classifier
from agent.runtimes.interpreter import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from agent.model_file.metadata import ModelFile
    from agent.model_file.settings import ModelSettings

    Array = npt.NDArray[np.generic]

_RETRY_S = 5.0
_REOPEN_S = 20.0  # a worker waits for it; after a minute, the watchdog would restart the agent


class EdgeTpu:
    """One model in the Edge TPU, for all workers. After a failure it is opened again, 5 s after the last attempt."""

    def __init__(self, model: ModelFile, *, library: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes seconds. Raises ModelError if the Edge TPU cannot be used."""
        self._model = model
        self._library = library
        self._clock = clock
        self._opening = threading.Lock()  # two workers must not open it at the same time
        self._opened_s = clock()
        self.failure: str | None = None
        try:
            self._accelerator = Accelerator("edgetpu", model, library=library)
        except AcceleratorError as error:
            raise ModelError(
                f"The model is compiled for the Coral Edge TPU, which cannot be used: {error}. Connect it and drop the "
                "file again, or drop the .tflite file it was compiled from (the one without _edgetpu in its name)."
            ) from error

    def compute(self, tensor: Array) -> tuple[Array, ...]:
        """Raises ModelError: there is nothing else that could compute the model."""
        try:
            computed = self._opened().compute(tensor)
        except AcceleratorError as error:
            self.failure = str(error)
            raise ModelError(
                f"The Edge TPU failed: {error}. Check its connection; the agent opens it again automatically."
            ) from error
        self.failure = None
        return computed

    def _opened(self) -> Accelerator:
        with self._opening:
            if self._accelerator.failure is not None and self._clock() - self._opened_s >= _RETRY_S:
                try:
                    self._accelerator = Accelerator("edgetpu", self._model, library=self._library, open_s=_REOPEN_S)
                finally:  # not at its start: workers that waited for this attempt must not repeat it in turn
                    self._opened_s = self._clock()
            return self._accelerator


class EdgeTpuClassifier(Classifier):
    """Raises ModelError as Classifier does."""

    def __init__(self, model: ModelFile, settings: ModelSettings, tpu: EdgeTpu) -> None:
        super().__init__(model.inputs, model.outputs, settings)
        self._tpu = tpu
        self._all: tuple[Array, ...] = ()

    @property
    def ran_on(self) -> str:
        return f"{runtime()}, edgetpu"

    @property
    def accelerator(self) -> str:
        return "edgetpu"

    @property
    def accelerator_reason(self) -> str:
        failure = self._tpu.failure
        return f"The Edge TPU failed: {failure}." if failure else "The model is compiled for the Edge TPU."

    def _invoke(self, tensor: Array) -> Array:
        self._all = self._tpu.compute(tensor)
        return self._all[self.output_index]

    def _output(self, index: int) -> Array:
        return self._all[index].reshape(self._outputs[index].shape)
