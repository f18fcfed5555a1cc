"""Compiled model: a model that LiteRT's CompiledModel computes on a GPU. Only in the accelerator's process.

LiteRT's Python wrapper holds Python's lock until the GPU has finished.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import AcceleratorError
from agent.text import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

_MODULE = "ai_edge_litert.compiled_model"
_LIBRARY = "libLiteRtWebGpuAccelerator.so"


def has_gpu_runtime() -> bool:
    """Whether the installed runtime can compute on a GPU. Loads nothing."""
    try:
        found = importlib.util.find_spec(_MODULE)
    except ModuleNotFoundError:  # not even its package
        return False
    return found is not None and found.origin is not None and Path(found.origin).with_name(_LIBRARY).exists()


class GpuModel:
    def __init__(self, content: bytes, outputs: Sequence[Sequence[str]]) -> None:
        """`outputs` are the possible names of each output, in the order of run(). Raises AcceleratorError."""
        from ai_edge_litert.compiled_model import (  # noqa: PLC0415  (loads the GPU's runtime)
            CompiledModel,
            CpuOptions,
            HardwareAccelerator,
            Options,
        )

        # With the CPU, so that operators that the GPU lacks do not exclude the whole model.
        both = HardwareAccelerator.GPU | HardwareAccelerator.CPU
        try:
            self._model = CompiledModel.from_buffer(
                content, options=Options(hardware_accelerators=both, cpu_options=CpuOptions(num_threads=1))
            )
            self.is_whole = self._model.is_fully_accelerated()
            key = next(iter(self._model.get_signature_list()))
            (self._input,) = self._model.create_input_buffers(0)
            self._buffers = self._model.create_output_buffers(0)
            (taken,) = self._model.get_input_tensor_details(key).values()
            given = self._model.get_output_tensor_details(key)
            names = self._model.get_signature_list()[key]["outputs"]
        except (RuntimeError, ValueError, MemoryError) as error:
            raise AcceleratorError(shortened(printable(str(error) or type(error).__name__))) from error
        self._order = [_place(possible, names, given) for possible in outputs]
        self._forms = [_form(given[names[place]]) for place in self._order]
        self.input = _form(taken)
        self.outputs = self._forms

    def run(self, tensor: Array) -> list[Array]:
        """Raises AcceleratorError."""
        try:
            self._input.write(tensor)
            self._model.run_by_index(0, [self._input], self._buffers)
            return [
                self._buffers[place].read(count, dtype)
                for place, (count, dtype) in zip(self._order, self._forms, strict=True)
            ]
        except (RuntimeError, ValueError, MemoryError) as error:
            raise AcceleratorError(shortened(printable(str(error) or type(error).__name__))) from error


def _place(possible: Sequence[str], names: Sequence[str], details: dict[str, dict[str, Any]]) -> int:
    """Where an output is among those of the signature, which may be in another order than in the file."""
    for place, name in enumerate(names):
        if name in possible or details[name]["name"] in possible:
            return place
    raise AcceleratorError(f"the compiled model has no output {possible[0]}")


def _form(details: dict[str, Any]) -> tuple[int, np.dtype[Any]]:
    return int(np.prod(details["shape"])), np.dtype(details["dtype"])
