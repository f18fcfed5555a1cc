"""Packed: the numbers of packed fields, which our messages declare as bytes.

Protobuf would make an object of each number, on the event loop: 0.1 s for 2 million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.errors import TensorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.generic]

_PIECE_BYTES = 64 << 10  # a byte of varints needs up to 20 bytes of memory while it is read
_MOST_BYTES = 3  # of a varint with 16 bits


class PackedFloats:
    def __init__(self, parts: Sequence[bytes], dtype: np.dtype[Any]) -> None:
        """`parts`: each occurrence of the field."""
        self._content = b"".join(parts)
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._content) // self._dtype.itemsize

    def array(self) -> Array:
        """It shares the memory of a single part."""
        return np.frombuffer(self._content, self._dtype, len(self))


class PackedIntegers:
    """Varints: seven bits per byte, the lowest first; the last byte of each is below 128."""

    def __init__(self, parts: Sequence[bytes], dtype: np.dtype[Any]) -> None:
        """`dtype`: uint8 or uint16. `parts`: each occurrence of the field."""
        self._content = np.frombuffer(b"".join(parts), np.uint8)
        self._dtype = dtype

    def __len__(self) -> int:
        starts = range(0, len(self._content), _PIECE_BYTES)
        return sum(int(np.count_nonzero(self._content[start : start + _PIECE_BYTES] < 128)) for start in starts)

    def array(self) -> Array:
        """Raises TensorError if a value does not fit into the type."""
        values = np.empty(len(self), self._dtype)
        filled = 0
        for piece in self._pieces():
            read = self._read(piece)
            values[filled : filled + len(read)] = read
            filled += len(read)
        return values

    def _pieces(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Pieces that end where a varint does."""
        start, length = 0, len(self._content)
        while start < length:
            stop = min(start + _PIECE_BYTES, length)
            last = self._content[stop - _MOST_BYTES if stop - start > _MOST_BYTES else start : stop]
            if last.min() > 127:
                raise self._too_large()
            stop -= int(np.argmax(last[::-1] < 128))
            yield self._content[start:stop]
            start = stop

    def _read(self, piece: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
        padded = np.concatenate((np.zeros(_MOST_BYTES, np.uint8), piece))
        goes_on, bits = padded > 127, (padded & 127).astype(np.uint32)
        second, third, fourth = goes_on[2:-1], goes_on[1:-2] & goes_on[2:-1], goes_on[:-3]  # which byte it is, at least
        if (third & fourth).any():
            raise self._too_large()
        values = np.where(second, bits[2:-1] | bits[3:] << 7, bits[3:])
        values = np.where(third, bits[1:-2] | bits[2:-1] << 7 | bits[3:] << 14, values)[~goes_on[3:]]
        if values.max() > np.iinfo(self._dtype).max:
            raise self._too_large()
        return values

    def _too_large(self) -> TensorError:
        return TensorError(f"An integer of the tensor is not from 0 to {np.iinfo(self._dtype).max}.")
