"""Requests: reads the JSON of :predict and :classify as TensorFlow Serving does (its json_tensor)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.exceptions import HTTPException

from agent.errors import TensorError
from agent.inference.data_plane import MAX_INSTANCES
from agent.rest.base64_text import from_base64
from agent.rest.json_arrays import NumberList, as_dtype, kind_of, read_object
from agent.runtimes.serving_signature import by
from agent.tf_serving.signatures import DEFAULT_SIGNATURE, RAW_SIGNATURE, signature_names

if TYPE_CHECKING:
    from agent.inference.data_plane import Sent
    from agent.runtimes.serving_signature import ServingSignature


class PredictRequest(NamedTuple):
    """`in_rows`: the instances are one below the other, and so is the answer. `raw` asks for the logits."""

    instances: list[Sent]
    in_rows: bool
    raw: bool


def read_predict(body: bytes | bytearray, signature: ServingSignature) -> PredictRequest:
    """Any thread. Raises TensorError, and HTTPException 400 for other mistakes in the JSON."""
    document = read_object(body)
    raw = _signature_name(document, signature) == RAW_SIGNATURE
    if ("instances" in document) == ("inputs" in document):
        raise HTTPException(400, 'The body needs either "instances" or "inputs". Send one of them.')
    if "instances" in document:
        return PredictRequest(_rows(document["instances"], signature), in_rows=True, raw=raw)
    return PredictRequest(_columns(document["inputs"], signature), in_rows=False, raw=raw)


def read_classify(body: bytes | bytearray, signature: ServingSignature) -> list[Sent]:
    """The image of each example. Any thread. Raises TensorError, HTTPException 400."""
    document = read_object(body)
    if _signature_name(document, signature) == RAW_SIGNATURE:
        raise HTTPException(400, f'The signature "{RAW_SIGNATURE}" does not classify. Use :predict with it.')
    context, examples = document.get("context", {}), document.get("examples")
    if not isinstance(context, dict):
        raise TensorError(f'"context" is {kind_of(context)}. Send an object with features.')
    if not isinstance(examples, list | NumberList):
        raise TensorError('"examples" is missing or not a list. Send a list of objects, one per example.')
    if isinstance(examples, NumberList):
        raise TensorError('"examples" is empty or has numbers. Send objects: {"image": {"b64": "..."}}.')
    _check_count(len(examples))
    return [_of_example(index, context, example) for index, example in enumerate(examples)]


def _signature_name(document: dict[str, Any], signature: ServingSignature) -> str:
    name = document.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise HTTPException(400, f'"signature_name" is {kind_of(name)}. Send text.')
    known = signature_names(signature)
    if name and name not in known:
        raise HTTPException(400, f"The model has no signature {_shown(name)}. Use {' or '.join(known)}.")
    return name


def _rows(rows: Any, signature: ServingSignature) -> list[Sent]:
    if isinstance(rows, NumberList) and not rows.is_empty:
        return _tensors(rows, signature)
    if not isinstance(rows, list):
        what = "empty" if isinstance(rows, NumberList) else kind_of(rows)
        raise TensorError(f'"instances" is {what}. Send a list with at least one instance.')
    _check_count(len(rows))
    are_named = _is_named(rows[0])
    for index, row in enumerate(rows):
        if _is_named(row) != are_named:
            raise TensorError(f"Instance {index} is {'not ' if are_named else ''}an object, unlike those before it.")
    if any(isinstance(row, list) and not _is_image_list(row) for row in rows):
        raise TensorError(
            f"The instances have lists with other values than numbers of the type {signature.input.dtype}."
        )
    return [_row(index, row, signature) for index, row in enumerate(rows)]


def _row(index: int, row: Any, signature: ServingSignature) -> Sent:
    try:
        return _instance(_named(row, signature, exactly=True) if _is_named(row) else row, signature)
    except TensorError as error:
        raise TensorError(f"Instance {index}: {error}") from None


def _columns(value: Any, signature: ServingSignature) -> list[Sent]:
    if _is_named(value):
        value = _named(value, signature, exactly=False)
    if isinstance(value, NumberList):
        return _tensors(value, signature)
    if isinstance(value, list):
        _check_count(len(value))
        return [_instance(each, signature) for each in value]
    return [_instance(value, signature)]


def _named(value: dict[str, Any], signature: ServingSignature, *, exactly: bool) -> Any:
    name = signature.input.name
    unknown = next((key for key in value if key != name), None)
    if name not in value or (exactly and unknown is not None):
        given = "" if unknown is None else f", not {_shown(unknown)}"
        raise TensorError(f"The input of the model is named {_shown(name)}{given}.")
    return value[name]


def _instance(value: Any, signature: ServingSignature) -> Sent:
    """An image as {"b64": ...}, alone or as the only one of a list, or a tensor without the side for the instances."""
    takes = signature.input
    if isinstance(value, list) and _is_image_list(value):
        (value,) = value
    if _is_base64(value):
        return _image(value["b64"])
    if signature.takes_files:
        raise TensorError(f'The value is {kind_of(value)}. The model takes encoded images: {{"b64": "..."}}.')
    if isinstance(value, NumberList):
        if value.shape != takes.shape:
            raise TensorError(f"The tensor is {by(value.shape)}; the model takes {by(takes.shape)}.")
        return value.array(takes.dtype)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return as_dtype([value], takes.dtype).reshape(())
    raise TensorError(
        f"The value is {kind_of(value)}, neither numbers of the type {takes.dtype} nor an image. "
        'Send an image as {"b64": "..."}.'
    )


def _tensors(values: NumberList, signature: ServingSignature) -> list[Sent]:
    """One tensor per instance; the shape is compared before the numbers are parsed."""
    takes = signature.input
    if values.is_empty:
        _check_count(0)
    if signature.takes_files:
        raise TensorError('The model takes encoded images. Send each as {"b64": "..."}.')
    count, *each = values.shape
    if tuple(each) != takes.shape:
        raise TensorError(f"Each instance is {by(each)}; the model takes {by(takes.shape)}.")
    _check_count(count)
    return list(values.array(takes.dtype))


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_INSTANCES:
        raise TensorError(f"The request has {count} instances. Send 1 to {MAX_INSTANCES}.")


def _of_example(index: int, context: dict[str, Any], example: Any) -> bytes:
    if not isinstance(example, dict):
        raise TensorError(f"Example {index} is {kind_of(example)}. Send an object with features.")
    features = {**context, **example}
    for name, value in features.items():
        single = value[0] if isinstance(value, list) and _is_image_list(value) else value
        if not _is_base64(single) or len(features) > 1:
            what = f"the features {', '.join(map(_shown, features))}" if len(features) > 1 else _shown(name)
            raise TensorError(
                f"Example {index} has {what}. The model takes one feature with one image: "
                '{"image": {"b64": "..."}}.'
            )
        return _image(single["b64"])
    raise TensorError(f'Example {index} has no feature. Send an image: {{"image": {{"b64": "..."}}}}.')


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_image_list(value: list[Any]) -> bool:
    return len(value) == 1 and _is_base64(value[0])


def _image(text: str) -> bytes:
    """White space is ignored."""
    try:
        return from_base64(text)
    except ValueError:
        words = text.split()
        if len(words) > 1:
            return _image("".join(words))
        raise TensorError('The text of "b64" is not base64. Encode the bytes of the image file.') from None


def _shown(name: str) -> str:
    """A name from a client, safe to print."""
    return json.dumps(name if len(name) <= 60 else f"{name[:60]}...")
