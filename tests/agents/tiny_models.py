"""Tiny models: writes .tflite files of a few operators, whose weights follow from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9}
# BuiltinOperator, and the member of BuiltinOptions with the fields that it needs (schema.fbs)
ADD, CONCATENATION, DEQUANTIZE, FULLY_CONNECTED, LOGISTIC = 0, 2, 6, 9, 14
MUL, RELU6, RESHAPE, SOFTMAX, TANH, GATHER, TRANSPOSE, MEAN = 18, 21, 22, 25, 28, 36, 39, 40
MAXIMUM, MINIMUM, QUANTIZE, LSTM, DIV = 55, 57, 114, 44, 42
_SOFTMAX_OPTIONS, _FULLY_CONNECTED_OPTIONS, _CONCATENATION_OPTIONS, _ADD_OPTIONS = 9, 8, 10, 11
_MUL_OPTIONS, _GATHER_OPTIONS, _REDUCER_OPTIONS = 21, 23, 27


class TinyModel:
    """Each method adds a tensor or an operator and returns the number of the tensor it makes."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._builder = flatbuffers.Builder(1 << 12)
        self._shapes: list[tuple[int, ...]] = []
        self._tensors: list[int] = []
        self._buffers = [self._table({})]
        self._codes: list[int] = []
        self._operators: list[int] = []
        self._inputs: list[int] = []

    def image(self, *shape: int, dtype: str = "float32", scale: float = 0.0, zero_point: int = 0) -> int:
        self._inputs.append(self._tensor(shape, dtype, name="image", scale=scale, zero_point=zero_point))
        return self._inputs[-1]

    def constant(self, values: Any, dtype: type = np.float32) -> int:
        array: Array = np.asarray(values, dtype)
        return self._tensor(array.shape, array.dtype.name, content=array.tobytes())

    def dense(self, given: int, count: int, *, spread: float = 2.0) -> int:
        """`count` values per row, from random weights."""
        rows, width = self._shapes[given]
        weights = self.constant(self._rng.normal(0, spread, (count, width)))
        bias = self.constant(self._rng.normal(0, spread, count))
        return self.operator(
            FULLY_CONNECTED, [given, weights, bias], (rows, count), options=(_FULLY_CONNECTED_OPTIONS, {})
        )

    def pooled(self, given: int, axes: Sequence[int], shape: Sequence[int]) -> int:
        """The mean over `axes`, with the shape that remains."""
        axis = self.constant(axes, np.int32)
        return self.operator(MEAN, [given, axis], shape, options=(_REDUCER_OPTIONS, {}))

    def reshaped(self, given: int, *shape: int) -> int:
        """Without `shape` a scalar."""
        return self.operator(RESHAPE, [given, self.constant(shape, np.int32)], shape)

    def transposed(self, given: int, axes: Sequence[int]) -> int:
        shape = [self._shapes[given][axis] for axis in axes]
        return self.operator(TRANSPOSE, [given, self.constant(axes, np.int32)], shape)

    def softmax(self, given: int) -> int:
        return self.operator(SOFTMAX, [given], self._shapes[given], options=(_SOFTMAX_OPTIONS, {0: ("float", 1.0)}))

    def sigmoid(self, given: int) -> int:
        return self.operator(LOGISTIC, [given], self._shapes[given])

    def scaled(self, given: int, factor: float) -> int:
        return self.operator(MUL, [given, self.constant([factor])], self._shapes[given], options=(_MUL_OPTIONS, {}))

    def added(self, one: int, other: int) -> int:
        return self.operator(ADD, [one, other], self._shapes[one], options=(_ADD_OPTIONS, {}))

    def joined(self, parts: Sequence[int]) -> int:
        rows = self._shapes[parts[0]][0]
        shape = (rows, sum(self._shapes[part][1] for part in parts))
        return self.operator(CONCATENATION, parts, shape, options=(_CONCATENATION_OPTIONS, {0: ("int", 1)}))

    def picked(self, given: int, columns: Sequence[int]) -> int:
        shape = (self._shapes[given][0], len(columns))
        chosen = self.constant(columns, np.int32)
        return self.operator(GATHER, [given, chosen], shape, options=(_GATHER_OPTIONS, {0: ("int", 1)}))

    def quantized(self, given: int, dtype: str, scale: float, zero_point: int) -> int:
        return self.operator(QUANTIZE, [given], self._shapes[given], dtype=dtype, scale=scale, zero_point=zero_point)

    def dequantized(self, given: int) -> int:
        return self.operator(DEQUANTIZE, [given], self._shapes[given])

    def operator(
        self,
        code: int,
        inputs: Sequence[int],
        shape: Sequence[int],
        *,
        options: tuple[int, dict[int, tuple[str, Any]]] | None = None,
        **tensor: Any,
    ) -> int:
        made = self._tensor(shape, tensor.pop("dtype", "float32"), **tensor)
        self._codes.append(code)
        fields: dict[int, tuple[str, Any]] = {
            0: ("uint", len(self._codes) - 1),
            1: ("part", self._ints(inputs)),
            2: ("part", self._ints([made])),
        }
        if options is not None:
            fields |= {3: ("byte", options[0]), 4: ("part", self._table(options[1]))}
        self._operators.append(self._table(fields))
        return made

    def finish(self, *outputs: int, names: Sequence[str] = ()) -> bytes:
        """`names` are those of the outputs in the signature."""
        codes = [self._table({0: ("byte", code), 2: ("int", 1), 3: ("int", code)}) for code in self._codes]
        graph = self._table(
            {
                0: ("part", self._parts(self._tensors)),
                1: ("part", self._ints(self._inputs)),
                2: ("part", self._ints(outputs)),
                3: ("part", self._parts(self._operators)),
            }
        )
        maps = [
            self._table({0: ("part", self._builder.CreateString(name)), 1: ("uint", index)})
            for name, index in (("image", self._inputs[0]), *zip(names, outputs, strict=False))
        ]
        key = self._builder.CreateString("serving_default")
        given, answered = self._parts(maps[:1]), self._parts(maps[1:])
        signature = self._table({0: ("part", given), 1: ("part", answered), 2: ("part", key)})
        model = {1: self._parts(codes), 2: self._parts([graph]), 4: self._parts(self._buffers)}
        if names:
            model[7] = self._parts([signature])
        root = self._table({0: ("uint", 3)} | {field: ("part", part) for field, part in model.items()})
        self._builder.Finish(root, b"TFL3")
        return bytes(self._builder.Output())

    def _tensor(
        self,
        shape: Sequence[int],
        dtype: str,
        *,
        name: str = "",
        content: bytes = b"",
        scale: float = 0.0,
        zero_point: int = 0,
    ) -> int:
        fields: dict[int, tuple[str, Any]] = {
            0: ("part", self._ints(shape)),
            1: ("byte", _TYPES[dtype]),
            8: ("byte", 1),  # has_rank
            3: ("part", self._builder.CreateString(name or f"tensor{len(self._shapes)}")),
        }
        if content:
            self._builder.Prep(16, len(content))
            self._buffers.append(self._table({0: ("part", self._builder.CreateByteVector(content))}))
            fields[2] = ("uint", len(self._buffers) - 1)
        if scale:
            scales = self._builder.CreateNumpyVector(np.array([scale], np.float32))
            zeros = self._builder.CreateNumpyVector(np.array([zero_point], np.int64))
            fields[4] = ("part", self._table({2: ("part", scales), 3: ("part", zeros)}))
        self._tensors.append(self._table(fields))
        self._shapes.append(tuple(shape))
        return len(self._shapes) - 1

    def _ints(self, values: Sequence[int]) -> int:
        return int(self._builder.CreateNumpyVector(np.array(values, np.int32)))

    def _parts(self, parts: Sequence[int]) -> int:
        self._builder.StartVector(4, len(parts), 4)
        for part in reversed(parts):
            self._builder.PrependUOffsetTRelative(part)
        return int(self._builder.EndVector())

    def _table(self, fields: dict[int, tuple[str, Any]]) -> int:
        builder = self._builder
        prepend = {
            "part": builder.PrependUOffsetTRelativeSlot,
            "byte": builder.PrependUint8Slot,
            "int": builder.PrependInt32Slot,
            "uint": builder.PrependUint32Slot,
            "float": builder.PrependFloat32Slot,
        }
        builder.StartObject(1 + max(fields, default=-1))
        for field, (kind, value) in fields.items():
            prepend[kind](field, value, None if kind != "part" else 0)
        return int(builder.EndObject())


def percent_model() -> bytes:
    """Three labels; the scores add up to 100. Without metadata: it needs labels, mean and std."""
    model = TinyModel()
    features = model.pooled(model.image(1, 8, 8, 3), (1, 2), (1, 3))
    return model.finish(model.scaled(model.softmax(model.dense(features, 3)), 100))
