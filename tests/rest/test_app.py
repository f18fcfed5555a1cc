"""The whole REST application with a real engine and the demo's real model, without a socket."""

from __future__ import annotations

import asyncio
import http.client
import re
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
import pytest
from agents.fake_agent import (
    NO_COLLECTION,
    OPEN,
    FailingClassifier,
    FakeDataPlane,
    FakeHealth,
    FakeMetrics,
    FakeModels,
    FakeOverview,
    FakeProfiles,
    served,
    serving,
)
from agents.heard import Heard
from agents.models_on_disk import DIGIT, DIGITS
from peers import web_server

from agent.errors import ModelError
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.results import Results
from agent.inference.share import places_for_uploads
from agent.model_file.metadata import read_model_file
from agent.rest.app import Limits, create_app
from agent.runtimes.tflite import TFLiteClassifier
from agent.status import ModelStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

MAX_BYTES = 100_000
STREAMS = ("/api/live", "/api/cameras/{camera}/stream.mjpg")  # answers without an end
BAD_FORM = {"content-type": "multipart/form-data; boundary=a"}
PICTURE = cv2.imencode(".png", np.full((32, 32), 200, np.uint8))[1].tobytes()


class Rest:
    """The application and its parts; `get` and `post` send requests to it."""

    def __init__(self, data_plane: FakeDataPlane | None = None) -> None:
        self.heard, self.health, self.metrics = Heard(), FakeHealth(), FakeMetrics()
        self.models = FakeModels()
        self.engine = InferenceEngine(workers=2, max_waiting=2, max_pixels=10_000)
        self.app = create_app(
            version="1.2.3",
            data_plane=data_plane
            or DataPlane(engine=self.engine, models=self.models, results=Results(device="test"), listener=self.heard),
            models=self.models,
            cameras=FakeOverview(),
            profiles=FakeProfiles(),
            collection=NO_COLLECTION,
            overview=FakeOverview(),
            health=self.health,
            metrics=self.metrics,
            limits=Limits(max_upload_bytes=MAX_BYTES, per_client=64),
            places=places_for_uploads(64, per_client=64),
            access=OPEN,
        )

    async def serve(self, use: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await use(client)

    async def get(self, path: str) -> httpx.Response:
        answer: httpx.Response = await self.serve(lambda client: client.get(path))
        return answer

    async def head(self, path: str) -> httpx.Response:
        answer: httpx.Response = await self.serve(lambda client: client.head(path))
        return answer

    async def post(self, path: str, **arguments: Any) -> httpx.Response:
        answer: httpx.Response = await self.serve(lambda client: client.post(path, **arguments))
        return answer


@pytest.fixture
def rest() -> Iterator[Rest]:
    """Serves version 1 of the digits model."""
    rest = Rest()
    digits = rest.models.served["digits"] = served(DIGITS, 1, workers=2)
    rest.models.statuses.append(ModelStatus("digits", serving=digits.identity))
    yield rest
    rest.engine.close()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    document = answer.json()
    assert list(document) == ["error"]
    return answer.status_code, document["error"]


@pytest.mark.anyio
async def test_form_and_raw_body_give_the_same_result(rest: Rest) -> None:
    form = await rest.post("/predict", files={"file": PICTURE})
    raw = await rest.post("/predict_async", content=PICTURE)
    assert form.status_code == raw.status_code == 200
    assert form.json()["categories"] == raw.json()["categories"]
    assert len(form.json()["categories"]) == 5


@pytest.mark.anyio
async def test_answer_is_a_result_with_its_best_category_on_the_top_level(rest: Rest) -> None:
    answer = (await rest.post("/predict?max_results=2", content=PICTURE)).json()
    best = answer["categories"][0]
    assert (answer["class_id"], answer["label"], answer["confidence"]) == (best["index"], best["label"], best["score"])
    assert len(answer["categories"]) == 2
    assert answer["source"] == "upload"
    assert answer["model"]["name"] == "digits"
    assert set(answer) == {
        *("id", "seq", "boot", "device", "source", "captured_at", "model", "categories", "timing_ms"),
        *("class_id", "label", "confidence"),
    }
    assert [result.id for result in rest.heard.results] == [answer["id"]]


def server_timing(answer: httpx.Response) -> dict[str, float]:
    steps = (step.split(";dur=") for step in answer.headers["server-timing"].split(", "))
    return {name: float(duration) for name, duration in steps}


@pytest.mark.anyio
async def test_answer_says_where_its_time_went(rest: Rest) -> None:
    answer = await rest.post("/predict", content=PICTURE)
    timing, steps = server_timing(answer), answer.json()["timing_ms"]
    assert list(timing) == ["queue", "decode", "preprocess", "invoke"]
    assert timing["queue"] > 0
    assert {name: timing[name] for name in list(timing)[1:]} == {name: steps[name] for name in list(timing)[1:]}


@pytest.mark.anyio
async def test_answer_to_a_batch_says_the_times_of_all_images_together(rest: Rest) -> None:
    answer = await rest.post("/batch_predict", files=[("files", PICTURE), ("files", b"no"), ("files", PICTURE)])
    first, _, third = answer.json()
    invoke = first["timing_ms"]["invoke"] + third["timing_ms"]["invoke"]
    assert server_timing(answer)["invoke"] == pytest.approx(invoke, abs=0.002)


@pytest.mark.anyio
async def test_threshold_above_every_score_gives_no_category(rest: Rest) -> None:
    answer = (await rest.post("/predict?score_threshold=1", content=PICTURE)).json()
    assert answer["categories"] == []
    assert answer["class_id"] is answer["label"] is answer["confidence"] is None


@pytest.mark.anyio
@pytest.mark.parametrize(("own", "count"), [(None, 1), (0.0, 10), (1.0, 0)])
async def test_automatic_threshold_is_the_models_own(rest: Rest, own: float | None, count: int) -> None:
    file = read_model_file(DIGITS)
    settings = replace(file.settings, unknown_below=own)
    rest.models.served["digits"] = serving([TFLiteClassifier(file, settings, threads=1) for _ in range(2)])
    found, sure = cv2.VideoCapture(str(DIGIT)).read()[1], {"max_results": 10, "score_threshold": "auto"}
    content = cv2.imencode(".png", cv2.resize(found, (96, 96)))[1].tobytes()
    answer = (await rest.post("/predict", params=sure, content=content)).json()
    assert len(answer["categories"]) == count


@pytest.mark.anyio
async def test_batch_keeps_its_order_when_one_file_is_bad(rest: Rest) -> None:
    files = [("files", PICTURE), ("files", b"not an image"), ("files", PICTURE)]
    answer = await rest.post("/batch_predict", files=files)
    assert answer.status_code == 200
    first, second, third = answer.json()
    assert first["categories"] == third["categories"]
    assert "JPEG, PNG, WebP or BMP" in second["error"]
    assert first["seq"] != third["seq"]


@pytest.mark.anyio
async def test_batch_larger_than_the_queue_is_answered(rest: Rest) -> None:
    answers = (await rest.post("/batch_predict", files=[("files", PICTURE)] * 20)).json()
    assert len([answer for answer in answers if "label" in answer]) == 20


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "arguments", "code", "expected"),
    [
        ("/predict", {"content": b""}, 415, "JPEG, PNG, WebP or BMP"),
        ("/predict", {"content": b"GIF89a"}, 415, "JPEG, PNG, WebP or BMP"),
        ("/predict", {"content": PICTURE[:-20]}, 422, "cannot be decoded"),
        ("/predict", {"content": bytes(MAX_BYTES + 1)}, 413, f"more than {MAX_BYTES} bytes"),
        ("/predict", {"files": {"file": bytes(MAX_BYTES + 1)}}, 413, f"more than {MAX_BYTES} bytes"),
        ("/predict", {"files": {"image": PICTURE}}, 400, "0 fields named `file` instead of one"),
        ("/predict", {"files": [("file", PICTURE)] * 2}, 400, "2 fields named `file` instead of one"),
        ("/predict", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        (
            "/predict",
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}},
            400,
            "malformed",
        ),
        ("/predict?model=birds", {"content": PICTURE}, 404, "Model birds is not served."),
        ("/predict?max_results=0", {"content": PICTURE}, 400, "max_results"),
        ("/predict?score_threshold=x", {"content": PICTURE}, 400, "score_threshold"),
        ("/predict?score_threshold=nan", {"content": PICTURE}, 400, "score_threshold"),
        ("/predict?score_treshold=0.5", {"content": PICTURE}, 400, "Unknown parameter score_treshold."),
        ("/batch_predict", {"content": PICTURE}, 400, "The body is not a form."),
        ("/batch_predict", {"files": {"file": PICTURE}}, 400, "0 fields named `files`; send 1 to 64"),
        ("/nothing", {"content": PICTURE}, 404, "/nothing does not exist."),
        ("/healthz", {"content": PICTURE}, 405, "Method POST is not allowed for /healthz."),
    ],
)
async def test_bad_request_is_refused_with_a_sentence(
    rest: Rest, path: str, arguments: Any, code: int, expected: str
) -> None:
    got, sentence = refusal(await rest.post(path, **arguments))
    assert got == code
    assert expected in sentence
    assert rest.heard.results == []


