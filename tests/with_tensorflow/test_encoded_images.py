"""A SavedModel that decodes images itself, asked by the clients of each protocol."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest
from agents.fake_agent import (
    NO_COLLECTION,
    OPEN,
    FakeHealth,
    FakeMetrics,
    FakeModels,
    FakeOverview,
    FakeProfiles,
    identity,
)
from agents.heard import Heard
from agents.saved_models import save_function

from agent.errors import TensorError
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.results import Results
from agent.inference.share import places_for_uploads
from agent.model_file.model import read_model
from agent.model_file.settings import ModelSettings
from agent.models.loader import LoadedModel
from agent.models.serving import ServedModel
from agent.rest.app import Limits, create_app
from agent.rpc.protos import tf_serving_pb2 as tfs
from agent.rpc.tensors import instances
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.saved_classifier import BatchLimits
from agent.status import ModelStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SETTINGS = ModelSettings(labels=("red", "green", "blue"), score="probability")
RED = np.tile(np.array([0, 0, 200], np.uint8), (20, 30, 1))  # BGR
JPEG, PNG = (bytes(cv2.imencode(ending, RED)[1]) for ending in (".jpg", ".png"))


def decoded(tf: Any, contents: Any) -> Any:
    def one(content: Any) -> Any:
        pixels = tf.reshape(tf.io.decode_image(content, channels=3, expand_animations=False), (-1, 3))
        return tf.reduce_mean(tf.cast(pixels, tf.float32), axis=0)

    return tf.nn.softmax(tf.map_fn(one, contents, fn_output_signature=tf.float32) / 20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    import tensorflow as tf  # noqa: PLC0415  (only in .venv-converter)

    path = save_function(tmp_path_factory.mktemp("saved") / "1", decoded, (None,), tf.string, name="photo")
    model = read_model(path)
    classifiers = open_classifiers(model, SETTINGS, workers=2, threads=1, batches=BatchLimits(4, is_forced=True))
    classifiers[0].warm_up()
    return ServedModel(identity(1, "colors"), LoadedModel(model, SETTINGS, classifiers))


@pytest.fixture
async def client(served: ServedModel) -> AsyncIterator[httpx.AsyncClient]:
    models = FakeModels(ModelStatus("colors", serving=served.identity))
    models.served["colors"] = served
    engine = InferenceEngine(workers=2, max_waiting=8, max_pixels=1000)
    app = create_app(
        version="1.2.3",
        data_plane=DataPlane(engine=engine, models=models, results=Results(device="test"), listener=Heard()),
        models=models,
        cameras=FakeOverview(),
        profiles=FakeProfiles(),
        collection=NO_COLLECTION,
        overview=FakeOverview(),
        health=FakeHealth(),
        metrics=FakeMetrics(),
        limits=Limits(max_upload_bytes=100_000, per_client=8),
        places=places_for_uploads(10, per_client=8),
        access=OPEN,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client
    engine.close()


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


@pytest.mark.anyio
async def test_encoded_images_are_classified_over_every_route(client: httpx.AsyncClient) -> None:
    uploaded = (await client.post("/predict", content=JPEG)).json()
    assert uploaded["label"] == "red"
    rows = await client.post("/v1/models/colors:predict", json={"instances": [b64(JPEG), {"photo": b64(PNG)}][:1]})
    (scores,) = rows.json()["predictions"]
    assert scores[0] == pytest.approx(uploaded["confidence"], abs=0.02)
    columns = await client.post("/v1/models/colors:predict", json={"inputs": {"photo": [b64(JPEG), b64(PNG)]}})
    assert len(columns.json()["outputs"]) == 2
    data = {"name": "photo", "shape": [1], "datatype": "BYTES", "data": [b64(PNG)["b64"]]}
    (output,) = (await client.post("/v2/models/colors/infer", json={"inputs": [data]})).json()["outputs"]
    assert output["data"][0] == pytest.approx(scores[0], abs=0.02)


@pytest.mark.anyio
async def test_metadata_says_that_the_model_takes_strings(client: httpx.AsyncClient) -> None:
    metadata = (await client.get("/v1/models/colors/metadata")).json()["metadata"]
    photo = metadata["signature_def"]["signature_def"]["serving_default"]["inputs"]["photo"]
    assert photo["dtype"] == "DT_STRING"
    assert [side["size"] for side in photo["tensor_shape"]["dim"]] == ["-1"]
    (given,) = (await client.get("/v2/models/colors")).json()["inputs"]
    assert given == {"name": "photo", "datatype": "BYTES", "shape": [-1]}
    configured = (await client.get("/v2/models/colors/config")).json()
    assert configured["input"] == [{"name": "photo", "data_type": "TYPE_BYTES", "dims": [1], "format": "FORMAT_NONE"}]
    assert (await client.get("/v2/models/colors")).json()["platform"] == "tensorflow_savedmodel"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/v1/models/colors:predict", {"instances": [[1.0, 2.0]]}, "The model takes encoded images. Send each as"),
        ("/v1/models/colors:predict", {"inputs": 3}, "The value is a number. The model takes encoded images"),
        ("/v1/models/colors:predict", {"instances": [b64(b"text")]}, "The image format is not supported"),
        (
            "/v1/models/colors:predict",
            {"instances": [b64(bytes(cv2.imencode(".png", np.zeros((50, 50), np.uint8))[1]))]},
            "at most 1000 pixels are allowed",
        ),
        (
            "/v2/models/colors/infer",
            {"inputs": [{"name": "photo", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]},
            "the model takes encoded images as BYTES",
        ),
    ],
)
async def test_what_is_not_an_encoded_image_is_refused(
    client: httpx.AsyncClient, path: str, body: Any, sentence: str
) -> None:
    answer = await client.post(path, content=json.dumps(body))
    assert 400 <= answer.status_code < 500
    assert sentence in answer.json()["error"]


def test_tensors_over_grpc_are_refused_and_strings_passed_on(served: ServedModel) -> None:
    takes = served.signature.input
    shape = tfs.TensorShape(dim=[tfs.TensorShape.Dim(size=1)])
    strings = tfs.SentTensor(dtype=tfs.DT_STRING, tensor_shape=shape, string_val=[JPEG])
    assert instances("photo", strings, takes) == [JPEG]
    with pytest.raises(TensorError, match="is DT_FLOAT; the model takes encoded images as DT_STRING"):
        instances("photo", tfs.SentTensor(dtype=tfs.DT_FLOAT, tensor_shape=shape), takes)
