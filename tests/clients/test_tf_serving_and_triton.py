"""The unmodified clients of TensorFlow Serving and Triton."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from agents.running_agent import DIGITS, ROOT, wait_until
from clients.conftest import MODELS, PHOTOS, Agent, Served, grpc_address
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tritonclient.utils import np_to_triton_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INPUT_SIZE = {"uint8": 224, "int8": 96, "float32": 224}


class TensorFlowServing:
    """Predict over gRPC."""

    def __init__(self, served: Served) -> None:
        tls = grpc.ssl_channel_credentials(served.ca_file.read_bytes())
        self.channel = grpc.secure_channel(
            served.grpc, grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(served.token))
        )
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def spec(self, request: Any, model: str, version: str) -> Any:
        request.model_spec.name = model
        if version.isdecimal():
            request.model_spec.version.value = int(version)
        else:
            request.model_spec.version_label = version
        return request

    def __call__(self, model: str, version: str, value: Any) -> Any:
        request = self.spec(predict_pb2.PredictRequest(), model, version)
        name = self.signature(model).inputs
        request.inputs[next(iter(name))].CopyFrom(tf.make_tensor_proto([value] if isinstance(value, bytes) else value))
        response = self.prediction.Predict(request, timeout=30)
        return tf.make_ndarray(next(iter(response.outputs.values()))).ravel()

    def signature(self, model: str) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        response = self.prediction.GetModelMetadata(request, timeout=30)
        described = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(described)
        return described.signature_def["serving_default"]


class Triton:
    """The Open Inference Protocol, over gRPC or HTTP; `options` are those of set_data_from_numpy."""

    def __init__(self, package: Any, client: Any, headers: dict[str, str], **options: Any) -> None:
        self.client = client
        self._package = package
        self._headers = headers
        self._options = options

    def __call__(self, model: str, version: str, value: Any) -> Any:
        metadata = self.client.get_model_metadata(model, headers=self._headers)
        inputs = metadata["inputs"] if isinstance(metadata, dict) else metadata.inputs
        takes = inputs[0]["name"] if isinstance(metadata, dict) else inputs[0].name
        if isinstance(value, bytes):
            value = np.array([value], dtype=object)
        datatype = np_to_triton_dtype(value.dtype)
        given = self._package.InferInput(takes, list(value.shape), datatype)
        given.set_data_from_numpy(value, **self._options)
        answer = self.client.infer(model, [given], model_version=version, headers=self._headers)
        described = answer.get_response()
        output = described["outputs"][0]["name"] if isinstance(described, dict) else described.outputs[0].name
        return answer.as_numpy(output).ravel()


class TensorFlowServingREST:
    """A plain request, as its documentation shows it; `form` makes the body of one value."""

    def __init__(self, served: Served, form: Callable[[Any], Any], field: str) -> None:
        self._served = served
        self._form = form
        self._field = field

    def __call__(self, model: str, version: str, value: Any) -> Any:
        given = {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value[0].tolist()
        chosen = f"versions/{version}" if version.isdecimal() else f"labels/{version}"
        answer = requests.post(
            f"{self._served.http}/v1/models/{model}/{chosen}:predict",
            json=self._form(given),
            headers=self._served.header,
            verify=str(self._served.ca_file),
            timeout=30,
        ).json()
        return np.array(answer[self._field][0], np.float32)


@pytest.fixture(scope="module")
def doors(served: Served) -> Iterator[dict[str, Callable[[str, str, Any], Any]]]:
    address = served.http.removeprefix("https://")
    over_http = triton_http.InferenceServerClient(address, ssl=True, ssl_options={"ca_certs": str(served.ca_file)})
    over_grpc = triton_grpc.InferenceServerClient(served.grpc, ssl=True, root_certificates=str(served.ca_file))
    header = {key.lower(): value for key, value in served.header.items()}
    yield {
        "TensorFlow Serving over gRPC": TensorFlowServing(served),
        "v2 over gRPC": Triton(triton_grpc, over_grpc, header),
        "row": TensorFlowServingREST(served, lambda value: {"instances": [value]}, "predictions"),
        "column": TensorFlowServingREST(served, lambda value: {"inputs": [value]}, "outputs"),
        "v2 JSON": Triton(triton_http, over_http, served.header, binary_data=False),
        "v2 binary": Triton(triton_http, over_http, served.header),
    }
    over_http.close()
    over_grpc.close()


@pytest.mark.assets
@pytest.mark.parametrize("door", ["TensorFlow Serving over gRPC", "row", "column", "v2 over gRPC", "v2 binary"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("version", ["1", "stable"])
def test_photos_get_the_scores_of_predict(
    served: Served, doors: dict[str, Callable[[str, str, Any], Any]], door: str, model: str, version: str
) -> None:
    for photo in PHOTOS:
        expected = served.scores[model, photo]
        scores = doors[door](model, version, served.photos[photo])
        assert scores.shape == expected.shape
        assert scores.argmax() == expected.argmax()
        assert scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.assets
@pytest.mark.parametrize("model", MODELS)
def test_tensor_gets_the_same_scores_through_each_door(
    doors: dict[str, Callable[[str, str, Any], Any]], model: str
) -> None:
    side = INPUT_SIZE[model]
    pixels = np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8)
    value = pixels if model == "uint8" else (pixels / 127.5 - 1).astype(np.float32)
    answers = [door(model, "stable", value) for door in doors.values()]
    assert 0 < answers[0].max() <= 1
    for answer in answers[1:]:
        assert np.array_equal(answer, answers[0])


@pytest.mark.assets
def test_classify_and_status_answer_the_clients_of_tensorflow_serving(
    served: Served, doors: dict[str, Callable[[str, str, Any], Any]]
) -> None:
    client: Any = doors["TensorFlow Serving over gRPC"]
    request = client.spec(classification_pb2.ClassificationRequest(), "int8", "stable")
    example = tf.train.Example()
    example.features.feature["image"].bytes_list.value.append(served.photos["grace_hopper.bmp"])
    request.input.example_list.examples.append(example)
    (classified,) = client.prediction.Classify(request, timeout=30).result.classifications
    best = served.scores["int8", "grace_hopper.bmp"]
    assert [each.score for each in classified.classes] == pytest.approx(sorted(best, reverse=True), abs=1e-4)
    service = model_service_pb2_grpc.ModelServiceStub(client.channel)
    status = service.GetModelStatus(client.spec(get_model_status_pb2.GetModelStatusRequest(), "int8", "1"), timeout=30)
    (version,) = status.model_version_status
    assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE


@pytest.mark.assets
def test_client_without_a_token_is_refused(served: Served) -> None:
    tls = grpc.ssl_channel_credentials(served.ca_file.read_bytes())
    with grpc.secure_channel(served.grpc, tls) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            service.Predict(predict_pb2.PredictRequest(), timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_snippets_of_the_reference_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs/reference/grpc.md").read_text(), re.DOTALL)
    assert len(snippets) == 2
    monkeypatch.chdir(ROOT)
    agent = Agent(tmp_path, grpc={"enabled": True, "port": 0})
    with agent:
        agent.drop(DIGITS.read_bytes())
        wait_until(lambda: agent.get("/readyz").is_success, what="the model serves")
        for snippet in snippets:
            exec(snippet.replace("127.0.0.1:8500", grpc_address(agent)), {})
            assert "3" in capsys.readouterr().out


_AGENT = """
from agent.rpc import certificate, door, health, open_inference, server, tf_serving
from agent.rpc.protos import tf_serving_pb2
"""
_TENSORFLOW = """
import tensorflow
from tensorflow_serving.apis import predict_pb2
sent = predict_pb2.PredictRequest(inputs={"x": tensorflow.make_tensor_proto([[0.5, 1.0]])}).SerializeToString()
"""
_BOTH = """
received = tf_serving_pb2.PredictRequest.FromString(sent).inputs["x"]
assert [side.size for side in received.tensor_shape.dim] == [1, 2]
answered = tf_serving_pb2.Tensor(dtype=1, tensor_shape=received.tensor_shape, float_val=[0.5, 1.0])
published = type(tensorflow.make_tensor_proto(0))
assert tensorflow.make_ndarray(published.FromString(answered.SerializeToString())).tolist() == [[0.5, 1.0]]
"""


def test_the_grpc_server_loads_after_tensorflow() -> None:
    exec(_TENSORFLOW + _AGENT + _BOTH, {})


def test_the_grpc_server_loads_before_tensorflow() -> None:
    script = _AGENT + _TENSORFLOW + _BOTH
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
