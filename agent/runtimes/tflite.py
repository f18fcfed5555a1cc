"""TFLite: a classifier that uses one TFLite interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import ModelError
from agent.runtimes.classifier import Classifier
from agent.runtimes.interpreter import complaints_translated, open_interpreter, runtime, unknown_operator

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from agent.model_file.metadata import ModelFile
    from agent.model_file.settings import ModelSettings


class TFLiteClassifier(Classifier):
    """One interpreter and the indices of its tensors."""

    def __init__(self, model: ModelFile, settings: ModelSettings, *, threads: int) -> None:
        """Raises ModelError as Classifier does, and if the runtime refuses the model."""
        for operator in model.operators:
            if operator.custom and (operator.custom.startswith("Flex") or operator.custom == "edgetpu-custom-op"):
                raise ModelError(unknown_operator(operator.custom))
        super().__init__(model.inputs, model.outputs, settings)
        self._threads = threads
        self._interpreter = open_interpreter(model.content, threads=threads)
        with complaints_translated():
            self._input_index = self._interpreter.get_input_details()[0]["index"]
            self._output_index = self._interpreter.get_output_details()[0]["index"]

    @property
    def ran_on(self) -> str:
        return f"{runtime()}, {self._threads} thread{'' if self._threads == 1 else 's'}"

    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        with complaints_translated():
            self._interpreter.set_tensor(self._input_index, tensor)
            self._interpreter.invoke()
            raw: npt.NDArray[np.generic] = self._interpreter.get_tensor(self._output_index).reshape(-1)
            return raw
