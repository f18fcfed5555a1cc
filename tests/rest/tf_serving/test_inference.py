"""TensorFlow Serving's inference routes, with a real engine and real models."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest
from agents.fake_agent import (
    NO_COLLECTION,
    OPEN,
    FailingClassifier,
    FakeHealth,
    FakeMetrics,
    FakeModels,
    FakeOverview,
    FakeProfiles,
    identity,
    served,
    serving,
)
from agents.heard import Heard
from agents.models_on_disk import DIGITS, photo_of_3
from agents.tiny_models import TinyModel

from agent.errors import ModelError
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.results import Results
from agent.inference.share import places_for_uploads
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.models.loader import LoadedModel
from agent.models.serving import ServedModel
from agent.rest.app import Limits, create_app
from agent.runtimes.preprocessing import Preprocessor
from agent.runtimes.runtime import open_classifiers
from agent.status import ModelStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

JPEG = cv2.imencode(".jpg", photo_of_3().pixels)[1].tobytes()
B64 = {"b64": base64.b64encode(JPEG).decode()}


def colors() -> ServedModel:
    """A float32 model that ends in logits, with a second output."""
    model = TinyModel(5)
    image = model.image(1, 4, 4, 3)
    logits = model.dense(model.reshaped(image, 1, 48), 3, spread=0.1)
    content = model.finish(logits, model.reshaped(logits, 1, 1, 3), names=("logits", "features"))
    file = read_model_file(content)
    settings = ModelSettings(("red", "green", "blue"), (127.5,), (127.5,), score="logits", output="logits")
    return ServedModel(
        identity(1, "colors"), LoadedModel(file, settings, open_classifiers(file, settings, workers=2, threads=1))
    )


class TFServing:
    """Serves versions 1 and, as canary, 2 of digits, and version 1 of colors."""

    def __init__(self) -> None:
        self.heard, self.metrics, self.models = Heard(), FakeMetrics(), FakeModels()
        self.models.served = {"digits": served(DIGITS, 1, workers=2), "colors": colors()}
        self.models.canaries = {"digits": served(DIGITS, 2, workers=2)}
        self.models.statuses = [ModelStatus(name, serving=model.identity) for name, model in self.models.served.items()]
        self.engine = InferenceEngine(workers=2, max_waiting=2, max_pixels=1 << 22)
        data_plane = DataPlane(
            engine=self.engine, models=self.models, results=Results(device="test"), listener=self.heard
        )
        self.app = create_app(
            version="1.2.3",
            data_plane=data_plane,
            models=self.models,
            cameras=FakeOverview(),
            profiles=FakeProfiles(),
            collection=NO_COLLECTION,
            overview=FakeOverview(),
            health=FakeHealth(),
            metrics=self.metrics,
            limits=Limits(max_upload_bytes=1_000_000, per_client=4),
            places=places_for_uploads(4, per_client=4),
            access=OPEN,
        )

    async def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **arguments)

    async def post(self, path: str, document: Any) -> Any:
        answer = await self.send("POST", f"/v1/models/{path}", json=document)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["server-timing"].startswith("queue;dur=")
        return answer.json()

    async def refusal(self, path: str, document: Any) -> tuple[int, str]:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        answer = await self.send("POST", f"/v1/models/{path}", content=content)
        assert list(answer.json()) == ["error"]
        return answer.status_code, answer.json()["error"]


@pytest.fixture(scope="module")
def shared() -> Iterator[TFServing]:
    serving = TFServing()
    yield serving
    serving.engine.close()


@pytest.fixture
def tf(shared: TFServing) -> TFServing:
    shared.heard.results.clear()
    shared.heard.refusals.clear()
    return shared


def pixels() -> Any:
    return Preprocessor.of(served(DIGITS, 1).classifier(0).input, ModelSettings())(photo_of_3())[0]


@pytest.mark.anyio
async def test_rows_and_columns_give_the_scores_of_predict(tf: TFServing) -> None:
    predicted = (await tf.send("POST", "/predict?model=digits&max_results=10", content=JPEG)).json()
    scores = [each["score"] for each in sorted(predicted["categories"], key=lambda each: each["index"])]
    rows = await tf.post("digits:predict", {"instances": [B64, B64]})
    assert list(rows) == ["predictions"]
    assert np.allclose(rows["predictions"], [scores, scores], atol=5e-5)
    assert await tf.post("digits:predict", {"inputs": [B64, B64]}) == {"outputs": rows["predictions"]}
    assert await tf.post("digits:predict", {"inputs": {"image": B64}}) == {"outputs": rows["predictions"][:1]}


@pytest.mark.anyio
async def test_pixels_give_the_scores_of_the_image(tf: TFServing) -> None:
    values = pixels().tolist()
    as_image, as_pixels = (await tf.post("digits:predict", {"instances": [B64]}))["predictions"], None
    as_pixels = (await tf.post("digits:predict", {"instances": [values]}))["predictions"]
    assert np.argmax(as_image) == np.argmax(as_pixels) == 3
    assert await tf.post("digits:predict", {"inputs": {"image": [values]}}) == {"outputs": as_pixels}
    assert await tf.post("digits:predict", {"instances": [{"image": values}]}) == {"predictions": as_pixels}


@pytest.mark.anyio
async def test_every_instance_gives_a_result(tf: TFServing) -> None:
    await tf.post("digits:predict", {"instances": [B64, B64, B64]})
    results = tf.heard.results
    assert [result.source for result in results] == ["upload"] * 3
    assert {result.classification.categories[0].label for result in results} == {"3"}
    assert {len(result.classification.categories) for result in results} == {5}


@pytest.mark.anyio
async def test_several_outputs_are_named_and_the_scores_are_probabilities(tf: TFServing) -> None:
    instance = np.random.default_rng(0).normal(size=(4, 4, 3)).round(3).tolist()
    (row,) = (await tf.post("colors:predict", {"instances": [instance]}))["predictions"]
    assert list(row) == ["logits", "features"]
    assert sum(row["logits"]) == pytest.approx(1)
    columns = (await tf.post("colors:predict", {"inputs": [instance]}))["outputs"]
    assert columns == {"logits": [row["logits"]], "features": [row["features"]]}


@pytest.mark.anyio
async def test_signature_raw_gives_the_logits(tf: TFServing) -> None:
    instance = np.random.default_rng(0).normal(size=(4, 4, 3)).round(3).tolist()
    (scores,) = (await tf.post("colors:predict", {"instances": [instance]}))["predictions"]
    (raw,) = (await tf.post("colors:predict", {"instances": [instance], "signature_name": "raw"}))["predictions"]
    powers = np.exp(raw["logits"])
    assert np.allclose(powers / powers.sum(), scores["logits"])
    assert raw["logits"] == raw["features"][0]
    described = (await tf.send("GET", "/v1/models/colors/metadata")).json()["metadata"]["signature_def"]
    assert list(described["signature_def"]) == ["serving_default", "raw"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("which", "version"),
    [
        ("", 2),
        ("/versions/1", 1),
        ("/versions/2", 2),
        ("/versions/002", 2),
        ("/labels/stable", 1),
        ("/labels/canary", 2),
    ],
)
async def test_version_and_label_select_who_answers(tf: TFServing, which: str, version: int) -> None:
    await tf.post(f"digits{which}:predict", {"instances": [B64]})
    await tf.post(f"digits{which}:classify", {"examples": [{"image": B64}]})
    assert [each.classification.model.version for each in tf.heard.results] == [version, version]


@pytest.mark.anyio
async def test_classify_gives_labels_and_scores_best_first(tf: TFServing) -> None:
    answer = await tf.post("digits:classify", {"examples": [{"image": B64}, {"image": [B64]}]})
    first, second = answer["results"]
    assert first == second
    assert first[0][0] == "3"
    assert [score for _, score in first] == sorted((score for _, score in first), reverse=True)
    assert sorted(label for label, _ in first) == list("0123456789")
    (scores,) = (await tf.post("digits:predict", {"instances": [B64]}))["predictions"]
    assert dict(first) == {str(n): score for n, score in enumerate(scores)}


@pytest.mark.anyio
async def test_body_may_be_compressed_and_of_any_content_type(tf: TFServing) -> None:
    content = json.dumps({"instances": [B64]}).encode()
    for headers, body in (
        ({"content-encoding": "gzip"}, gzip.compress(content)),
        ({"content-type": "application/x-www-form-urlencoded"}, content),
        ({}, content),
    ):
        assert (await tf.send("POST", "/v1/models/digits:predict", content=body, headers=headers)).status_code == 200
    bomb = gzip.compress(b'{"instances": [' + b" " * 2_000_000)
    answer = await tf.send("POST", "/v1/models/digits:predict", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413


@pytest.mark.anyio
async def test_large_body_is_read_in_a_thread(tf: TFServing) -> None:
    instances = [pixels().tolist()] * 40
    assert len(json.dumps(instances)) > 100_000
    answer = await tf.post("digits:predict", {"instances": instances})
    assert len(answer["predictions"]) == 40
    code, sentence = await tf.refusal("digits:predict", {"instances": [*instances, [[1]]]})
    assert (code, sentence[:35]) == (400, "The lists do not form a tensor: lis")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "code", "sentence"),
    [
        ("cats:predict", 404, "Model cats is not served."),
        ("cats/versions/50:predict", 404, "Model cats is not served."),
        ("digits99:predict", 404, "Model digits99 is not served."),
        ("digits/versions/99:predict", 404, "Model digits is not served."),
        ("cats/labels/stable:predict", 404, "Model cats does not exist. GET /v1/models lists the models."),
        ("digits/labels/latest:predict", 400, "Model digits has no label latest. Use stable or canary."),
        ("colors/labels/canary:classify", 400, "Model colors currently has no canary version."),
        ("cats:regress", 404, "Model cats is not served."),
        (
            "digits:regress",
            400,
            "Model digits is an image classifier and has no regression signature. Use :predict or :classify.",
        ),
    ],
)
async def test_unknown_model_version_label_or_method_gets_the_code_of_tensorflow_serving(
    tf: TFServing, path: str, code: int, sentence: str
) -> None:
    assert await tf.refusal(path, {"instances": [B64]}) == (code, sentence)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (b"", "The body is empty. Send a JSON object."),
        (b"instances = [1, 2]", "The body is not valid JSON: Expecting value."),
        ({"instances": ["x", "y"]}, "Instance 0: The value is text, neither numbers"),
        ({"signature_name": 100}, '"signature_name" is a number. Send text.'),
        ({"signature_name": 'a"b'}, 'The model has no signature "a\\"b". Use serving_default.'),
        ({"instances": [B64, {"b64": "dGV4dA=="}]}, "Instance 1: "),
        ({"instances": [{"b64": ""}]}, ""),
        ({"instances": [[[0] * 32] * 32]}, "Each instance is 32 x 32; the model takes 32 x 32 x 1."),
        ({"inputs": 5}, "The tensor is a single value; the model takes 32 x 32 x 1."),
        ({"instances": [[[[256]] * 32] * 32]}, "The value 256 is outside the range of uint8: 0 to 255."),
    ],
)
async def test_bad_request_is_an_invalid_argument(tf: TFServing, document: Any, sentence: str) -> None:
    code, given = await tf.refusal("digits:predict", document)
    assert (code, given[: len(sentence)]) == (400, sentence)


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["NaN", "Infinity", "3e38"])
async def test_tensor_without_finite_scores_is_refused_and_not_blamed_on_the_model(tf: TFServing, text: str) -> None:
    body = b'{"instances": [' + str([[[0] * 3] * 4] * 4).replace("0", text).encode() + b"]}"
    assert (await tf.refusal("colors:predict", body))[0] == 400
    assert [by for _, _, _, by in tf.heard.refusals] == [None]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/foo", 400),
        ("POST", "/v1/foo", 400),
        ("GET", "/v1/models/debug/model_name", 400),
        ("POST", "/v1/models", 400),
        ("GET", "/v1/models/foo:predict", 400),
        ("GET", "/v1/models/foo/version/50:predict", 400),
        ("POST", "/v1/models/foo/version/50:regress", 400),
        ("POST", "/v1/models/foo/versions/HELLO:regress", 400),
        ("POST", "/v1/models/foo/versions/18446744073709551615:regress", 400),
        ("POST", "/v1/models/foo/versions/²:predict", 400),
        ("POST", "/v1/models/foo/metadata", 400),
        ("POST", "/v1/models/foo/label/some_label:regress", 400),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress", 400),
        ("POST", "/v1/models/foo", 400),
        ("POST", "/v1/models/foo:explain", 400),
        ("GET", "/v1/models/foo/versions/HELLO", 400),
        ("GET", "/v1/models/foo/versions/99999999999999999999/metadata", 400),
        ("GET", "/statuspage", 404),
    ],
)
async def test_path_that_tensorflow_serving_does_not_know_is_malformed(
    tf: TFServing, method: str, path: str, code: int
) -> None:
    answer = await tf.send(method, path)
    assert answer.status_code == code
    if code == 400:
        assert answer.json()["error"].startswith(("Malformed request: ", "The version "))


@pytest.mark.anyio
async def test_failing_model_is_unavailable(tf: TFServing) -> None:
    digits = tf.models.canaries["digits"]
    try:
        tf.models.canaries["digits"] = serving([FailingClassifier(ModelError("The runtime fails."))] * 2)
        assert await tf.refusal("digits:predict", {"instances": [B64]}) == (503, "The runtime fails.")
    finally:
        tf.models.canaries["digits"] = digits


@pytest.mark.anyio
async def test_requests_are_counted_by_route(tf: TFServing) -> None:
    tf.metrics.requests.clear()
    await tf.send("POST", "/v1/models/cats/versions/7:predict", content=b"{}")
    await tf.send("POST", "/v1/nothing", content=b"{}")
    assert tf.metrics.requests == [("/v1/models/{name}/versions/{version}:predict", 404), ("/v1/{path:path}", 400)]
