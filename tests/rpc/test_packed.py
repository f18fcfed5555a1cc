"""Packed numbers, as the protobuf of clients writes them."""

from __future__ import annotations

import numpy as np
import pytest

from agent.errors import TensorError
from agent.rpc.packed import PackedFloats, PackedIntegers
from agent.rpc.protos import tf_serving_pb2 as tfs


def packed(values: list[int]) -> bytes:
    (content,) = tfs.SentTensor.FromString(tfs.Tensor(int_val=values).SerializeToString()).int_val
    return bytes(content)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_are_read_whatever_their_lengths_and_number(dtype: str) -> None:
    largest = np.iinfo(dtype).max
    some = np.random.default_rng(7).integers(0, largest + 1, 200_000).tolist()
    for values in ([], [0], [largest], [127, 128, largest, 0], [0] * 100_000, [largest] * 100_000, some):
        sent = PackedIntegers([packed(values)] if values else [], np.dtype(dtype))
        assert len(sent) == len(values)
        assert sent.array().dtype == dtype
        assert np.array_equal(sent.array(), values)


def test_parts_of_a_field_follow_one_another() -> None:
    assert PackedIntegers([packed([1, 200]), packed([3])], np.dtype("u1")).array().tolist() == [1, 200, 3]
    floats = [np.array(each, "<f4").tobytes() for each in ([1, 2], [3])]
    assert PackedFloats(floats, np.dtype("<f4")).array().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "content",
    [
        packed([256]),
        packed([-1]),
        packed([1 << 21]),
        packed([*[0] * 70_000, 256]),
        packed([*[0] * 65_530, 1 << 21, *[0] * 70_000]),
        b"\xff\xff\xff\xff",
        b"\x00\x80",
        b"\x80" * 200_000,
    ],
)
def test_too_large_integer_is_refused(content: bytes) -> None:
    with pytest.raises(TensorError) as caught:
        PackedIntegers([content], np.dtype("u1")).array()
    assert str(caught.value) == "An integer of the tensor is not from 0 to 255."


def test_bytes_that_are_no_whole_number_do_not_count() -> None:
    sent = PackedFloats([bytes(7)], np.dtype("<f4"))
    assert (len(sent), sent.array().tolist()) == (1, [0])
