"""How many fields a message may have, before it is parsed."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import DecodeError, Message

from agent.rpc.parts import MAX_PARTS, TooManyPartsError, check_parts
from agent.rpc.protos import open_inference_pb2 as oip, tf_serving_pb2 as tfs

NUMBERS = tfs.SentTensor(dtype=tfs.DT_FLOAT, float_val=[bytes(4 * MAX_PARTS)])


def message_with(fields: int) -> tfs.PredictRequest:
    return tfs.PredictRequest(output_filter=[""] * fields)


def nested(features: int) -> tfs.ClassificationRequest:
    """With `features` maps, each of which is an entry with a key and a value."""
    example = tfs.Example(features=tfs.Features(feature={str(each): tfs.Feature() for each in range(features)}))
    return tfs.ClassificationRequest(input=tfs.Input(example_list=tfs.ExampleList(examples=[example])))


@pytest.mark.parametrize(
    ("message", "is_allowed"),
    [
        (message_with(MAX_PARTS), True),
        (message_with(MAX_PARTS + 1), False),
        (nested(MAX_PARTS // 3 - 4), True),
        (nested(MAX_PARTS // 3 + 1), False),
        (tfs.PredictRequest(inputs={"image": NUMBERS}), True),
        (oip.ModelInferRequest(inputs=[oip.ModelInferRequest.InferInputTensor(shape=[1] * 4000)]), True),
        (oip.ModelInferRequest(inputs=[oip.ModelInferRequest.InferInputTensor(shape=[1] * 5000)]), False),
    ],
)
def test_message_with_too_many_fields_is_refused(message: Message, is_allowed: bool) -> None:  # noqa: FBT001  (a parameter of the test)
    content = message.SerializeToString()
    if is_allowed:
        check_parts(content, message.DESCRIPTOR)
    else:
        with pytest.raises(TooManyPartsError):
            check_parts(content, message.DESCRIPTOR)


@pytest.mark.parametrize(
    "unknown", [b"\xa0\x06\x01", b"\xa1\x06" + bytes(8), b"\xa2\x06\x01x", b"\xa3\x06\xa4\x06", b"\xa5\x06" + bytes(4)]
)
def test_unknown_fields_count(unknown: bytes) -> None:
    check_parts(unknown * (MAX_PARTS // 2), tfs.PredictRequest.DESCRIPTOR)
    with pytest.raises(TooManyPartsError):
        check_parts(unknown * (MAX_PARTS + 1), tfs.PredictRequest.DESCRIPTOR)


@pytest.mark.parametrize(
    "content",
    [
        b"\x0a",
        b"\x0a\x02x",
        b"\x08",
        b"\x09" + bytes(7),
        b"\x0d" + bytes(3),
        b"\x0e",
        b"\xff" * 11,
        b"\x12\x02\x0a\x01",
    ],
)
def test_what_is_not_a_message_is_refused(content: bytes) -> None:
    with pytest.raises(DecodeError):
        check_parts(content, tfs.PredictRequest.DESCRIPTOR)


def test_all_that_protobuf_parses_is_allowed() -> None:
    tensor = tfs.SentTensor(dtype=tfs.DT_STRING, string_val=[b"abc"], tensor_shape={"dim": [{"size": 1, "name": "n"}]})
    request = tfs.PredictRequest(
        model_spec=tfs.ModelSpec(name="digits", version={"value": 300}), inputs={"image": tensor}, output_filter=["x"]
    )
    content, chance, parsed = request.SerializeToString(), random.Random(7), 0
    for _ in range(5000):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            tfs.PredictRequest.FromString(bytes(damaged))
        except DecodeError:
            continue
        check_parts(bytes(damaged), tfs.PredictRequest.DESCRIPTOR)
        parsed += 1
    assert parsed > 1000
