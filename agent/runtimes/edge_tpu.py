"""Edge TPU: the model in a Coral Edge TPU, by its delegate library. Opened only in the accelerator's process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import AcceleratorError
from agent.host.library import find_library
from agent.runtimes.interpreter import import_runtime
from agent.text import printable, shortened

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.model_file.metadata import ModelFile

    Array = npt.NDArray[np.generic]

_LIBRARY = "libedgetpu.so.1"
_OPERATOR = "edgetpu-custom-op"


def needs_edge_tpu(model: ModelFile) -> bool:
    """Whether edgetpu_compiler made it: no other hardware can compute it, and the Edge TPU computes no other model."""
    return any(operator.custom == _OPERATOR for operator in model.operators)


def edge_tpu_library() -> str | None:
    """The path of the delegate's library; None if it is not installed."""
    path = find_library(_LIBRARY)
    return str(path) if path else None


class EdgeTpuModel:
    is_whole = True

    def __init__(self, content: bytes, *, library: str) -> None:
        """Raises AcceleratorError."""
        runtime = import_runtime()
        try:
            delegate = runtime.load_delegate(library)
        except (OSError, ValueError, AttributeError) as error:  # no library, refused by it, another kind of library
            why = shortened(printable(str(error)))
            raise AcceleratorError(
                f"{library} found no Edge TPU or cannot be loaded{f' ({why})' if why else ''}"
            ) from error
        try:
            self._interpreter = runtime.Interpreter(model_content=content, experimental_delegates=[delegate])
            self._interpreter.allocate_tensors()
            (taken,) = self._interpreter.get_input_details()
            given = self._interpreter.get_output_details()
        except (RuntimeError, ValueError, MemoryError) as error:
            raise AcceleratorError(f"it refuses the model: {_words(error)}") from error
        self._input, self._outputs = taken["index"], [output["index"] for output in given]
        self.input, self.outputs = _form(taken), [_form(output) for output in given]
        self._shape = tuple(taken["shape"])

    def run(self, tensor: Array) -> list[Array]:
        """Raises AcceleratorError."""
        try:
            self._interpreter.set_tensor(self._input, tensor.reshape(self._shape))
            self._interpreter.invoke()
            return [np.asarray(self._interpreter.get_tensor(index)) for index in self._outputs]
        except (RuntimeError, ValueError, MemoryError) as error:
            raise AcceleratorError(_words(error)) from error


def _words(error: Exception) -> str:
    return shortened(printable(str(error) or type(error).__name__))


def _form(details: dict[str, Any]) -> tuple[int, np.dtype[Any]]:
    return int(np.prod(details["shape"])), np.dtype(details["dtype"])
