from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.errors import TensorError
from agent.open_inference.tensors import DTYPES, Header, datatype_of, raw_from_elements


def header(datatype: str, *shape: int) -> Header:
    return Header("x", datatype, shape)


def refused(sentence: str) -> Any:
    return pytest.raises(TensorError, match=sentence)


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name not in ("BF16", "BOOL")])
def test_values_of_each_datatype_are_read(datatype: str) -> None:
    values = np.array([[1, 2, 3], [4, 5, 6]], DTYPES[datatype])
    read = header(datatype, 2, 3).values_from_raw(values.tobytes())
    assert isinstance(read, np.ndarray)
    assert read.dtype == DTYPES[datatype]
    np.testing.assert_array_equal(read, values)


def test_true_and_false_have_one_byte() -> None:
    assert header("BOOL", 2).values_from_raw(b"\x01\x00").tolist() == [True, False]  # type: ignore[union-attr]


def test_bf16_is_the_upper_half_of_fp32() -> None:
    upper = np.array([1.5, -2.0], "<f4").view("<u2")[1::2]
    read = header("BF16", 2).values_from_raw(upper.tobytes())
    assert read.dtype == np.float32  # type: ignore[union-attr]
    assert read.tolist() == [1.5, -2.0]  # type: ignore[union-attr]


def test_elements_of_bytes_follow_their_lengths() -> None:
    raw = raw_from_elements([b"one", b"", b"three"])
    assert raw == b"\x03\0\0\0one" + bytes(4) + b"\x05\0\0\0three"
    assert header("BYTES", 3).values_from_raw(raw) == [b"one", b"", b"three"]
    assert header("BYTES", 3, 1).values_from_raw(raw) == [b"one", b"", b"three"]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "has 0 bytes, which is too few for 2 elements"),
        (b"\x03\0\0\0one", "has 7 bytes, which is too few"),
        (b"\x03\0\0\0one\x01\0\0\0", "Element 2 of Tensor 'x' states 1 bytes, which is more than follow"),
        (b"\xff\xff\xff\xffone " + bytes(4), "Element 1 of Tensor 'x' states 4294967295 bytes"),
        (b"\x03\0\0\0one\0\0\0\0more", "has 4 bytes more than its 2 elements"),
        (b"\x05\0\0\0three\0\0\0", "Element 2 .* states 0 bytes"),
    ],
)
def test_lengths_that_lie_are_refused(raw: bytes, sentence: str) -> None:
    with refused(sentence):
        header("BYTES", 2).values_from_raw(raw)


@pytest.mark.parametrize("size", [0, 23, 25])
def test_binary_values_of_another_size_are_refused(size: int) -> None:
    with refused(rf"has {size} bytes, but \[1, 2, 3\] of FP32 takes 24"):
        header("FP32", 1, 2, 3).values_from_raw(bytes(size))


@pytest.mark.parametrize("datatype", ["", "fp32", "FLOAT", "STRING", "TYPE_FP32", "x" * 1000])
def test_unknown_datatype_is_refused_with_the_known_ones(datatype: str) -> None:
    with refused(rf"unknown datatype '{datatype[:40]}'. Use one of BOOL, .*, BYTES\."):
        header(datatype, 1)


@pytest.mark.parametrize("side", [0, -1, 1 << 63, 10**4000])
def test_impossible_side_is_refused(side: int) -> None:
    with refused("A side of Tensor 'x' is "):
        header("FP32", 1, side)


def test_shape_with_too_many_sides_is_refused() -> None:
    with refused("The shape of Tensor 'x' has 9 sides; 8 are possible"):
        header("FP32", *[1] * 9)


@pytest.mark.parametrize(("dtype", "datatype"), [("float32", "FP32"), ("uint8", "UINT8"), ("bool", "BOOL")])
def test_dtypes_have_names_in_the_protocol(dtype: str, datatype: str) -> None:
    assert datatype_of(dtype) == datatype