@pytest.mark.anyio
async def test_image_with_too_many_pixels_is_refused_by_its_header(rest: Rest) -> None:
    large = cv2.imencode(".png", np.zeros((101, 100), np.uint8))[1].tobytes()
    code, sentence = refusal(await rest.post("/predict", content=large))
    assert code == 413
    assert "100 x 101 pixels" in sentence


@pytest.mark.anyio
async def test_body_without_a_length_is_refused_at_the_limit(rest: Rest) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 10_000
            yield bytes(10_000)

    assert refusal(await rest.post("/predict", content=endless()))[0] == 413
    assert sent <= MAX_BYTES + 10_000


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/predict", "/batch_predict"])
async def test_compressed_body_is_refused_before_it_is_read(rest: Rest, path: str) -> None:
    read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"x"

    headers = {"Content-Encoding": "gzip", "Content-Type": "multipart/form-data; boundary=a"}
    code, sentence = refusal(await rest.post(path, content=body(), headers=headers))
    assert not read
    assert (code, sentence) == (415, "The Content-Encoding gzip is not supported. Send the body uncompressed.")


@pytest.mark.anyio
async def test_upload_without_a_model_is_refused_with_retry_after() -> None:
    rest = Rest()
    answer = await rest.post("/predict", content=PICTURE)
    rest.engine.close()
    assert refusal(answer) == (503, "No model is served.")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.anyio
