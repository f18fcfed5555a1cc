"""Body: the JSON and the binary parts of an inference request, and those of its answer."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response

from agent.errors import TensorError
from agent.image import has_image_signature
from agent.open_inference.inputs import check_input
from agent.open_inference.outputs import Wanted
from agent.open_inference.tensors import BYTES, DTYPES, Header, datatype_of, raw_from_elements
from agent.rest.base64_text import from_base64
from agent.rest.json_arrays import NumberList, as_json, read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.open_inference.outputs import Output
    from agent.open_inference.tensors import Values
    from agent.runtimes.serving_signature import ServedTensor

JSON_LENGTH = "Inference-Header-Content-Length"
_MAX_SIDES = 8
_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps() makes an encoder at each call
_NO_SHARED_MEMORY = "The agent has no shared memory. Send and receive tensors in the bodies of requests and answers."


@dataclass(frozen=True, slots=True)
class InferRequest:
    """The input with its values, those of BYTES as bytes. Without `wanted`, the client wants all outputs.

    `all_binary` says whether these follow the JSON.
    """

    header: Header
    values: Values
    wanted: tuple[Wanted, ...] = ()
    all_binary: bool = False
    id: str | None = None


def read_request(body: bytes | bytearray, json_length: int, takes: ServedTensor) -> InferRequest:
    """`json_length` is how much of `body` is JSON. Any thread. Raises TensorError, HTTPException 400."""
    if json_length > len(body):
        raise TensorError(f"{JSON_LENGTH} is {json_length}, but the body has {len(body)} bytes.")
    document = read_object(body if json_length == len(body) else body[:json_length])
    inputs = _list_of_objects(document, "inputs")
    if len(inputs) != 1:
        raise TensorError(f"The request has {len(inputs)} inputs; the model has one. GET its metadata for the name.")
    header, values = _read_input(inputs[0], memoryview(body)[json_length:], takes)
    all_binary = _flag(_parameters(document, "the request"), "binary_data_output", default=False)
    outputs = _list_of_objects(document, "outputs") if document.get("outputs") is not None else []
    wanted = tuple(_read_wanted(output, all_binary=all_binary) for output in outputs)
    given_id = document.get("id")
    if given_id is not None and not isinstance(given_id, str):
        raise TensorError("The id of the request is not a string.")
    return InferRequest(header, values, wanted, all_binary, given_id)


def raw_request(body: bytes | bytearray, takes: ServedTensor) -> InferRequest:
    """A body without JSON: the tensors of one or more images, or one encoded image. All outputs are binary."""
    datatype = datatype_of(takes.dtype)
    if datatype == BYTES:
        return InferRequest(Header(takes.name, BYTES, (1,)), [bytes(body)], all_binary=True)
    bytes_each = math.prod(takes.shape) * DTYPES[datatype].itemsize
    if _is_encoded_image(body, bytes_each):
        return InferRequest(Header(takes.name, BYTES, (1,)), [bytes(body)], all_binary=True)
    if not body or len(body) % bytes_each:
        raise TensorError(
            f"The body has {len(body)} bytes. Send an encoded image, or {bytes_each} bytes for each image: "
            f"{[-1, *takes.shape]} of {datatype}."
        )
    header = Header(takes.name, datatype, (len(body) // bytes_each, *takes.shape))
    return InferRequest(header, header.values_from_raw(body), all_binary=True)


def _is_encoded_image(body: bytes | bytearray, bytes_each: int) -> bool:
    """The pixels 66 and 77 are `BM`, too; then the size of the file that a BMP states tells it from a tensor."""
    if not has_image_signature(bytes(body[:16])):
        return False
    return not body.startswith(b"BM") or len(body) % bytes_each != 0 or body[2:6] == len(body).to_bytes(4, "little")


def answer(document: dict[str, Any], outputs: Iterable[tuple[Wanted, Output]]) -> Response:
    """`document`, which is not empty, with the outputs.

    The values of binary ones follow the JSON, in the order of the outputs.
    """
    described, parts = [], []
    for wanted, output in outputs:
        header = output.header
        description: dict[str, Any] = {"name": header.name, "datatype": header.datatype, "shape": header.shape}
        if wanted.is_binary:
            parts.append(_raw(output))
            described.append(_TO_JSON({**description, "parameters": {"binary_data_size": len(parts[-1])}}))
        else:
            described.append(f'{_TO_JSON(description)[:-1]},"data":{_listed(output)}}}')
    text = f'{_TO_JSON(document)[:-1]},"outputs":[{",".join(described)}]}}'.encode()
    if not parts:
        return Response(text, media_type="application/json")
    content = b"".join([text, *parts])
    return Response(content, headers={JSON_LENGTH: str(len(text))}, media_type="application/octet-stream")


def _read_input(given: Mapping[str, Any], binary: memoryview, takes: ServedTensor) -> tuple[Header, Values]:
    name, datatype = _text(given, "name", "input"), _text(given, "datatype", "input")
    header = Header(name, datatype, _shape(given, name))
    check_input(header, takes)  # before the values, which may be many
    parameters = _parameters(given, str(header))
    if "shared_memory_region" in parameters:
        raise TensorError(_NO_SHARED_MEMORY)
    size = parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            raise TensorError(f"{len(binary)} bytes follow the JSON, but {header} has no binary_data_size.")
        return header, _read_data(given.get("data"), header, takes)
    if type(size) is not int or size != len(binary):
        stated = str(size)[:40]
        raise TensorError(f"{header} has the binary_data_size {stated}, but {len(binary)} bytes follow the JSON.")
    if "data" in given:
        raise TensorError(f"{header} has both `data` and binary_data_size. Send one of them.")
    return header, header.values_from_raw(binary)


def _read_data(data: Any, header: Header, takes: ServedTensor) -> Values:
    """The values in one list, or in lists nested like the shape."""
    if header.datatype == BYTES:
        texts = data if isinstance(data, list) else []
        if len(header.shape) == 2 and all(isinstance(each, list) and len(each) == 1 for each in texts):
            texts = [each[0] for each in texts]
        if len(texts) != header.shape[0] or not all(isinstance(text, str) for text in texts):
            raise TensorError(f"{header} has no list `data` with {header.shape[0]} texts, each an image as base64.")
        return [_element(text, header) for text in texts]
    if not isinstance(data, NumberList):
        raise TensorError(f"{header} has no list of numbers `data`, and no parameter binary_data_size.")
    if data.shape not in (header.shape, (header.count,)):
        raise TensorError(
            f"{header} has the shape {list(header.shape)}, but its data has the shape {list(data.shape)}. "
            "Send the values in one list, or nested like the shape."
        )
    return data.array(takes.dtype).reshape(header.shape)


def _element(text: str, header: Header) -> bytes:
    try:
        return from_base64(text)
    except ValueError:
        raise TensorError(
            f"An element of {header} is not base64. Send encoded images as base64, or as binary data."
        ) from None


def _read_wanted(given: Mapping[str, Any], *, all_binary: bool) -> Wanted:
    name = _text(given, "name", "output")
    parameters = _parameters(given, f"output {name[:80]!r}")
    if "shared_memory_region" in parameters:
        raise TensorError(_NO_SHARED_MEMORY)
    return Wanted(name, _classes(parameters, name), _flag(parameters, "binary_data", default=all_binary))


def _shape(given: Mapping[str, Any], name: str) -> tuple[int, ...]:
    shape = given.get("shape")
    if not isinstance(shape, NumberList) or len(shape.shape) != 1 or shape.shape[0] > _MAX_SIDES:
        raise TensorError(f"The shape of input {name[:80]!r} is not a list of up to {_MAX_SIDES} integers.")
    return tuple(map(int, shape.array("int64") if shape.shape[0] else ()))


def _list_of_objects(document: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    found = document.get(key)
    if isinstance(found, NumberList) and found.is_empty:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise TensorError(f"The request has no list of objects `{key}`.")
    return found


def _text(given: Mapping[str, Any], key: str, what: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise TensorError(f"An {what} has no string `{key}`.")
    return value


def _parameters(given: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Unknown parameters are ignored, as the protocol demands. Clients of MLServer send null for none."""
    found = given.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise TensorError(f"The parameters of {what} are not an object.")
    return found


def _flag(parameters: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise TensorError(f"The parameter {key} is neither true nor false.")
    return value


def _classes(parameters: Mapping[str, Any], name: str) -> int:
    """0 if the client wants the scores."""
    count = parameters.get("classification", 0)
    if type(count) is not int or count < 0:
        raise TensorError(f"The parameter classification of output {name[:80]!r} is not a count of classes.")
    return count


def _raw(output: Output) -> bytes:
    values = output.values
    return values.tobytes() if isinstance(values, np.ndarray) else raw_from_elements(values)


def _listed(output: Output) -> str:
    values = output.values
    return as_json(values.ravel()) if isinstance(values, np.ndarray) else _TO_JSON([each.decode() for each in values])
