"""Tensors: the tensors of the Open Inference Protocol (v2), and the binary form of their values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.errors import TensorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.generic]
    Values: TypeAlias = Array | list[bytes]

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

    def values_from_raw(self, content: bytes | bytearray | memoryview) -> Values:
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
    """The name of a NumPy dtype in the protocol; `string` stands for encoded images."""
    if dtype == "string":
        return BYTES
    return next(name for name, each in DTYPES.items() if each == np.dtype(dtype))


def raw_from_elements(elements: Sequence[bytes]) -> bytes:
    """The binary form of BYTES."""
    return b"".join(chain.from_iterable((len(each).to_bytes(4, "little"), each) for each in elements))