async def test_upload_is_refused_at_once_when_the_queue_is_full(rest: Rest) -> None:
    async def crowd(client: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(client.post("/predict", content=PICTURE) for _ in range(12)))

    answers = await rest.serve(crowd)
    busy = [answer for answer in answers if answer.status_code == 503]
    assert len(busy) == 8  # two in the workers, two waiting
    assert all(answer.headers["retry-after"] == "1" for answer in busy)
    assert "places in the queue are taken" in busy[0].json()["error"]


@pytest.mark.anyio
async def test_form_with_thousands_of_empty_parts_is_refused_early(rest: Rest) -> None:
    code, sentence = refusal(await rest.post("/predict", content=b"--a\r\n\r\n\r\n" * 8_000, headers=BAD_FORM))
    assert code == 400
    assert "more than 100 fields" in sentence


@pytest.mark.anyio
async def test_batch_applies_the_size_limit_to_each_file(rest: Rest) -> None:
    files = [("files", bytes(MAX_BYTES + 1)), ("files", PICTURE)]
    first, second = (await rest.post("/batch_predict", files=files)).json()
    assert f"more than {MAX_BYTES} bytes" in first["error"]
    assert second["categories"]


@pytest.mark.anyio
async def test_upload_is_refused_with_503_when_the_model_fails_on_it(rest: Rest) -> None:
    rest.models.served["digits"] = serving([FailingClassifier(ModelError("The runtime fails on this image."))] * 2)
    assert refusal(await rest.post("/predict", content=PICTURE)) == (503, "The runtime fails on this image.")


@pytest.mark.anyio
async def test_uploads_beyond_the_memory_limit_are_refused_until_others_end() -> None:
    rest, over, arrived = Rest(FakeDataPlane()), asyncio.Event(), 0

    async def stalled() -> AsyncIterator[bytes]:
        nonlocal arrived
        yield bytes(MAX_BYTES)
        arrived += 1
        await over.wait()

    async def crowd(client: httpx.AsyncClient) -> list[int]:
        uploads = [asyncio.create_task(client.post("/predict", content=stalled())) for _ in range(8)]
        while arrived < 8:  # noqa: ASYNC110
            await asyncio.sleep(0)
        refused = [await client.post("/predict", content=PICTURE) for _ in range(2)]
        over.set()
        answers = [*refused, *await asyncio.gather(*uploads), await client.post("/predict", content=PICTURE)]
        return [answer.status_code for answer in answers]

    codes = await rest.serve(crowd)
    rest.engine.close()
    assert codes == [503] * 2 + [200] * 9


