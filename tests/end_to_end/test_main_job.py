"""The main job: a video is the camera, a dropped file is the model, results are sent over MQTT and HTTP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from agents.running_agent import VIDEO, RunningAgent, wait_until
from end_to_end.material import digit_png, digit_shown, model_file, sha256
from peers.mosquitto import Mosquitto
from peers.subscriber import Received, Subscriber

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.mosquitto

_MODEL = model_file(1)
_BASE = "edge-agent/test"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_RESULT = {"id", "seq", "boot", "device", "source", "captured_at", "model", "categories", "timing_ms"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def heard(broker: Mosquitto) -> Iterator[Subscriber]:
    """Subscribes before the agent starts."""
    with Subscriber(broker.port) as subscriber:
        yield subscriber


@pytest.fixture(scope="module")
def agent(broker: Mosquitto, heard: Subscriber, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    folder = tmp_path_factory.mktemp("agent")
    (folder / "models").mkdir()
    (folder / "models" / "digits.tflite").write_bytes(_MODEL)
    camera = {"source": str(VIDEO), "loop": True, "model": "digits", "max_fps": 30}
    with RunningAgent(
        folder, mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port}, cameras={"front": camera}
    ) as running:
        wait_until(lambda: heard.of("front/status"), what="the camera is online")
        yield running


def _assert_result(document: Any, *, source: str) -> None:
    """The document has exactly the JSON shape of a Result."""
    assert document.keys() == _RESULT
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", document["id"])
    assert isinstance(document["seq"], int)
    assert (document["device"], document["source"]) == ("test", source)
    assert _TIME.fullmatch(document["captured_at"])
    assert document["model"] == {"name": "digits", "version": "1", "sha256": sha256(_MODEL)}
    for category in document["categories"]:
        assert category.keys() == {"index", "label", "score"}
        assert category["label"] == str(category["index"])
        assert 0 <= category["score"] <= 1
    scores = [category["score"] for category in document["categories"]]
    assert scores == sorted(scores, reverse=True)
    assert document["timing_ms"].keys() == {"decode", "preprocess", "invoke", "total"}
    assert all(isinstance(value, float) for value in document["timing_ms"].values())


def test_every_frame_becomes_a_result_of_the_dropped_model(agent: RunningAgent, heard: Subscriber) -> None:
    wait_until(lambda: len(heard.of("/front/result")) >= 60, what="60 frames are classified")
    messages = heard.of(f"{_BASE}/cameras/front/result")[:60]
    assert not any(message.retained for message in messages)
    results = [message.json for message in messages]
    for result in results:
        _assert_result(result, source="front")
        assert len(result["categories"]) <= 3
        assert all(category["score"] >= 0.5 for category in result["categories"])
    assert len({result["id"] for result in results}) == 60
    seqs = [result["seq"] for result in results]
    assert seqs == sorted(set(seqs))
    assert agent.is_running()


@pytest.mark.usefixtures("agent")
def test_the_camera_recognizes_the_digits_of_the_video(heard: Subscriber) -> None:
    wait_until(lambda: len(heard.of("/front/result")) >= 90, what="90 frames are classified")
    results = [message.json for message in heard.of("/front/result")[:90]]
    labels = [[category["label"] for category in result["categories"]] for result in results]
    right = sum(label[:1] == [digit_shown(frame)] for frame, label in enumerate(labels))
    assert right >= 70


def test_the_broker_retains_the_state_of_the_device(agent: RunningAgent, broker: Mosquitto, heard: Subscriber) -> None:
    wait_until(lambda: heard.of("/front/state"), what="a digit has held for three frames")
    wait_until(lambda: heard.of("homeassistant/device/test/config"), what="the last retained topic arrives")
    with Subscriber(broker.port) as late:
        wait_until(lambda: len(late.retained()) >= 8, what="the retained topics arrive")
        kept = {message.topic.removeprefix(f"{_BASE}/"): message for message in late.of("") if message.retained}
    assert kept.keys() == {
        "status",
        "info",
        "models/digits",
        "cameras/front/status",
        "cameras/front/enabled",
        "cameras/front/state",
        "cameras/front/classification/digits",
        "homeassistant/device/test/config",
    }
    assert kept["status"].payload == "online"
    assert kept["cameras/front/status"].payload == "online"
    state = kept["cameras/front/state"].json
    assert state.keys() == {"label", "score", "since", "model"}
    assert _TIME.fullmatch(state["since"])
    assert state["model"]["sha256"] == sha256(_MODEL)
    info = kept["info"].json
    assert info["cameras"] == ["front"]
    (served,) = info["models"]
    assert served.items() >= {"name": "digits", "version": "1", "sha256": sha256(_MODEL)}.items()
    assert served["accelerator"] == "cpu"
    assert info["version"] == agent.json("/openapi.json")["info"]["version"]
    assert kept["models/digits"].json.keys() == {
        *("name", "serving", "since", "candidate", "trying", "rejection"),
        *("probation", "pinned", "canary", "versions", "runtime", "accelerator", "accelerator_reason"),
    }


def test_the_topics_of_the_state_agree(agent: RunningAgent, heard: Subscriber) -> None:
    """Waits, since the digit and the probation change at any time, and each topic has its own message."""

    def latest(topic: str) -> Received:
        return heard.of(topic)[-1]

    wait_until(lambda: heard.of("/front/classification/digits"), what="a digit has held for three frames")
    wait_until(
        lambda: latest("/front/state").json["label"] == latest("/front/classification/digits").payload,
        what="both topics of the camera have the same label",
    )
    wait_until(lambda: latest("/models/digits").json == agent.model(), what="MQTT and HTTP describe the same model")


@pytest.mark.parametrize("path", ["/predict", "/predict_async"])
@pytest.mark.parametrize(
    "request_body",
    [{"files": {"file": ("digit.png", digit_png(), "image/png")}}, {"content": digit_png()}],
    ids=["multipart", "raw body"],
)
def test_an_upload_is_answered_and_published(
    agent: RunningAgent, heard: Subscriber, path: str, request_body: dict[str, Any]
) -> None:
    answer = agent.post(path, **request_body)
    assert answer.status_code == 200
    document = answer.json()
    best = document["categories"][0]
    assert document.pop("class_id") == best["index"]
    assert document.pop("label") == best["label"] == digit_shown(0)
    assert document.pop("confidence") == best["score"]
    _assert_result(document, source="upload")
    wait_until(
        lambda: any(message.json == document for message in heard.of(f"{_BASE}/uploads/result")),
        what="the same Result is published",
    )


def test_a_batch_is_answered_in_order_and_published(agent: RunningAgent, heard: Subscriber) -> None:
    files = [("files", ("one.png", digit_png())), ("files", ("bad.png", b"no image")), ("files", ("two", digit_png()))]
    one, bad, two = agent.post("/batch_predict", files=files).json()
    assert bad.keys() == {"error"}
    wait_until(
        lambda: {one["id"], two["id"]} <= {message.json["id"] for message in heard.of("/uploads/result")},
        what="both Results are published",
    )


def test_the_agent_reports_its_models_and_its_health(agent: RunningAgent) -> None:
    assert agent.json("/v1/models/digits") == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert agent.model()["serving"]["sha256"] == sha256(_MODEL)
    assert agent.json("/v1/models/digits/versions/1/metadata")["model_spec"]["version"] == "1"
    assert agent.get("/readyz").status_code == 200
    ready = agent.json("/readyz")
    assert (ready["ready"], ready["reasons"], ready["mqtt"]["state"]) == (True, [], "connected")
    assert agent.get("/healthz").status_code == 200
    assert agent.json("/healthz") == {"status": "ok"}
    assert "swagger" in agent.get("/docs").text
    assert {"/predict", "/batch_predict", "/v1/models", "/healthz"} <= agent.json("/openapi.json")["paths"].keys()


def test_metrics_cover_cameras_uploads_and_the_broker(agent: RunningAgent) -> None:
    agent.post("/predict", content=digit_png())
    metrics = agent.get("/metrics").text
    assert "edge_agent_mqtt_connected 1.0" in metrics
    assert f'edge_agent_model_info{{model="digits",sha256="{sha256(_MODEL)}",version="1"}} 1.0' in metrics
    assert 'edge_agent_model_loads_total{model="digits",result="admitted"} 1.0' in metrics
    assert 'edge_agent_inferences_total{model="digits",outcome="ok",source="upload"}' in metrics
    assert 'edge_agent_camera_frames_total{camera="front",result="classified"}' in metrics
    assert 'edge_agent_http_requests_total{code="200",route="/predict"}' in metrics


def test_the_next_version_takes_over_the_camera_without_losing_a_frame(agent: RunningAgent, heard: Subscriber) -> None:
    new = model_file(2)
    wait_until(lambda: heard.of("/front/result"), what="the first version classifies")
    agent.drop(new)
    wait_until(
        lambda: heard.of("/front/result")[-1].json["model"]["sha256"] == sha256(new), what="the new version classifies"
    )
    results = [message.json for message in heard.of("/result")]
    assert sorted(result["seq"] for result in results) == list(range(1, len(results) + 1))
    models = [message.json["model"] for message in heard.of("/front/result")]
    assert {(model["version"], model["sha256"]) for model in models} == {("1", sha256(_MODEL)), ("2", sha256(new))}
    versions = [int(model["version"]) for model in models]
    assert versions == sorted(versions)
    wait_until(lambda: heard.of("/models/digits")[-1].json["serving"]["version"] == "2", what="its status is published")
    wait_until(lambda: heard.of("/info")[-1].json["models"][0]["version"] == "2", what="the info is published")
