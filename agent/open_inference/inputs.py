"""Inputs: the input of a request as the instances that the data plane takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from agent.errors import TensorError
from agent.open_inference.tensors import BYTES, datatype_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.open_inference.tensors import Array, Header, Values
    from agent.runtimes.serving_signature import ServedTensor

_FLOATS = ("FP16", "FP32", "FP64", "BF16")


def check_input(header: Header, takes: ServedTensor) -> None:
    """Raises TensorError if the model cannot take such a tensor, whatever its values are."""
    if header.name not in (takes.name, takes.tensor):
        raise TensorError(f"The model has no input {header.name[:80]!r}. Its input is {takes.name!r}.")
    if header.datatype == BYTES:
        if header.shape[1:] not in ((), (1,)) or not header.shape:
            raise TensorError(f"{header} has the shape {list(header.shape)}; images as BYTES have [-1] or [-1, 1].")
        return
    expected = datatype_of(takes.dtype)
    if expected == BYTES:
        raise TensorError(f"{header} has the datatype {header.datatype}; the model takes encoded images as {BYTES}.")
    if header.datatype != expected and not (expected == "FP32" and header.datatype in _FLOATS):
        raise TensorError(
            f"{header} has the datatype {header.datatype}; the model takes {expected}, or encoded images as {BYTES}."
        )
    if header.shape[1:] != takes.shape or not header.shape:
        raise TensorError(f"{header} has the shape {list(header.shape)}; the model takes {[-1, *takes.shape]}.")


def instances(header: Header, values: Values, takes: ServedTensor) -> Sequence[bytes | Array]:
    """One tensor per image, or one encoded image per element of BYTES. Raises what check_input() raises."""
    check_input(header, takes)
    if header.datatype == BYTES:
        return cast("list[bytes]", values)
    with np.errstate(over="ignore"):  # infinity is refused later
        return list(cast("Array", values).astype(takes.dtype, copy=False))
