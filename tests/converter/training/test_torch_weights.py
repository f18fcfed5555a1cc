"""Torch weights: tensors with strides are read, and code in a file never runs."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.errors import TrainedModelError
from converter.training.torch_weights import read_torch_weights

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = 0x1950A86A20F9469CFC6C


def _file(path: Path, tensors: bytes, values: list[float]) -> Path:
    storage = np.array(values, "<f4")
    head = b"".join(pickle.dumps(each, 2) for each in (_MAGIC, 1001, {"little_endian": True}))
    keys = pickle.dumps(["7"], 2)
    path.write_bytes(head + tensors + keys + np.int64(len(storage)).tobytes() + storage.tobytes())
    return path


def _tensor(*, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """{"weight": a tensor}, written by hand: `pickle` cannot name classes of a module that is not installed."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x007X\x03\x00\x00\x00cpuK\x06NtQ"
    tuples = b"".join(b"(" + b"".join(b"K" + bytes([side]) for side in each) + b"t" for each in (shape, strides))
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K" + bytes([offset]) + tuples + b"\x89NtR"
    return b"\x80\x02ccollections\nOrderedDict\n)RX\x06\x00\x00\x00weight" + call + b"s."


def test_a_tensor_follows_its_strides_and_offset(tmp_path: Path) -> None:
    path = _file(tmp_path / "w.pth", _tensor(shape=(2, 2), strides=(1, 2), offset=1), [0, 1, 2, 3, 4, 5])
    weights = read_torch_weights(path)
    np.testing.assert_array_equal(weights["weight"], [[1, 3], [2, 4]])


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path / "w.pth", _tensor(shape=(3, 3), strides=(3, 1)), [0, 1, 2, 3, 4, 5])
    with pytest.raises(TrainedModelError, match="ends at value 8 of 6"):
        read_torch_weights(path)


def test_code_in_the_file_is_refused_and_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    code = b"\x80\x02cos\nsystem\n(X" + len(f"touch {touched}").to_bytes(4, "little") + f"touch {touched}".encode()
    with pytest.raises(TrainedModelError, match=r"os\.system"):
        read_torch_weights(_file(tmp_path / "w.pth", code + b"tR.", [0]))
    assert not touched.exists()


@pytest.mark.parametrize("length", [0, 5, 40, 200])
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    path = _file(tmp_path / "w.pth", _tensor(shape=(2, 3), strides=(3, 1)), [0, 1, 2, 3, 4, 5])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(TrainedModelError, match="not a file of PyTorch weights"):
        read_torch_weights(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps(OrderedDict()))
    with pytest.raises(TrainedModelError, match="the magic number is missing"):
        read_torch_weights(tmp_path / "w.pth")
