"""SavedModels and their .tflite forms in one drop folder, asked over HTTP, gRPC and MQTT."""

from __future__ import annotations

import base64
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import grpc
import numpy as np
import pytest
import tensorflow as tf
from agents.running_agent import RunningAgent, wait_until
from paho.mqtt import publish
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

from agent.image import decode
from agent.model_file.metadata import Tensor
from agent.model_file.settings import ModelSettings
from agent.rpc.protos import open_inference_pb2 as oip, tf_serving_pb2 as tfs
from agent.runtimes.preprocessing import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The fixture starts TensorFlow four times, which takes minutes beside other work.
pytestmark = [pytest.mark.assets, pytest.mark.mosquitto, pytest.mark.first, pytest.mark.timeout(600)]

SIDE = 96
CLASSES = 5


@dataclass(frozen=True)
class Trained:
    """A model as the drop folder serves it: from TensorFlow, and as `<name>_lite` from its float .tflite."""

    name: str
    path: Path
    labels: tuple[str, ...]
    mean: float
    std: float

    def alone(self, stack: Any) -> Any:
        """What TensorFlow answers without the agent."""
        call = tf.saved_model.load(str(self.path)).signatures["serving_default"]
        (name,) = call.structured_input_signature[1]
        (scores,) = call(**{name: tf.constant(stack)}).values()
        return scores.numpy()

    def tensor(self, photo: bytes) -> Any:
        settings = ModelSettings(mean=(self.mean,), std=(self.std,))
        preprocessor = Preprocessor.of(Tensor("image", (1, SIDE, SIDE, 3), "float32"), settings)
        return preprocessor(decode(photo, smallest_side=preprocessor.smallest_side))


@pytest.fixture(scope="module")
def trained(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Trained]:
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.applications.MobileNetV2((SIDE, SIDE, 3), alpha=0.35, weights=None, classes=CLASSES)
    fresh = tmp_path_factory.mktemp("fresh") / "mobilenet"
    model.export(str(fresh), verbose=False)
    published = assets / "savedmodels/vww_96_savedmodel"
    return [
        Trained("vww", published, ("person", "empty"), 0.0, 255.0),
        Trained("mobilenet", fresh, tuple("abcde"), 127.5, 127.5),
    ]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def agent(
    trained: list[Trained], broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningAgent]:
    agent = RunningAgent(
        tmp_path_factory.mktemp("agent"),
        mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port},
        grpc={"enabled": True, "port": 0},
        http={"per_client": 16},
        engine={"batching": {"enabled": True, "max_batch_size": 4}},
    )
    for model in trained:
        drop(model, agent.models)
    with agent:
        names = {name for model in trained for name in (model.name, f"{model.name}_lite")}
        wait_until(lambda: serving(agent) == names, timeout_s=240, what=f"all models serve, not only {serving(agent)}")
        yield agent


def drop(model: Trained, folder: Path) -> None:
    shutil.copytree(model.path, folder / model.name / "1")
    content = tf.lite.TFLiteConverter.from_saved_model(str(model.path)).convert()
    (folder / f"{model.name}_lite.tflite").write_bytes(content)
    settings = f"mean: {model.mean}\nstd: {model.std}\nscore: probability\n"
    for beside in (folder / model.name / "1", folder / f"{model.name}_lite"):
        beside.with_name(f"{beside.name}.txt").write_text("\n".join(model.labels))
        beside.with_name(f"{beside.name}.yaml").write_text(settings)


def serving(agent: RunningAgent) -> set[str]:
    return {model["name"] for model in agent.json("/v1/models")["models"] if model.get("serving")}


@pytest.fixture(scope="module")
def photo(assets: Path) -> bytes:
    return (assets / "photos/cat_720p.jpg").read_bytes()


def over_http(agent: RunningAgent, name: str, photo: bytes) -> Any:
    answer = agent.post(f"/predict?model={name}&max_results=10", content=photo).json()
    return by_index(answer)


def by_index(answer: Any) -> Any:
    return np.array([each["score"] for each in sorted(answer["categories"], key=lambda each: each["index"])])


