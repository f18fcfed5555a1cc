"""Tensors: the tensors of the Open Inference Protocol (v2), and the two forms in which clients send their values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.errors import TensorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.generic]
    Values: TypeAlias = Array | list[bytes] | list[str]

BYTES = "BYTES"
DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),  # NumPy has no such type: the upper half of an FP32
}
_MAX_AXES = 8
_JSON_TYPES: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}  # by kind
_JSON_NAMES = {
    bool: "true or false",
    int: "a number",
    float: "a fraction",
    str: "a string",
    type(None): "null",
    dict: "an object",
    list: "a list",
}


@dataclass(frozen=True, slots=True)
class Header:
    """What a client says about one tensor. Raises TensorError."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.datatype != BYTES and self.datatype not in DTYPES:
            known = ", ".join([*DTYPES, BYTES])
            raise TensorError(f"{self} has the unknown datatype {self.datatype[:40]!r}. Use one of {known}.")
        if len(self.shape) > _MAX_AXES:
            raise TensorError(f"The shape of {self} has {len(self.shape)} sides; {_MAX_AXES} are possible.")
        for side in self.shape:
            if not 1 <= side < 1 << 63:
                raise TensorError(f"A side of {self} is {str(side)[:40]}. Send at least one image, of a possible size.")

    def __str__(self) -> str:
        return f"Tensor {self.name[:80]!r}"

    @property
    def count(self) -> int:
        """How many values the shape promises."""
        return math.prod(self.shape)

    def values_from_raw(self, content: bytes | memoryview) -> Array | list[bytes]:
        """`content` is the binary form: little-endian, by rows; each element of BYTES after its length in 4 bytes.

        The array has the shape. It may share the memory of `content`.
        """
        if self.datatype == BYTES:
            return self._elements(memoryview(content))
        dtype = DTYPES[self.datatype]
        expected = self.count * dtype.itemsize
        if len(content) != expected:
            raise TensorError(
                f"{self} has {len(content)} bytes, but {list(self.shape)} of {self.datatype} takes {expected}."
            )
        if self.datatype == "BOOL":
            return np.not_equal(np.frombuffer(content, np.uint8), 0).reshape(self.shape)
        values: Array = np.frombuffer(content, dtype).reshape(self.shape)
        if self.datatype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values

    def values_from_list(self, data: Sequence[Any]) -> Array | list[str]:
        """`data` is a list of the values by rows, or nested like the shape. Elements of BYTES are text here."""
        nesting, values = _flattened(data)
        if len(values) != self.count or (len(nesting) > 1 and nesting != self.shape):
            raise TensorError(
                f"{self} has the shape {list(self.shape)}, but its data has the shape {list(nesting)}. "
                "Send the values in one list, or nested like the shape."
            )
        dtype = np.dtype("<f4") if self.datatype == "BF16" else DTYPES.get(self.datatype)
        self._check_types(values, (str,) if dtype is None else _JSON_TYPES[dtype.kind])
        if dtype is None:
            return values
        if dtype.kind in "iu":
            self._check_range(values, np.iinfo(dtype))
        try:
            with np.errstate(over="ignore"):  # 1e39 becomes infinity
                return np.array(values, np.float64 if dtype.kind == "f" else dtype).astype(dtype).reshape(self.shape)
        except OverflowError:  # an integer of more than 308 digits
            raise TensorError(f"{self} has a number that is not possible in {self.datatype}.") from None

    def _check_types(self, values: Sequence[Any], possible: tuple[type, ...]) -> None:
        for kind in set(map(type, values)) - set(possible):
            raise TensorError(f"{self} has the datatype {self.datatype}, but a value is {_JSON_NAMES[kind]}.")

    def _check_range(self, values: Sequence[int], limits: np.iinfo[Any]) -> None:
        for value in (min(values), max(values)):
            if not limits.min <= value <= limits.max:
                raise TensorError(f"{self} has the value {str(value)[:40]}, which is not possible in {self.datatype}.")

    def _elements(self, content: memoryview) -> list[bytes]:
        if self.count * 4 > len(content):
            raise TensorError(f"{self} has {len(content)} bytes, which is too few for {self.count} elements.")
        elements, start = [], 0
        for number in range(1, self.count + 1):
            length = int.from_bytes(content[start : start + 4], "little")
            start += 4 + length
            if start > len(content):
                raise TensorError(
                    f"Element {number} of {self} states {length} bytes, which is more than follow. "
                    "Put the length of each element before it, as 4 bytes, little-endian."
                )
            elements.append(bytes(content[start - length : start]))
        if start != len(content):
            raise TensorError(f"{self} has {len(content) - start} bytes more than its {self.count} elements.")
        return elements


def datatype_of(dtype: str) -> str:
    """The name of a NumPy dtype in the protocol."""
    return next(name for name, each in DTYPES.items() if each == np.dtype(dtype))


def raw_from_elements(elements: Sequence[bytes]) -> bytes:
    """The binary form of BYTES."""
    return b"".join(chain.from_iterable((len(each).to_bytes(4, "little"), each) for each in elements))


def _flattened(data: Sequence[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """The sides of the nested lists, as far as they are equal, and the values."""
    sides, values = [len(data)], list(data)
    while values and type(values[0]) is list and len(sides) <= _MAX_AXES:
        length = len(values[0])
        if any(type(each) is not list or len(each) != length for each in values):
            break
        sides.append(length)
        values = list(chain.from_iterable(values))
    return tuple(sides), values
