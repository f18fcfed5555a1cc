"""ServingSignature: the input and the outputs of a model, as clients of its SavedModel know them.

The agent runs one instance at a time, so the first side of every tensor is open: it is the number of instances.

| input in the file | clients send | and the agent |
|---|---|---|
| float32 | float32: what the model's training fed it | passes it on |
| int8 | float32: the same | quantizes it with the scale and zero point of the input |
| uint8 | uint8: pixels from 0 to 255 | passes them on |
| string | the bytes of an image file | passes them on; the model decodes them |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from agent.errors import TensorError
from agent.runtimes.scores import dequantized

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from agent.model_file.layout import Layout
    from agent.model_file.metadata import Tensor

    Array: TypeAlias = npt.NDArray[np.generic]

_SENT = frozenset(("float32", "uint8", "int8", "int16", "int32", "int64", "bool"))


@dataclass(frozen=True, slots=True)
class ServedTensor:
    """`name` is the one in the SavedModel's signature, if the file still has it; `tensor` is the one in the file.

    `shape` is that of one instance.
    """

    name: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServingSignature:
    """`outputs` begin with the one that has the scores. Clients may ask for its `logits` instead of the scores.

    `platform` is the format of the model in Triton's words: the project, then its format.
    """

    input: ServedTensor
    outputs: tuple[ServedTensor, ...]
    has_logits: bool
    platform: str

    @property
    def takes_files(self) -> bool:
        """The model decodes images itself: an instance is the content of an image file."""
        return self.input.dtype == "string"

    def check_input(self, instance: Array) -> None:
        """Raises TensorError if the model cannot take the tensor of one instance."""
        takes = self.input
        if self.takes_files:
            raise TensorError("The model takes encoded images, not tensors. Send the bytes of a JPEG or PNG file.")
        if instance.shape != takes.shape:
            raise TensorError(f"The tensor is {by(instance.shape)}; the model takes {by(takes.shape)}.")
        if instance.dtype != takes.dtype:
            raise TensorError(f"The tensor is {instance.dtype}; the model takes {takes.dtype}.")


def by(shape: Sequence[int]) -> str:
    """`224 x 224 x 3`."""
    return " x ".join(map(str, shape)) or "a single value"


def served_input(tensor: Tensor, layout: Layout) -> ServedTensor:
    shape = layout.shape[1:] if layout.axes[0] == "N" else layout.shape
    return ServedTensor(
        tensor.alias or tensor.name, tensor.name, "uint8" if tensor.dtype == "uint8" else "float32", shape
    )


def served_output(tensor: Tensor) -> ServedTensor | None:
    """`tensor` has the shape for one image. None for what clients cannot get: text, and a shape that depends on it."""
    if tensor.dtype not in _SENT or -1 in tensor.shape:
        return None
    dtype = "float32" if tensor.scale else tensor.dtype
    return ServedTensor(tensor.alias or tensor.name, tensor.name, dtype, _of_instance(tensor.shape))


def as_served(raw: Array, tensor: Tensor) -> Array:
    """An output of the runtime in the form that served_output() announces. Raises TensorError for another size."""
    if raw.size != math.prod(tensor.shape):
        raise TensorError(
            f"The output {tensor.alias or tensor.name} has {raw.size} values for this image, not "
            f"{math.prod(tensor.shape)}. Export the model with outputs of a fixed size."
        )
    values = dequantized(raw, tensor.scale, tensor.zero_point) if tensor.scale else raw
    return values.reshape(_of_instance(tensor.shape))


def _of_instance(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if shape[:1] == (1,) else shape