@pytest.mark.parametrize("index", [0, 1], ids=["vww", "mobilenet"])
def test_photo_gets_the_scores_of_tensorflow_and_of_the_tflite_file(
    agent: RunningAgent, trained: list[Trained], photo: bytes, broker: Mosquitto, index: int
) -> None:
    model = trained[index]
    expected = model.alone(model.tensor(photo))[0]
    scores = over_http(agent, model.name, photo)
    assert np.allclose(scores, expected, atol=1e-4)  # /predict rounds to four digits
    assert np.allclose(scores, over_http(agent, f"{model.name}_lite", photo), atol=1e-3)
    with Subscriber(broker.port, topics="answers") as heard:
        document = {
            "image": base64.b64encode(photo).decode(),
            "reply_to": "answers",
            "model": model.name,
        }
        publish.single("edge-agent/test/classify", json.dumps(document), hostname="127.0.0.1", port=broker.port)
        wait_until(lambda: heard.of("answers"), what="the answer over MQTT")
    (answer,) = heard.of("answers")
    assert np.allclose(answer.json["categories"][0]["score"], expected.max(), atol=1e-4)
    assert answer.json["model"]["name"] == model.name


@pytest.mark.parametrize("index", [0, 1], ids=["vww", "mobilenet"])
def test_tensors_get_the_scores_of_tensorflow_over_http_and_grpc(
    agent: RunningAgent, trained: list[Trained], index: int
) -> None:
    model = trained[index]
    stack = np.random.default_rng(1).random((3, SIDE, SIDE, 3), np.float32)
    expected = model.alone(stack)
    answer = agent.post(f"/v1/models/{model.name}:predict", json={"instances": stack.tolist()})
    assert np.allclose(answer.json()["predictions"], expected, atol=1e-5)
    lite = agent.post(f"/v1/models/{model.name}_lite:predict", json={"instances": stack.tolist()})
    assert np.allclose(lite.json()["predictions"], expected, atol=1e-3)
    found = re.search(r"gRPC (127\.0\.0\.1:\d+),", agent.log)
    assert found is not None
    with grpc.insecure_channel(found[1]) as channel:
        assert np.allclose(over_predict(channel, agent, model, stack), expected, atol=1e-5)
        assert np.allclose(over_model_infer(channel, agent, model, stack), expected, atol=1e-5)


def over_predict(channel: Any, agent: RunningAgent, model: Trained, stack: Any) -> Any:
    name = agent.json(f"/v2/models/{model.name}")["inputs"][0]["name"]
    shape = tfs.TensorShape(dim=[tfs.TensorShape.Dim(size=side) for side in stack.shape])
    sent = tfs.SentTensor(dtype=tfs.DT_FLOAT, tensor_shape=shape, tensor_content=stack.tobytes())
    request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name=model.name), inputs={name: sent})
    call = channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict", response_deserializer=tfs.PredictResponse.FromString
    )
    (output,) = call(request.SerializeToString(), timeout=30).outputs.values()
    return np.array(output.float_val).reshape(len(stack), -1)


def over_model_infer(channel: Any, agent: RunningAgent, model: Trained, stack: Any) -> Any:
    name = agent.json(f"/v2/models/{model.name}")["inputs"][0]["name"]
    given = oip.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=stack.shape)
    request = oip.ModelInferRequest(model_name=model.name, inputs=[given], raw_input_contents=[stack.tobytes()])
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", response_deserializer=oip.ModelInferResponse.FromString
    )
    (raw,) = call(request.SerializeToString(), timeout=30).raw_output_contents
    return np.frombuffer(raw, np.float32).reshape(len(stack), -1)


def parts(photo: bytes) -> list[Any]:
    """16 parts of the photo, which the person detector answers differently."""
    pixels = decode(photo).to_color("bgr").pixels
    height, width = (side // 4 for side in pixels.shape[:2])
    return [
        np.ascontiguousarray(pixels[row * height : (row + 1) * height, column * width : (column + 1) * width])
        for row in range(4)
        for column in range(4)
    ]


def test_16_clients_at_once_get_their_own_answers_from_batches(
    agent: RunningAgent, trained: list[Trained], photo: bytes
) -> None:
    model = trained[0]
    photos = [bytes(cv2.imencode(".png", part)[1]) for part in parts(photo)]
    expected = model.alone(np.concatenate([model.tensor(each) for each in photos]))
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda each: over_http(agent, model.name, each), photos))
    assert np.allclose(answers, expected, atol=1e-4)
    assert len({tuple(each) for each in np.round(expected, 3)}) >= 8
    counts = re.findall(
        r'edge_agent_batch_size_bucket\{le="([\d.]+)",model="vww"\} ([\d.]+)', agent.get("/metrics").text
    )
    assert float(dict(counts)["4.0"]) > 0
    (status,) = [each for each in agent.json("/api/status")["models"] if each["name"] == "vww"]
    assert f"TensorFlow {tf.__version__} on CPU" in str(status)
    assert "Batches of up to 4 images" in str(status)
