"""Tensors: TensorFlow's TensorProto as arrays and encoded images, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.errors import TensorError
from agent.inference.data_plane import MAX_INSTANCES
from agent.rpc.packed import PackedFloats, PackedIntegers
from agent.rpc.protos import tf_serving_pb2 as tfs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from agent.runtimes.serving_signature import ServedTensor

    Array: TypeAlias = npt.NDArray[np.generic]

DTYPES = {
    "float32": tfs.DT_FLOAT,
    "uint8": tfs.DT_UINT8,
    "int8": tfs.DT_INT8,
    "int16": tfs.DT_INT16,
    "int32": tfs.DT_INT32,
    "int64": tfs.DT_INT64,
    "bool": tfs.DT_BOOL,
    "string": tfs.DT_STRING,
}
# What clients may send, and the field of its values. The model takes float32 or uint8.
_SENT: dict[int, tuple[np.dtype[Any], str, type[PackedFloats | PackedIntegers]]] = {
    tfs.DT_FLOAT: (np.dtype("<f4"), "float_val", PackedFloats),
    tfs.DT_DOUBLE: (np.dtype("<f8"), "double_val", PackedFloats),
    tfs.DT_HALF: (np.dtype("<f2"), "half_val", PackedIntegers),
    tfs.DT_UINT8: (np.dtype("u1"), "int_val", PackedIntegers),
}
_FIELDS = {"f": "float_val", "b": "bool_val", "u": "int_val", "i": "int_val"}  # of the outputs, by kind


def instances(name: str, tensor: tfs.SentTensor, takes: ServedTensor) -> Sequence[bytes | Array]:
    """The tensor or encoded image of each instance of the input `name`. Raises TensorError.

    The arrays may share the memory of the message.
    """
    if name not in (takes.name, takes.tensor):
        raise TensorError(f"The model has no input {name[:80]!r}. Its input is {takes.name!r}.")
    shape = _shape(tensor.tensor_shape)
    if tensor.dtype == tfs.DT_STRING:
        return _encoded_images(tensor, shape)
    expected = DTYPES[takes.dtype]
    if expected == tfs.DT_STRING:
        raise TensorError(f"The tensor is {_dtype_name(tensor.dtype)}; the model takes encoded images as DT_STRING.")
    if tensor.dtype not in ((tfs.DT_FLOAT, tfs.DT_DOUBLE, tfs.DT_HALF) if expected == tfs.DT_FLOAT else (expected,)):
        raise TensorError(
            f"The tensor is {_dtype_name(tensor.dtype)}; the model takes {_dtype_name(expected)}, or encoded images as "
            "DT_STRING."
        )
    if shape[1:] != takes.shape or not 1 <= shape[0] <= MAX_INSTANCES:  # before the values: one may stand for all
        raise TensorError(
            f"The tensor has the shape {list(shape)}; the model takes {[-1, *takes.shape]}, "
            f"with 1 to {MAX_INSTANCES} instances."
        )
    with np.errstate(over="ignore"):  # infinity is refused later
        return list(_values(tensor, shape).astype(takes.dtype, copy=False))


def proto_of(values: Array) -> tfs.Tensor:
    """With typed fields, as TensorFlow Serving answers: clients read `float_val` directly."""
    shape = tfs.TensorShape(dim=[tfs.TensorShape.Dim(size=side) for side in values.shape])
    tensor = tfs.Tensor(dtype=DTYPES[values.dtype.name], tensor_shape=shape)
    field = "int64_val" if values.dtype == np.int64 else _FIELDS[values.dtype.kind]
    getattr(tensor, field).extend(values.ravel().tolist())
    return tensor


def _shape(shape: tfs.TensorShape) -> tuple[int, ...]:
    sides = tuple(dim.size for dim in shape.dim)
    if shape.unknown_rank or min(sides, default=0) < 0:
        raise TensorError("The shape of the tensor is not known in full. State every side.")
    return sides


def _encoded_images(tensor: tfs.SentTensor, shape: tuple[int, ...]) -> Sequence[bytes]:
    count, images = math.prod(shape), tensor.string_val
    if shape[1:] not in ((), (1,)) or len(images) != count:
        raise TensorError(
            f"The tensor of encoded images has the shape {list(shape)} and {len(images)} values in string_val. "
            "Send the shape [n], or [], and one value per image."
        )
    return list(images)


def _values(tensor: tfs.SentTensor, shape: tuple[int, ...]) -> Array:
    """Either all values in tensor_content, or all in the field of their type; a single one there stands for all."""
    dtype, field, kind = _SENT[tensor.dtype]
    count = math.prod(shape)
    if content := tensor.tensor_content:  # each look copies it
        expected = count * dtype.itemsize
        if len(content) != expected:
            raise TensorError(
                f"tensor_content has {len(content)} bytes, but the shape {list(shape)} of "
                f"{_dtype_name(tensor.dtype)} takes {expected}."
            )
        return np.frombuffer(content, dtype).reshape(shape)
    packed = kind(getattr(tensor, field), np.dtype("<u2") if dtype == np.float16 else dtype)  # half_val has the bits
    given = len(packed)
    if given not in (1, count):
        raise TensorError(
            f"{field} has {given} values, but the shape {list(shape)} takes {count}, or one value for all."
        )
    values = packed.array().view(dtype)
    return np.broadcast_to(values, shape) if given == 1 else values.reshape(shape)


def _dtype_name(dtype: int) -> str:
    return str(tfs.DataType.Name(dtype)) if dtype in tfs.DataType.values() else f"type {dtype}"
