"""TFLite: a classifier that uses one TFLite interpreter, and a GPU if it is given one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent.errors import AcceleratorError, ModelError
from agent.model_file.layout import not_a_picture
from agent.runtimes.accelerator import DEVICE_NAMES
from agent.runtimes.classifier import Classifier
from agent.runtimes.interpreter import complaints_translated, open_interpreter, runtime, unknown_operator

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.model_file.metadata import ModelFile
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.accelerator import Accelerator
    from agent.runtimes.interpreter import Interpreter

# Builtin operators. Those of sequences read one step after another: LSTM, RNN and SVDF in all forms, and WHILE.
_READ_VARIABLE, _ASSIGN_VARIABLE = 143, 144
_SEQUENCE = frozenset((16, 24, 27, 35, 44, 46, 52, 119))


class TFLiteClassifier(Classifier):
    """One interpreter and the indices of its tensors.

    Once it is placed on an accelerator, that computes instead, and the interpreter as soon as the accelerator fails.
    """

    def __init__(self, model: ModelFile, settings: ModelSettings, *, threads: int) -> None:
        """Raises ModelError as Classifier does, and if the runtime refuses the model."""
        _check_operators(model)
        super().__init__(model.inputs, model.outputs, settings)
        self._threads = threads
        self._placed: Accelerator | None = None
        self._reason: str | None = None
        self._computed: tuple[npt.NDArray[np.generic], ...] | None = None  # the outputs of an accelerator's last call
        if self.layout.batch == 1:
            self._interpreter = open_interpreter(model.content, threads=threads)
        else:
            self._interpreter = self._open_resized(model)
        with complaints_translated():
            self._input_index = self._interpreter.get_input_details()[0]["index"]
            self._indices = [output["index"] for output in self._interpreter.get_output_details()]
        self._output_index = self._indices[self.output_index]

    def _open_resized(self, model: ModelFile) -> Interpreter:
        """With a batch of 1, which a graph that contains its batch in other places refuses."""
        refusal = ModelError(
            f"The model takes a batch of {self.layout.batch} images, and the runtime cannot reduce it to 1. Export it "
            "with a batch of 1, or convert it from its SavedModel: edge-convert convert."
        )
        try:
            opened = open_interpreter(model.content, threads=self._threads, input_shape=self.layout.shape)
            with complaints_translated():
                shape = opened.get_output_details()[self.output_index]["shape"]
        except ModelError as error:
            raise refusal from error
        if np.prod(shape) != np.prod(self.output.shape):
            raise refusal
        return opened

    def place(self, accelerator: Accelerator | None, reason: str | None) -> None:
        """From the next call on; `reason` says why. Any thread. None is the CPU."""
        self._reason = reason
        self._placed = accelerator

    @property
    def ran_on(self) -> str:
        placed = self._placed
        if placed is not None and placed.failure is None:
            return f"{runtime()}, {placed.kind} ({placed.device})"
        return f"{runtime()}, cpu, {self._threads} thread{'' if self._threads == 1 else 's'}"

    @property
    def accelerator(self) -> str:
        placed = self._placed
        return placed.kind if placed is not None and placed.failure is None else "cpu"

    @property
    def accelerator_reason(self) -> str | None:
        placed = self._placed
        if placed is None or placed.failure is None:
            return self._reason
        return f"The {DEVICE_NAMES[placed.kind]} ({placed.device}) failed: {placed.failure}."

    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        placed = self._placed
        if placed is None or placed.failure is not None:
            return self._invoke_on_cpu(tensor)
        try:
            self._computed = placed.compute(tensor)
        except AcceleratorError:  # it has reported why
            return self._invoke_on_cpu(tensor)
        raw = self._computed[self.output_index]
        return raw if _is_finite(raw) else self._checked_on_cpu(tensor, placed)

    def _checked_on_cpu(self, tensor: npt.NDArray[np.generic], placed: Accelerator) -> npt.NDArray[np.generic]:
        """For an image for which the accelerator returned NaN or infinity."""
        raw = self._invoke_on_cpu(tensor)
        if _is_finite(raw):
            placed.fail("it returned NaN or infinity for an image for which the CPU does not")
        return raw

    def _invoke_on_cpu(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        self._computed = None
        with complaints_translated():
            self._interpreter.set_tensor(self._input_index, tensor)
            self._interpreter.invoke()
            raw: npt.NDArray[np.generic] = self._interpreter.get_tensor(self._output_index).reshape(-1)
            return raw

    def _output(self, index: int) -> npt.NDArray[np.generic]:
        if self._computed is not None:
            return self._computed[index].reshape(self._outputs[index].shape)
        values: npt.NDArray[np.generic] = self._interpreter.get_tensor(self._indices[index])
        return values


def _is_finite(raw: npt.NDArray[np.generic]) -> bool:
    return raw.dtype != np.float32 or bool(np.isfinite(raw).all())


def _check_operators(model: ModelFile) -> None:
    for operator in model.operators:
        if operator.custom and (operator.custom.startswith("Flex") or operator.custom == "edgetpu-custom-op"):
            raise ModelError(unknown_operator(operator.custom))
    codes = {operator.code for operator in model.operators}
    if codes & _SEQUENCE and len(model.inputs) == 1 and len(model.inputs[0].shape) == 3:
        raise not_a_picture(model.inputs[0], "which the model reads as a sequence")
    if _READ_VARIABLE in codes and _ASSIGN_VARIABLE not in codes:  # the runtime would read random memory
        raise ModelError(
            "The file has no weights: it reads variables that nothing sets, because they were lost in the conversion. "
            "Convert the model again: edge-convert convert."
        )
