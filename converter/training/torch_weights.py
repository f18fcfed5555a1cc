"""Torch weights: reads a .pth file of PyTorch's old format without PyTorch and without running its code.

The file has five pickles (magic number, version, system, tensors, names of the storages) and then each storage: its
number of values as 8 bytes, and the values. A tensor is a view of a storage, by offset, shape and strides. Source of
the format: torch/serialization.py, _legacy_save().
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from converter.errors import TrainedModelError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


@dataclass(frozen=True, slots=True)
class _View:
    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, storages: dict[str, bytes]) -> npt.NDArray[np.generic]:
        """A copy, in C order. Raises ValueError if it reaches beyond its storage."""
        values = np.frombuffer(storages[self.storage], self.dtype)[self.offset :]
        steps = tuple(step * values.itemsize for step in self.strides)
        last = sum((side - 1) * step for side, step in zip(self.shape, self.strides, strict=True))
        if last >= len(values):
            raise ValueError(f"a tensor ends at value {last} of {len(values)}")
        return np.array(np.lib.stride_tricks.as_strided(values, self.shape, steps))


class _Unpickler(pickle.Unpickler):
    """Knows only the three names that tensors need; any other could be code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not needed for weights")

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, *_ = pid
        return key, dtype


def _view(storage: tuple[str, str], offset: int, shape: Any, strides: Any, *_: Any) -> _View:
    return _View(storage[0], storage[1], int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def read_torch_weights(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Every tensor by its name. Raises TrainedModelError if the file is missing, damaged or of another kind."""
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise TrainedModelError(f"{path} cannot be read: {error.strerror}.") from None
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise TrainedModelError(f"{path} is not a file of PyTorch weights in the old format: {error}.") from None


def _read(file: BinaryIO) -> dict[str, npt.NDArray[np.generic]]:
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("the magic number is missing")
    _Unpickler(file).load()
    _Unpickler(file).load()
    views: dict[str, _View] = _Unpickler(file).load()
    dtypes = {view.storage: view.dtype for view in views.values()}
    storages = {key: _storage(file, dtypes[key]) for key in _Unpickler(file).load()}
    return {name: view.of(storages) for name, view in views.items()}


def _storage(file: BinaryIO, dtype: str) -> bytes:
    count = int(np.frombuffer(file.read(8), "<i8")[0])
    size = count * np.dtype(dtype).itemsize
    content = file.read(size) if 0 <= size < 1 << 32 else b""
    if len(content) != size:
        raise ValueError(f"a storage has {len(content)} of {size} bytes")
    return content
