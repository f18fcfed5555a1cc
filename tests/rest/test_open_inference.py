"""The routes of the Open Inference Protocol in the whole REST application, with real models and no socket."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest
from agents.fake_agent import birds, identity, version
from agents.inferring import MAX_BYTES, Inferring, colors
from agents.models_on_disk import photo_of_3

from agent.errors import BusyError, ModelNotReadyError
from agent.model_file.settings import ModelSettings
from agent.open_inference.tensors import raw_from_elements
from agent.runtimes.preprocessing import Preprocessor
from agent.status import ModelStatus, Rejection

if TYPE_CHECKING:
    from collections.abc import Iterator

JPEG = cv2.imencode(".jpg", photo_of_3().pixels)[1].tobytes()


class Rest(Inferring):
    """Sends requests to the application without a socket."""

    async def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **arguments)

    async def get(self, path: str) -> Any:
        answer = await self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, document: Any = None, *, binary: bytes = b"", **headers: str) -> httpx.Response:
        text = json.dumps(document).encode()
        if binary:
            headers["Inference-Header-Content-Length"] = str(len(text))
        return await self.ask("POST", path, content=text + binary, headers=headers)

    async def infer(self, document: Any, *, model: str = "colors", binary: bytes = b"") -> Any:
        answer = await self.post(f"/v2/models/{model}/infer", document, binary=binary)
        assert answer.status_code == 200, answer.text
        assert answer.headers["server-timing"].startswith("queue;dur=")
        return answer.json()

    async def scores(self, document: Any, *, model: str = "colors", binary: bytes = b"") -> list[float]:
        (output,) = (await self.infer(document, model=model, binary=binary))["outputs"]
        return list(output["data"])


@pytest.fixture(scope="module")
def application() -> Iterator[Rest]:
    rest = Rest()
    yield rest
    rest.engine.close()


@pytest.fixture
def rest(application: Rest) -> Rest:
    application.reset()
    return application


def refusal(answer: httpx.Response) -> tuple[int, str]:
    document = answer.json()
    assert list(document) == ["error"]
    return answer.status_code, document["error"]


def red(count: int = 1) -> Any:
    """Red images for `colors`, already normalized."""
    return np.tile(np.array([1, 0, 0], np.float32), (count, 4, 4, 1))


def tensor(values: Any, **changes: Any) -> dict[str, Any]:
    given = {"name": "image", "shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}
    return {"inputs": [{**given, **changes}]}


def as_binary(values: bytes, shape: list[int], *, datatype: str = "FP32", **request: Any) -> dict[str, Any]:
    size = {"binary_data_size": len(values)}
    return {"inputs": [{"name": "image", "shape": shape, "datatype": datatype, "parameters": size}], **request}


async def image_input(rest: Rest, model: str = "digits") -> str:
    return str((await rest.get(f"/v2/models/{model}"))["inputs"][0]["name"])


RED = pytest.approx([1.0, 0.0, 0.0], abs=1e-3)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_server_says_its_name_version_and_extensions(rest: Rest, path: str) -> None:
    assert await rest.get(path) == {
        "name": "edge-agent",
        "version": "1.2.3",
        "extensions": [
            *("binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters"),
        ],
    }


@pytest.mark.anyio
async def test_health_follows_the_process_and_the_models(rest: Rest) -> None:
    assert await rest.get("/v2/health/live") == {"live": True}
    assert await rest.get("/v2/health/ready") == {"ready": True}
    rest.health.hangs = "An inference hangs."
    rest.models.served.clear()
    assert refusal(await rest.ask("GET", "/v2/health/live")) == (503, "An inference hangs.")
    answer = await rest.ask("GET", "/v2/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})


@pytest.mark.anyio
async def test_metadata_has_the_tensors_with_an_open_number_of_images(rest: Rest) -> None:
    rest.models.canaries["colors"] = colors(3)
    assert await rest.get("/v2/models/colors") == {
        "name": "colors",
        "versions": ["2", "3"],
        "platform": "tensorflow_tflite",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 4, 4, 3]}],
        "outputs": [{"name": "probs", "datatype": "FP32", "shape": [-1, 3]}],
    }
    (given,) = (await rest.get("/v2/models/digits"))["inputs"]
    assert (given["datatype"], given["shape"]) == ("UINT8", [-1, 32, 32, 1])


@pytest.mark.anyio
async def test_configuration_has_what_the_clients_of_triton_read(rest: Rest) -> None:
    assert await rest.get("/v2/models/colors/config") == {
        "name": "colors",
        "platform": "tensorflow_tflite",
        "max_batch_size": 64,
        "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [4, 4, 3], "format": "FORMAT_NHWC"}],
        "output": [{"name": "probs", "data_type": "TYPE_FP32", "dims": [3]}],
    }


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["2", "3", "stable", "canary"])
async def test_every_route_of_a_model_takes_a_number_or_a_label(rest: Rest, version: str) -> None:
    rest.models.canaries["colors"] = colors(3)
    path = f"/v2/models/colors/versions/{version}"
    assert (await rest.get(path))["name"] == "colors"
    assert (await rest.get(f"{path}/config"))["name"] == "colors"
    assert await rest.get(f"{path}/ready") == {"name": "colors", "ready": True}
    answer = (await rest.post(f"{path}/infer", tensor(red()))).json()
    assert answer["model_version"] == {"stable": "2", "canary": "3"}.get(version, version)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["cats", "cats/versions/1", "colors/versions/9", "colors/versions/canary"])
async def test_unknown_model_or_version_is_not_found(rest: Rest, path: str) -> None:
    for route in ("", "/ready", "/config"):
        assert refusal(await rest.ask("GET", f"/v2/models/{path}{route}"))[0] == 404
    assert refusal(await rest.post(f"/v2/models/{path}/infer", tensor(red())))[0] == 404


@pytest.mark.anyio
async def test_model_that_is_being_loaded_is_not_ready(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def loading(*_: object) -> None:
        raise ModelNotReadyError("Model colors is being loaded.")

    monkeypatch.setattr(rest.models, "get", loading)
    assert refusal(await rest.ask("GET", "/v2/models/colors/ready")) == (503, "Model colors is being loaded.")


@pytest.mark.anyio
async def test_index_lists_every_version_with_its_state(rest: Rest) -> None:
    rest.models.statuses = [
        birds(
            canary=identity(4),
            rejection=Rejection("birds.tflite", "The file is empty.", 0),
            versions=(version(4, "canary"), version(3, "rejected", "NaN."), version(2, "serving"), version(1)),
        ),
        ModelStatus("cats", candidate="cats.tflite"),
    ]
    serving = [
        {"name": "birds", "version": "2", "state": "READY", "reason": ""},
        {"name": "birds", "version": "4", "state": "READY", "reason": ""},
    ]
    for body in (b"", b"{}", b'{"ready": false}'):
        assert (await rest.ask("POST", "/v2/repository/index", content=body)).json() == [
            *serving,
            {"name": "birds", "version": "3", "state": "UNAVAILABLE", "reason": "NaN."},
            {"name": "birds", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
            {"name": "birds", "version": "", "state": "UNAVAILABLE", "reason": "The file is empty."},
            {"name": "cats", "version": "", "state": "LOADING", "reason": ""},
        ]
    assert (await rest.post("/v2/repository/index", {"ready": True})).json() == serving


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "code"),
    [(b"[]", 400), (b'{"ready": 1}', 400), (b"no", 400), (b"[" * 4000, 400), (b"[]" + b" " * 4095, 413)],
)
async def test_index_refuses_another_body(rest: Rest, body: bytes, code: int) -> None:
    assert refusal(await rest.ask("POST", "/v2/repository/index", content=body))[0] == code


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["load", "unload"])
async def test_loading_is_refused_with_the_drop_folder(rest: Rest, what: str) -> None:
    code, sentence = refusal(await rest.post(f"/v2/repository/models/colors/{what}", {}))
    assert code == 400
    assert "drop folder, models.folder" in sentence
    assert "/api/models/colors/pin" in sentence


@pytest.mark.anyio
async def test_tensor_gets_scores_with_the_name_of_the_output(rest: Rest) -> None:
    answer = await rest.infer({"id": "42", **tensor(red(2))})
    assert answer["id"] == "42"
    assert (answer["model_name"], answer["model_version"]) == ("colors", "2")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probs", "FP32", [2, 3])
    assert output["data"][:3] == RED
    assert output["data"][:3] == output["data"][3:]
    assert set(answer["parameters"]) == {"queue_ms", "decode_ms", "preprocess_ms", "infer_ms"}
    assert all(value >= 0 for value in answer["parameters"].values())
    assert len(rest.heard.results) == 2


@pytest.mark.anyio
async def test_answer_without_an_id_has_none(rest: Rest) -> None:
    assert "id" not in await rest.infer(tensor(red()))


@pytest.mark.anyio
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16"])
async def test_every_floating_point_datatype_is_accepted(rest: Rest, datatype: str) -> None:
    dtype = {"FP16": "<f2", "FP64": "<f8"}.get(datatype, "<f4")
    values = red().astype(dtype).tobytes()
    if datatype == "BF16":
        values = red().view("<u2")[..., 1::2].tobytes()
    assert await rest.scores(as_binary(values, [1, 4, 4, 3], datatype=datatype), binary=values) == RED
    assert await rest.scores(tensor(red(), datatype=datatype)) == RED


@pytest.mark.anyio
async def test_nested_data_is_read_like_flat_data(rest: Rest) -> None:
    assert await rest.scores(tensor(red(), data=red().tolist())) == RED


@pytest.mark.anyio
async def test_uint8_model_takes_pixels(rest: Rest) -> None:
    digits = rest.models.served["digits"]
    pixels = Preprocessor.of(digits.classifier(0).input, ModelSettings())(photo_of_3())
    name = await image_input(rest)
    document = tensor(pixels, name=name, datatype="UINT8", data=pixels.ravel().tolist())
    scores = await rest.scores(document, model="digits")
    assert int(np.argmax(scores)) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("shape", [[1], [1, 1]])
async def test_encoded_image_is_classified_like_an_upload(rest: Rest, shape: list[int]) -> None:
    uploaded = (await rest.ask("POST", "/predict?model=digits", content=JPEG)).json()["categories"][0]
    given = {"name": await image_input(rest), "shape": shape, "datatype": "BYTES"}
    text = {"inputs": [{**given, "data": [base64.b64encode(JPEG).decode()]}]}
    raw = raw_from_elements([JPEG])
    binary = {"inputs": [{**given, "parameters": {"binary_data_size": len(raw)}}]}
    for document, content in ((text, b""), (binary, raw)):
        scores = await rest.scores(document, model="digits", binary=content)
        assert int(np.argmax(scores)) == uploaded["index"] == 3
        assert round(max(scores), 4) == uploaded["score"]


@pytest.mark.anyio
async def test_outputs_are_binary_as_requested(rest: Rest) -> None:
    values, shape = red(2).tobytes(), [2, 4, 4, 3]
    everything, nothing = {"binary_data_output": True}, {"binary_data_output": False}
    for request, is_binary in (
        ({"parameters": everything}, True),
        ({"parameters": nothing}, False),
        ({"outputs": [{"name": "probs", "parameters": {"binary_data": True}}]}, True),
        ({"outputs": [{"name": "probs"}]}, False),
        ({"parameters": everything, "outputs": [{"name": "probs"}]}, True),
        ({"parameters": everything, "outputs": [{"name": "probs", "parameters": {"binary_data": False}}]}, False),
    ):
        answer = await rest.post("/v2/models/colors/infer", as_binary(values, shape, **request), binary=values)
        length = answer.headers.get("Inference-Header-Content-Length")
        assert (length is not None) is is_binary
        document = json.loads(answer.content[: int(length) if length else None])
        (output,) = document["outputs"]
        if is_binary:
            assert output["parameters"] == {"binary_data_size": 24}
            assert "data" not in output
            assert answer.headers["content-type"] == "application/octet-stream"
            assert np.frombuffer(answer.content[int(length) :], "<f4")[:3].tolist() == RED
        else:
            assert output["data"][:3] == RED


@pytest.mark.anyio
async def test_classification_gives_value_index_and_label_of_the_best(rest: Rest) -> None:
    wanted = {"name": "probs", "parameters": {"classification": 2}}
    answer = await rest.infer({**tensor(red(2)), "outputs": [wanted]})
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == ["0.999909:0:red", "0.000045:1:green"] * 2
    wanted["parameters"]["binary_data"] = True  # type: ignore[index]
    binary = await rest.post("/v2/models/colors/infer", {**tensor(red()), "outputs": [wanted]})
    assert binary.content.endswith(raw_from_elements([b"0.999909:0:red", b"0.000045:1:green"]))


@pytest.mark.anyio
async def test_classification_has_no_more_classes_than_the_model(rest: Rest) -> None:
    wanted = {"name": "probs", "parameters": {"classification": 1000}}
    (output,) = (await rest.infer({**tensor(red()), "outputs": [wanted]}))["outputs"]
    assert output["shape"] == [1, 3]


@pytest.mark.anyio
async def test_raw_output_has_the_logits(rest: Rest) -> None:
    wanted = [{"name": "raw"}, {"name": "probs"}, {"name": "raw", "parameters": {"classification": 1}}]
    outputs = (await rest.infer({**tensor(red()), "outputs": wanted}))["outputs"]
    assert [output["name"] for output in outputs] == ["raw", "probs", "raw"]
    assert outputs[0]["data"] == [10.0, 0.0, 0.0]
    assert outputs[1]["data"] == RED
    assert outputs[2]["data"] == ["10.000000:0:red"]


@pytest.mark.anyio
async def test_null_stands_for_what_was_left_out(rest: Rest) -> None:
    image = {**tensor(red())["inputs"][0], "parameters": None}
    for outputs in (None, [{"name": "probs", "parameters": None}]):
        assert await rest.scores({"id": None, "parameters": None, "inputs": [image], "outputs": outputs}) == RED


@pytest.mark.anyio
async def test_body_without_json_is_a_tensor_or_an_image(rest: Rest) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    for model, content, rows in (("colors", red(2).tobytes(), 2), ("digits", JPEG, 1)):
        answer = await rest.ask("POST", f"/v2/models/{model}/infer", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        (output,) = json.loads(answer.content[: int(answer.headers["Inference-Header-Content-Length"])])["outputs"]
        assert output["shape"][0] == rows
    tensor = b"BM" + red().tobytes()[2:]
    answer = await rest.ask("POST", "/v2/models/colors/infer", content=tensor, headers=headers)
    assert answer.status_code == 200, answer.text  # a BMP would state its size next
    answer = await rest.ask("POST", "/v2/models/colors/infer", content=b"x" * 191, headers=headers)
    assert refusal(answer) == (
        400,
        "The body has 191 bytes. Send an encoded image, or 192 bytes for each image: [-1, 4, 4, 3] of FP32.",
    )


@pytest.mark.anyio
@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_request_is_expanded(rest: Rest, encoding: str, compress: Any) -> None:
    values = red().tobytes()
    text = json.dumps(as_binary(values, [1, 4, 4, 3])).encode()
    headers = {"Content-Encoding": encoding, "Inference-Header-Content-Length": str(len(text))}
    content = compress(text + values)
    answer = await rest.ask("POST", "/v2/models/colors/infer", content=content, headers=headers)
    assert answer.json()["outputs"][0]["data"] == RED
    bomb = compress(bytes(MAX_BYTES + 1))
    answer = await rest.ask("POST", "/v2/models/colors/infer", content=bomb, headers=headers)
    assert refusal(answer)[0] == 413


@pytest.mark.anyio
async def test_unknown_parameters_and_fields_are_ignored(rest: Rest) -> None:
    document = tensor(red(), parameters={"content_type": "np"})
    document |= {"parameters": {"priority": 3, "sequence_id": 1, "mine": "x"}, "more": [], "model_name": "x"}
    document["outputs"] = [{"name": "probs", "parameters": {"mine": 1}}]
    assert await rest.scores(document) == RED


def without(key: str) -> dict[str, Any]:
    document = tensor(red())
    del document["inputs"][0][key]
    return document


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], "The body is a list. Send a JSON object."),
        ({}, "The request has no list of objects `inputs`"),
        ({"inputs": {}}, "The request has no list of objects `inputs`"),
        ({"inputs": ["image"]}, "The request has no list of objects `inputs`"),
        ({"inputs": []}, "The request has 0 inputs; the model has one"),
        ({"inputs": tensor(red())["inputs"] * 2}, "The request has 2 inputs; the model has one"),
        ({**tensor(red()), "outputs": {}}, "The request has no list of objects `outputs`"),
        ({**tensor(red()), "outputs": [{}]}, "An output has no string `name`"),
        ({**tensor(red()), "outputs": [{"name": "x"}]}, "The model has no output 'x'. Its outputs: probs."),
        ({**tensor(red()), "id": 42}, "The id of the request is not a string"),
        ({**tensor(red()), "parameters": []}, "The parameters of the request are not an object"),
        ({**tensor(red()), "parameters": {"binary_data_output": 1}}, "binary_data_output is neither true nor false"),
        (without("name"), "An input has no string `name`"),
        (without("datatype"), "An input has no string `datatype`"),
        (without("shape"), "The shape of input 'image' is not a list of up to 8 integers"),
        (without("data"), "Tensor 'image' has no list of numbers `data`, and no parameter binary_data_size"),
        (tensor(red(), name="input"), "The model has no input 'input'. Its input is 'image'."),
        (tensor(red(), shape=[1] * 9), "The shape of input 'image' is not a list of up to 8 integers"),
        (tensor(red(), shape=[[1, 4, 4, 3]]), "The shape of input 'image' is not a list of up to 8 integers"),
        (tensor(red(), shape=[]), "Tensor 'image' has the shape []; the model takes [-1, 4, 4, 3]"),
        (tensor(red(), shape=[1.0, 4, 4, 3]), "The value 1.0 is not of the type int64"),
        (tensor(red(), shape=[True, 4, 4, 3]), "must consist of numbers of the type int64, but contains true"),
        (tensor(red(), shape=[1 << 80, 4, 4, 3]), "is not of the type int64"),
        (tensor(red(), shape=[1, 3, 4, 4]), "Tensor 'image' has the shape [1, 3, 4, 4]; the model takes [-1, 4, 4, 3]"),
        (tensor(red(), shape=[4, 4, 3]), "Tensor 'image' has the shape [4, 4, 3]; the model takes [-1, 4, 4, 3]"),
        (tensor(red(), shape=[1 << 40, 1 << 40]), "has the shape [1099511627776, 1099511627776]; the model"),
        (tensor(red(), shape=[-1, 4, 4, 3]), "A side of Tensor 'image' is -1"),
        (tensor(red(), datatype="FLOAT"), "Tensor 'image' has the unknown datatype 'FLOAT'"),
        (tensor(red(), datatype="INT32", data=[1] * 48), "has the datatype INT32; the model takes FP32"),
        (tensor(red(), data="text"), "Tensor 'image' has no list of numbers `data`"),
        (tensor(red(), data=["1"] * 48), "Tensor 'image' has no list of numbers `data`"),
        (tensor(red(), data=[True] * 48), "must consist of numbers of the type float32, but contains true"),
        (tensor(red(), data=[None] * 48), "must consist of numbers of the type float32, but contains null"),
        (tensor(red(), datatype="BOOL"), "has the datatype BOOL; the model takes FP32"),
        (tensor(red(), datatype="BYTES", shape=[2], data=["aaaa"]), "has no list `data` with 2 texts"),
        (tensor(red(), datatype="BYTES", shape=[1], data=[1]), "has no list `data` with 1 texts"),
        (tensor(red(65)), "The request has 65 instances. Send 1 to 64."),
        (tensor(red() * np.nan), "The tensor contains NaN or infinity"),
        (tensor(red(), parameters={"shared_memory_region": "x"}), "The agent has no shared memory"),
        (tensor(red(), parameters={"binary_data_size": 192}), "has the binary_data_size 192, but 0 bytes follow"),
        (tensor(red(), datatype="BYTES", shape=[1, 2], data=["aaaa", "aaaa"]), "images as BYTES have [-1] or [-1, 1]"),
        (tensor(red(), datatype="BYTES", shape=[1], data=["?"]), "is not base64"),
        (tensor(red(), datatype="BYTES", shape=[1], data=["aaaa"]), "Send a JPEG, PNG, WebP or BMP"),
    ],
)
async def test_malformed_request_is_refused_with_its_fault(rest: Rest, document: Any, sentence: str) -> None:
    code, error = refusal(await rest.post("/v2/models/colors/infer", document))
    assert sentence in error
    assert code == 400


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The body is empty"),
        (b"{", "The body is not valid JSON"),
        (b"\xff", "The body is not UTF-8"),
        (b'{"inputs": ' + b"9" * 9000 + b"}", "The body is not valid JSON"),
        (b"[" * 99_000, "The body has large lists"),
        (JPEG, "The body"),
    ],
)
async def test_body_that_is_not_json_is_refused(rest: Rest, content: bytes, sentence: str) -> None:
    code, error = refusal(await rest.ask("POST", "/v2/models/colors/infer", content=content))
    assert sentence in error
    assert code == 400


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("stated", "size", "sentence"),
    [
        ("x", 192, "Inference-Header-Content-Length is not a number of bytes: x."),
        ("-1", 192, "Inference-Header-Content-Length is not a number of bytes: -1."),
        ("9" * 99, 192, "is not a number of bytes: 999"),
        ("99999", 192, "Inference-Header-Content-Length is 99999, but the body has"),
        (None, 191, "has the binary_data_size 191, but 192 bytes follow the JSON"),
        (None, 193, "has the binary_data_size 193, but 192 bytes follow the JSON"),
        (None, -192, "has the binary_data_size -192, but 192"),
        (None, True, "has the binary_data_size True, but 192"),
        (None, "192", "has the binary_data_size 192, but 192"),
    ],
)
async def test_length_that_lies_is_refused(rest: Rest, stated: str | None, size: Any, sentence: str) -> None:
    document = as_binary(b"", [1, 4, 4, 3])
    document["inputs"][0]["parameters"]["binary_data_size"] = size
    text = json.dumps(document).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)) if stated is None else stated}
    answer = await rest.ask("POST", "/v2/models/colors/infer", content=text + red().tobytes(), headers=headers)
    code, error = refusal(answer)
    assert sentence in error
    assert code == 400


@pytest.mark.anyio
async def test_binary_part_of_another_size_than_its_shape_is_refused(rest: Rest) -> None:
    values = red().tobytes()[:-4]
    answer = await rest.post("/v2/models/colors/infer", as_binary(values, [1, 4, 4, 3]), binary=values)
    assert refusal(answer) == (400, "Tensor 'image' has 188 bytes, but [1, 4, 4, 3] of FP32 takes 192.")


@pytest.mark.anyio
async def test_binary_part_that_no_input_announces_is_refused(rest: Rest) -> None:
    answer = await rest.post("/v2/models/colors/infer", tensor(red()), binary=b"more")
    assert refusal(answer) == (400, "4 bytes follow the JSON, but Tensor 'image' has no binary_data_size.")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("shape", "data", "found"),
    [
        ([1, 4, 4, 3], [1] * 47, "[47]"),
        ([1, 4, 4, 3], [], "[0]"),
        ([1, 4, 4, 3], [1] * 49, "[49]"),
        ([1, 4, 4, 3], [[1] * 48], "[1, 48]"),
        ([2, 4, 4, 3], red().tolist(), "[1, 4, 4, 3]"),
    ],
)
async def test_data_of_another_shape_is_refused_with_both_shapes(
    rest: Rest, shape: list[int], data: Any, found: str
) -> None:
    code, error = refusal(await rest.post("/v2/models/colors/infer", tensor(red(), shape=shape, data=data)))
    assert f"has the shape {shape}, but its data has the shape {found}." in error
    assert code == 400


@pytest.mark.anyio
async def test_large_json_is_read_in_a_thread(rest: Rest) -> None:
    values = np.round(red(64), 1) + 0.25
    document = {"filler": " " * 50_000, **tensor(values)}
    assert len(await rest.scores(document)) == 64 * 3


@pytest.mark.anyio
async def test_larger_body_than_an_upload_may_have_is_refused(rest: Rest) -> None:
    answer = await rest.ask("POST", "/v2/models/colors/infer", content=bytes(MAX_BYTES + 1))
    assert refusal(answer)[0] == 413


@pytest.mark.anyio
async def test_busy_agent_says_when_to_retry(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise BusyError("All places are taken.", retry_after_s=1)

    monkeypatch.setattr(rest.engine, "place", busy)
    answer = await rest.post("/v2/models/colors/infer", tensor(red()))
    assert refusal(answer) == (503, "All places are taken.")
    assert answer.headers["Retry-After"] == "1"
