"""TensorProto as the instances of the data plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.errors import TensorError
from agent.rpc.protos import tf_serving_pb2 as tfs
from agent.rpc.tensors import instances, proto_of
from agent.runtimes.serving_signature import ServedTensor

FLOATS = ServedTensor("image", "serving_default_image:0", "float32", (2, 2))
PIXELS = ServedTensor("image", "image", "uint8", (2, 2))
NUMBERS = ("float_val", "double_val", "int_val", "half_val")
VALUES = [[[0.5, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]


def tensor(dtype: int, *sides: int, **values: Any) -> tfs.SentTensor:
    dims = [tfs.TensorShape.Dim(size=side) for side in sides]
    packed = {field: [packed_field(field, listed)] for field, listed in values.items() if field in NUMBERS}
    shape = tfs.TensorShape(dim=dims)
    return tfs.SentTensor(dtype=dtype, tensor_shape=shape, **{**values, **packed})  # type: ignore[arg-type]


def packed_field(field: str, values: Any) -> bytes:
    """As the protobuf of a client packs it."""
    if field in ("float_val", "double_val"):
        return np.asarray(values, "<f4" if field == "float_val" else "<f8").tobytes()
    (packed,) = tfs.SentTensor.FromString(tfs.Tensor(int_val=values).SerializeToString()).int_val
    return bytes(packed)


def content(dtype: str) -> bytes:
    return np.array(VALUES, dtype).tobytes()


def bits(dtype: str) -> list[int]:
    return [int(each) for each in np.array(VALUES, dtype).view("<u2").ravel()]


@pytest.mark.parametrize(
    "sent",
    [
        tensor(tfs.DT_FLOAT, 2, 2, 2, tensor_content=content("<f4")),
        tensor(tfs.DT_FLOAT, 2, 2, 2, float_val=np.ravel(VALUES)),
        tensor(tfs.DT_DOUBLE, 2, 2, 2, tensor_content=content("<f8")),
        tensor(tfs.DT_DOUBLE, 2, 2, 2, double_val=np.ravel(VALUES)),
        tensor(tfs.DT_HALF, 2, 2, 2, tensor_content=content("<f2")),
        tensor(tfs.DT_HALF, 2, 2, 2, half_val=bits("<f2")),
    ],
)
@pytest.mark.parametrize("name", ["image", "serving_default_image:0"])
def test_floats_are_read_from_each_form(sent: tfs.SentTensor, name: str) -> None:
    read = instances(name, sent, FLOATS)
    assert [each.dtype for each in read if isinstance(each, np.ndarray)] == [np.dtype("float32")] * 2
    assert np.array_equal(np.stack(read), np.array(VALUES, np.float32))


def test_pixels_are_read_from_both_forms() -> None:
    for sent in (
        tensor(tfs.DT_UINT8, 1, 2, 2, tensor_content=bytes([0, 1, 254, 255])),
        tensor(tfs.DT_UINT8, 1, 2, 2, int_val=[0, 1, 254, 255]),
    ):
        (read,) = instances("image", sent, PIXELS)
        assert isinstance(read, np.ndarray)
        assert read.dtype == np.uint8
        assert read.tolist() == [[0, 1], [254, 255]]


def test_single_value_stands_for_all() -> None:
    read = instances("image", tensor(tfs.DT_FLOAT, 2, 2, 2, float_val=[0.25]), FLOATS)
    assert np.array_equal(np.stack(read), np.full((2, 2, 2), 0.25, np.float32))


@pytest.mark.parametrize("sides", [(2,), (2, 1)])
def test_strings_are_encoded_images(sides: tuple[int, ...]) -> None:
    assert instances("image", tensor(tfs.DT_STRING, *sides, string_val=[b"a", b"b"]), FLOATS) == [b"a", b"b"]


def test_single_string_needs_no_shape() -> None:
    assert instances("image", tensor(tfs.DT_STRING, string_val=[b"a"]), PIXELS) == [b"a"]


@pytest.mark.parametrize(
    ("sent", "takes", "sentence"),
    [
        (tensor(tfs.DT_FLOAT, 2, 3, 2), FLOATS, "The tensor has the shape [2, 3, 2]; the model takes [-1, 2, 2]"),
        (tensor(tfs.DT_FLOAT, 2, 2), FLOATS, "The tensor has the shape [2, 2]; the model takes [-1, 2, 2]"),
        (tensor(tfs.DT_FLOAT), FLOATS, "The tensor has the shape []; the model takes [-1, 2, 2]"),
        (tensor(tfs.DT_FLOAT, 0, 2, 2), FLOATS, "The tensor has the shape [0, 2, 2]; the model takes [-1, 2, 2]"),
        (tensor(tfs.DT_FLOAT, 65, 2, 2, float_val=[1]), FLOATS, "with 1 to 64 instances"),
        (tensor(tfs.DT_FLOAT, 1 << 62, 1 << 62, float_val=[1]), FLOATS, "the model takes [-1, 2, 2]"),
        (tensor(tfs.DT_FLOAT, -1, 2, 2, float_val=[1]), FLOATS, "not known in full"),
        (
            tfs.SentTensor(dtype=tfs.DT_FLOAT, tensor_shape=tfs.TensorShape(unknown_rank=True)),
            FLOATS,
            "not known in full",
        ),
        (tensor(tfs.DT_UINT8, 1, 2, 2, int_val=[1]), FLOATS, "The tensor is DT_UINT8; the model takes DT_FLOAT"),
        (tensor(tfs.DT_FLOAT, 1, 2, 2, float_val=[1]), PIXELS, "The tensor is DT_FLOAT; the model takes DT_UINT8"),
        (tensor(tfs.DT_INVALID, 1, 2, 2), PIXELS, "The tensor is DT_INVALID; the model takes DT_UINT8"),
        (tensor(8, 1, 2, 2), PIXELS, "The tensor is type 8; the model takes DT_UINT8"),
        (tensor(tfs.DT_FLOAT, 1, 2, 2), FLOATS, "float_val has 0 values, but the shape [1, 2, 2] takes 4"),
        (tensor(tfs.DT_FLOAT, 1, 2, 2, float_val=[1] * 5), FLOATS, "float_val has 5 values"),
        (
            tensor(tfs.DT_FLOAT, 1, 2, 2, tensor_content=bytes(15)),
            FLOATS,
            "tensor_content has 15 bytes, but the shape [1, 2, 2] of DT_FLOAT takes 16.",
        ),
        (
            tensor(tfs.DT_UINT8, 1, 2, 2, int_val=[0, 1, 2, 256]),
            PIXELS,
            "An integer of the tensor is not from 0 to 255.",
        ),
        (tensor(tfs.DT_HALF, 1, 2, 2, half_val=[-1]), FLOATS, "An integer of the tensor is not from 0 to 65535."),
        (tensor(tfs.DT_STRING, 2, string_val=[b"a"]), FLOATS, "has the shape [2] and 1 values in string_val"),
        (tensor(tfs.DT_STRING, 1 << 62, string_val=[b"a"]), FLOATS, "and 1 values in string_val"),
        (tensor(tfs.DT_STRING, 1, 2, string_val=[b"a", b"b"]), FLOATS, "has the shape [1, 2] and 2 values"),
    ],
)
def test_wrong_tensor_is_refused_with_a_sentence(sent: tfs.SentTensor, takes: ServedTensor, sentence: str) -> None:
    with pytest.raises(TensorError) as caught:
        instances("image", sent, takes)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8", "int16", "int32", "int64", "bool"])
def test_output_has_its_values_in_the_field_of_its_type(dtype: str) -> None:
    values = np.array([[0, 1], [1, 0]], dtype)
    sent = proto_of(values)
    field = {"float32": sent.float_val, "int64": sent.int64_val, "bool": sent.bool_val}.get(dtype, sent.int_val)
    assert list(field) == [0, 1, 1, 0]
    assert [side.size for side in sent.tensor_shape.dim] == [2, 2]