@pytest.mark.anyio
async def test_health_readiness_and_metrics_are_answered(rest: Rest) -> None:
    assert (await rest.get("/healthz")).json() == {"status": "ok"}
    assert (await rest.get("/readyz")).json() == {
        "ready": True,
        "reasons": [],
        "warnings": ["Model x: bad."],
        "mqtt": {"state": "connected", "reason": None, "queued": 0},
    }
    rest.health.not_ready = ["Camera front is lost."]
    answer = await rest.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["Camera front is lost."]
    assert answer.json()["ready"] is False
    assert (await rest.get("/metrics")).text == "a_metric 1\n"


@pytest.mark.anyio
async def test_healthz_returns_503_when_the_process_is_stuck(rest: Rest) -> None:
    rest.health.hangs = "An inference has been running for 61 s."
    assert refusal(await rest.get("/healthz")) == (503, rest.health.hangs)


@pytest.mark.anyio
async def test_requests_are_counted_by_route_and_not_by_path(rest: Rest) -> None:
    await rest.get("/v1/models/digits")
    await rest.get("/no/such/path")
    await rest.post("/predict", content=b"")
    assert rest.metrics.requests == [("/v1/models/{name}", 200), ("other", 404), ("/predict", 415)]


@pytest.mark.anyio
async def test_requests_are_in_flight_until_they_are_answered_except_scrapes(rest: Rest) -> None:
    async def three_at_once(client: httpx.AsyncClient) -> None:
        await asyncio.gather(*(client.post("/predict", content=PICTURE) for _ in range(3)))

    await rest.get("/metrics")
    assert rest.metrics.most_in_flight == 0
    await rest.serve(three_at_once)
    assert (rest.metrics.most_in_flight, rest.metrics.now_in_flight) == (3, 0)


@pytest.mark.anyio
async def test_unexpected_error_is_answered_without_details() -> None:
    data_plane = FakeDataPlane()
    data_plane.refusal = ZeroDivisionError()
    assert refusal(await Rest(data_plane).post("/predict", content=PICTURE)) == (
        500,
        "Internal error; see the agent's log.",
    )


@pytest.mark.anyio
async def test_documentation_page_has_a_file_field(rest: Rest) -> None:
    paths = (await rest.get("/openapi.json")).json()["paths"]
    form = paths["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["properties"]["file"]["format"] == "binary"


@pytest.mark.anyio
async def test_documentation_page_loads_only_files_of_the_agent(rest: Rest) -> None:
    page = (await rest.get("/docs")).text
    loaded = re.findall('(?:src|href)="([^"]+)"', page)
    assert loaded == ["docs/swagger-ui.css", "data:,", "docs/swagger-ui-bundle.js"]
    script, style = await rest.get("/docs/swagger-ui-bundle.js"), await rest.get("/docs/swagger-ui.css")
    assert (script.status_code, style.status_code) == (200, 200)
    assert script.headers["content-type"].startswith("text/javascript")
    assert style.headers["content-type"].startswith("text/css")


@pytest.mark.anyio
async def test_head_answers_as_get_without_a_body(rest: Rest) -> None:
    paths = [path for path, methods in (await rest.get("/openapi.json")).json()["paths"].items() if "get" in methods]
    assert {"/healthz", "/readyz", "/metrics", "/api/models", "/v1/models"} <= set(paths)
    paths = [path for path in paths if path not in STREAMS]  # other tests ask for them
    for path in [*(path.replace("{model}", "digits") for path in paths), "/docs", "/openapi.json", "/nowhere"]:
        got, head = await rest.get(path), await rest.head(path)
        assert head.status_code == got.status_code, path
        assert head.content == b""
        if path != "/metrics":  # its counters change with each request
            assert head.headers == got.headers


@pytest.mark.anyio
async def test_head_is_refused_where_get_is_refused(rest: Rest) -> None:
    refused = await rest.head("/predict")
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")
    assert (await rest.post("/healthz")).headers["allow"] == "GET, HEAD"


@pytest.mark.anyio
async def test_head_sends_no_body_over_a_real_connection(rest: Rest) -> None:
    with web_server.serving(rest.app) as port, closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        lengths = []
        for method in ("HEAD", "GET"):  # a body after HEAD would be read as the next answer
            connection.request(method, "/healthz")
            answer = connection.getresponse()
            lengths.append((answer.status, answer.headers["content-length"], len(answer.read())))
    assert lengths == [(200, "15", 0), (200, "15", 15)]
