"""The JSON of :predict and :classify, by the rules of TensorFlow Serving's json_tensor."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from agent.errors import TensorError
from agent.rest.tf_serving.requests import PredictRequest, read_classify, read_predict
from agent.runtimes.serving_signature import ServedTensor, ServingSignature


def signature(shape: tuple[int, ...] = (2,), dtype: str = "float32", *, logits: bool = False) -> ServingSignature:
    scores = ServedTensor("scores", "scores:0", "float32", (3,))
    return ServingSignature(ServedTensor("image", "image:0", dtype, shape), (scores,), logits, "tensorflow_tflite")


def read(document: Any, takes: ServingSignature | None = None) -> PredictRequest:
    body = document if isinstance(document, str) else json.dumps(document)
    return read_predict(body.encode(), takes or signature())


def values(request: PredictRequest) -> list[Any]:
    return [each if isinstance(each, bytes) else each.tolist() for each in request.instances]


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


HELLO, WORLD = b64(b"hello"), b64(b"world!")


def test_rows_without_names_are_one_instance_each() -> None:
    for dtype in ("float32", "uint8"):
        request = read({"instances": [[1, 2], [3, 4], [5, 6]]}, signature(dtype=dtype))
        assert values(request) == [[1, 2], [3, 4], [5, 6]]
        assert request.in_rows
        assert {each.dtype for each in request.instances if not isinstance(each, bytes)} == {np.dtype(dtype)}


def test_row_may_be_a_single_value() -> None:
    assert values(read({"instances": [1, 2.5]}, signature(()))) == [1, 2.5]


def test_rows_may_name_the_input() -> None:
    request = read({"instances": [{"image": [[1], [2]]}, {"image": [[3], [4]]}]}, signature((2, 1)))
    assert values(request) == [[[1], [2]], [[3], [4]]]


def test_named_rows_may_have_nan_and_infinity() -> None:
    request = read('{"instances": [{"image": [1.0, NaN]}, {"image": [-Infinity, Infinity]}]}')
    assert np.array_equal(values(request), [[1, np.nan], [-np.inf, np.inf]], equal_nan=True)


def test_columns_hold_all_instances_with_and_without_the_name_of_the_input() -> None:
    pixels = [[[1, 2], [3, 4], [5, 6]]]
    for inputs in (pixels, {"image": pixels}):
        request = read({"inputs": inputs}, signature((3, 2), "uint8"))
        assert values(request) == pixels
        assert not request.in_rows


def test_columns_ignore_other_inputs() -> None:
    assert values(read({"inputs": {"text": ["a", "b"], "image": [[1, 2]], "flag": {"b64": "eA=="}}})) == [[1, 2]]


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [HELLO, WORLD]},
        {"instances": [[HELLO], [WORLD]]},
        {"instances": [{"image": HELLO}, {"image": WORLD}]},
        {"instances": [{"image": [HELLO]}, {"image": [WORLD]}]},
        {"inputs": [HELLO, WORLD]},
        {"inputs": [[HELLO], [WORLD]]},
        {"inputs": {"image": [HELLO, WORLD]}},
    ],
)
def test_encoded_images_are_found_in_each_documented_place(document: Any) -> None:
    assert values(read(document)) == [b"hello", b"world!"]


@pytest.mark.parametrize("inputs", [HELLO, {"image": HELLO}, {"image": [HELLO]}])
def test_column_may_be_a_single_encoded_image(inputs: Any) -> None:
    assert values(read({"inputs": inputs})) == [b"hello"]


def test_base64_may_lack_its_padding_and_have_line_breaks_and_escapes() -> None:
    assert values(read({"instances": [{"b64": "d29ybGQ"}]})) == [b"world"]
    assert values(read({"instances": [{"b64": "d29y\nbGQ=\n"}]})) == [b"world"]
    assert values(read('{"instances": [{"b64": "\\/\\/\\/\\u002f"}]}')) == [b"\xff\xff\xff"]


def test_base64_of_every_length_is_decoded() -> None:
    for size in range(1, 40):
        content = np.random.default_rng(size).bytes(size)
        assert values(read({"instances": [b64(content)]})) == [content]


@pytest.mark.parametrize("text", ["d29ybGQ!", "äöüß", "d", "YQ==YQ==", "_-_-"])
def test_other_text_than_base64_is_refused(text: str) -> None:
    with pytest.raises(TensorError) as error:
        read({"instances": [{"b64": text}]})
    assert str(error.value) == 'Instance 0: The text of "b64" is not base64. Encode the bytes of the image file.'


@pytest.mark.parametrize(
    ("name", "takes", "raw"),
    [
        ("serving_default", signature(), False),
        ("", signature(), False),
        ("raw", signature(logits=True), True),
        ("serving_default", signature(logits=True), False),
    ],
)
def test_signature_name_selects_scores_or_logits(name: str, takes: ServingSignature, *, raw: bool) -> None:
    assert read({"instances": [[1, 2]], "signature_name": name}, takes).raw is raw


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("predict_images", 'The model has no signature "predict_images". Use serving_default.'),
        ("raw", 'The model has no signature "raw". Use serving_default.'),
        ("x" * 1000, f'The model has no signature "{"x" * 60}...". Use serving_default.'),
        ("\ud800", 'The model has no signature "\\ud800". Use serving_default.'),
        (5, '"signature_name" is a number. Send text.'),
        (None, '"signature_name" is null. Send text.'),
        ([1], '"signature_name" is a list. Send text.'),
        (True, '"signature_name" is a boolean. Send text.'),
    ],
)
def test_unknown_signature_is_refused(name: Any, sentence: str) -> None:
    with pytest.raises(HTTPException) as error:
        read({"signature_name": name, "instances": [[1, 2], [3, 4], [5, 6, 7]]})
    assert (error.value.status_code, error.value.detail) == (400, sentence)


def test_deeply_nested_signature_name_is_refused_and_deep_unknown_key_ignored() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    with pytest.raises(HTTPException) as error:
        read(f'{{"signature_name": {deep}}}')
    assert error.value.detail == '"signature_name" is a list. Send text.'
    assert values(read(f'{{"instances": [[1, 2]], "nested": {deep}}}')) == [[1, 2]]


NEEDS_ONE = 'The body needs either "instances" or "inputs". Send one of them.'


@pytest.mark.parametrize("document", [{}, {"signature_name": "serving_default"}, {"instances": [1], "inputs": [1]}])
def test_body_needs_rows_or_columns(document: Any) -> None:
    with pytest.raises(HTTPException) as error:
        read(document)
    assert (error.value.status_code, error.value.detail) == (400, NEEDS_ONE)


RAGGED = "The lists do not form a tensor: lists at the same level differ in length or depth."
MIXED = 'The value is {}, neither numbers of the type float32 nor an image. Send an image as {{"b64": "..."}}.'


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"instances": [[1, 2], [3, 4], [5, 6, 7]]}, RAGGED),
        ({"instances": [[1, 2], [3, 4], [[5, 6]]]}, RAGGED),
        ({"instances": [[1, 2], [[1]]]}, RAGGED),
        (
            {"instances": [[1, 2], ["a", "b"]]},
            "The instances have lists with other values than numbers of the type float32.",
        ),
        ({"instances": ["x", "y"]}, f"Instance 0: {MIXED.format('text')}"),
        ({"instances": [[True, False]]}, "The tensor must consist of numbers of the type float32, but contains true."),
        ({"instances": [None]}, "Each instance is a single value; the model takes 2."),
        ({"instances": [{"image": None}]}, f"Instance 0: {MIXED.format('null')}"),
        ({"instances": [{"image": True}]}, f"Instance 0: {MIXED.format('a boolean')}"),
        ({"instances": [{"image": {"c64": "a"}}]}, f"Instance 0: {MIXED.format('an object')}"),
        ({"instances": [{"image": {"b64": 3}}]}, f"Instance 0: {MIXED.format('an object')}"),
        ({"instances": [[1, 2, 3]]}, "Each instance is 3; the model takes 2."),
        ({"instances": [[[1, 2]]]}, "Each instance is 1 x 2; the model takes 2."),
        ({"instances": [1, 2]}, "Each instance is a single value; the model takes 2."),
        ({"instances": [{"image": [1, 2, 3]}]}, "Instance 0: The tensor is 3; the model takes 2."),
        ({"instances": [{"image": [1, 2]}, {"image": [1]}]}, "Instance 1: The tensor is 1; the model takes 2."),
        ({"instances": [{"image": [1, 2]}, [1, 2]]}, "Instance 1 is not an object, unlike those before it."),
        ({"instances": [HELLO, {"image": HELLO}]}, "Instance 1 is an object, unlike those before it."),
        ({"instances": [{"x": [1, 2]}]}, 'Instance 0: The input of the model is named "image", not "x".'),
        ({"instances": [{}]}, 'Instance 0: The input of the model is named "image".'),
        (
            {"instances": [{"image": [1, 2], "text": "a"}]},
            'Instance 0: The input of the model is named "image", not "text".',
        ),
        (
            {"instances": [{"image": [[HELLO], [WORLD]]}]},
            f"Instance 0: {MIXED.format('a list')}",
        ),
        ({"instances": []}, '"instances" is empty. Send a list with at least one instance.'),
        ({"instances": {"image": [1, 2]}}, '"instances" is an object. Send a list with at least one instance.'),
        ({"instances": 5}, '"instances" is a number. Send a list with at least one instance.'),
        ({"instances": [[1, 2]] * 65}, "The request has 65 instances. Send 1 to 64."),
        ({"instances": [HELLO] * 65}, "The request has 65 instances. Send 1 to 64."),
        ({"inputs": []}, "The request has 0 instances. Send 1 to 64."),
        ({"inputs": {"x": [[1, 2]]}}, 'The input of the model is named "image", not "x".'),
        ({"inputs": [1, 2]}, "Each instance is a single value; the model takes 2."),
        ({"inputs": "abc"}, MIXED.format("text")),
        ({"inputs": None}, MIXED.format("null")),
    ],
)
def test_values_that_are_not_the_model_s_input_are_refused(document: Any, sentence: str) -> None:
    with pytest.raises(TensorError) as error:
        read(document)
    assert str(error.value) == sentence


def test_scalar_column_reaches_the_data_plane_which_compares_its_shape() -> None:
    (tensor,) = read({"inputs": 5}).instances
    assert not isinstance(tensor, bytes)
    assert tensor.shape == ()


def classify(document: Any) -> list[Any]:
    return list(read_classify(json.dumps(document).encode(), signature(logits=True)))


@pytest.mark.parametrize(
    "document",
    [
        {"examples": [{"image": HELLO}, {"image": [WORLD]}]},
        {"examples": [{"image/encoded": HELLO}, {"x": WORLD}], "signature_name": "serving_default"},
        {"examples": [{"image": HELLO}, {"image": WORLD}], "context": {}},
        {"examples": [{"image": HELLO}, {"image": WORLD}], "context": {"image": HELLO}},
    ],
)
def test_examples_have_one_feature_with_an_encoded_image(document: Any) -> None:
    assert classify(document) == [b"hello", b"world!"]


def test_context_may_hold_the_image_of_every_example() -> None:
    assert classify({"context": {"image": HELLO}, "examples": [{}, {}]}) == [b"hello", b"hello"]


ONE_FEATURE = 'The model takes one feature with one image: {"image": {"b64": "..."}}.'


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"context": [{"names": ["foo"]}], "examples": [{}]}, '"context" is a list. Send an object with features.'),
        ({}, '"examples" is missing or not a list. Send a list of objects, one per example.'),
        ({"examples": {"names": 1}}, '"examples" is missing or not a list. Send a list of objects, one per example.'),
        (
            {"examples": []},
            '"examples" is empty or has numbers. Send objects: {"image": {"b64": "..."}}.',
        ),
        ({"examples": [{}]}, 'Example 0 has no feature. Send an image: {"image": {"b64": "..."}}.'),
        ({"examples": [[{"image": HELLO}]]}, "Example 0 is a list. Send an object with features."),
        ({"examples": [{"image": HELLO}, "x"]}, "Example 1 is text. Send an object with features."),
        ({"examples": [{"n": [10, None]}]}, f'Example 0 has "n". {ONE_FEATURE}'),
        ({"examples": [{"n": [10, 10.0]}]}, f'Example 0 has "n". {ONE_FEATURE}'),
        ({"examples": [{"n": [10, {"test": 10}]}]}, f'Example 0 has "n". {ONE_FEATURE}'),
        ({"examples": [{"n": [[10], 20]}]}, f'Example 0 has "n". {ONE_FEATURE}'),
        ({"examples": [{"n": [20, 18446744073709551603]}]}, f'Example 0 has "n". {ONE_FEATURE}'),
        ({"examples": [{"n": ["foo", HELLO]}]}, f'Example 0 has "n". {ONE_FEATURE}'),
        ({"examples": [{"n": [HELLO, WORLD]}]}, f'Example 0 has "n". {ONE_FEATURE}'),
        ({"examples": [{"n": "foo"}]}, f'Example 0 has "n". {ONE_FEATURE}'),
        ({"examples": [{"n": HELLO, "age": 20}]}, f'Example 0 has the features "n", "age". {ONE_FEATURE}'),
        ({"examples": [{"image": HELLO}] * 65}, "The request has 65 instances. Send 1 to 64."),
    ],
)
def test_other_examples_are_refused(document: Any, sentence: str) -> None:
    with pytest.raises(TensorError) as error:
        classify(document)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (["hello"], '"signature_name" is a list. Send text.'),
        ("raw", 'The signature "raw" does not classify. Use :predict with it.'),
        ("x", 'The model has no signature "x". Use serving_default or raw.'),
    ],
)
def test_signature_that_does_not_classify_is_refused(name: Any, sentence: str) -> None:
    with pytest.raises(HTTPException) as error:
        classify({"signature_name": name, "examples": [{"names": ["foo", "bar"]}]})
    assert error.value.detail == sentence
