"""Bad requests get a client error code and an explanation, and the agent keeps running."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

_MAX_BYTES = 2_000_000
_BOUNDARY = "multipart/form-data; boundary=x"
_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """Fails if any request made the agent log a traceback."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "models").mkdir()
    (folder / "models" / "digits.tflite").write_bytes(model_file(1))
    with RunningAgent(folder, http={"max_upload_bytes": _MAX_BYTES}) as running:
        yield running
        assert running.get("/healthz").status_code == 200
        assert "Traceback" not in running.log


def _assert_refused(answer: httpx.Response, code: int, reason: str = "") -> None:
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document.keys() == {"error"}
    assert reason in document["error"]
    assert document["error"][-1] in ".?" or document["error"].endswith(".jpg")  # a sentence, or its example


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 415),
        (b"hello", 415),
        (b"GIF89a" + bytes(100), 415),
        (b"%PDF-1.7" + bytes(100), 415),
        (b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(100), 415),
        (b"\xff\xd8\xff", 422),
        (b"\xff\xd8\xff" + b"\xff\xfe\x00\x02" * 10_000, 422),
        (b"BM", 422),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", 422),
        (digit_png()[:20], 422),
        (digit_png()[:1000], 422),
        (digit_png()[:16] + b"\xff\xff\xff\xff" * 2 + digit_png()[24:], 413),
    ],
    ids=[
        "nothing",
        "text",
        "GIF",
        "PDF",
        "WAV",
        "JPEG of 3 bytes",
        "JPEG of comments",
        "BMP of 2 bytes",
        "WebP without a size",
        "PNG without a size",
        "PNG without its end",
        "PNG of 2^64 pixels",
    ],
)
def test_bytes_other_than_a_complete_image_are_refused(agent: RunningAgent, content: bytes, code: int) -> None:
    _assert_refused(agent.post("/predict", content=content), code)
    _assert_refused(agent.post("/predict", files={"file": ("photo.jpg", content)}), code)


@pytest.mark.assets
@pytest.mark.parametrize(
    ("photo", "code"),
    [
        ("bad_empty.jpg", 415),
        ("bad_header_only.jpg", 422),
        ("bad_text.jpg", 415),
        ("bad_truncated.jpg", 422),
        ("bomb_30000x30000_1bit.png", 413),
    ],
)
def test_a_bad_photo_is_refused(agent: RunningAgent, assets: Path, photo: str, code: int) -> None:
    _assert_refused(agent.post("/predict", content=(assets / "photos" / photo).read_bytes()), code)


@pytest.mark.assets
def test_every_readable_photo_is_classified_whatever_its_format(agent: RunningAgent, assets: Path) -> None:
    photos = [path for path in sorted((assets / "photos").rglob("*.*g")) if not path.name.startswith(("bad_", "bomb_"))]
    photos += [assets / "photos" / "parrot.webp", assets / "photos" / "cat.bmp"]
    assert len(photos) > 10
    for photo in photos:
        answer = agent.post("/predict", content=photo.read_bytes())
        assert answer.status_code == 200, f"{photo.name}: {answer.text}"


def test_a_body_over_the_limit_is_refused_by_its_content_length(agent: RunningAgent) -> None:
    with _connection(agent) as stream:
        stream.sendall(_head("/predict", f"Content-Length: {_MAX_BYTES + 1}"))
        assert _status(stream) == 413
    for limit in (_MAX_BYTES, _MAX_BYTES + 1):
        code = 413 if limit > _MAX_BYTES else 415
        _assert_refused(agent.post("/predict", content=bytes(limit)), code)
    _assert_refused(agent.post("/predict", files={"file": bytes(_MAX_BYTES + 1)}), 413)


def test_a_body_over_the_limit_is_refused_while_it_arrives(agent: RunningAgent) -> None:
    with _connection(agent) as stream:
        stream.sendall(_head("/predict", "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        for _ in range(_MAX_BYTES // 0x10000 + 1):
            stream.sendall(chunk)
        assert _status(stream) == 413


@pytest.mark.parametrize(
    ("content_type", "body", "reasons"),
    [
        ("multipart/form-data", _PART, "boundary"),
        (_BOUNDARY, b"", "malformed|0 fields"),
        (_BOUNDARY, b"no boundary at all", "malformed"),
        (_BOUNDARY, b"--x\r\nno colon\r\n\r\n", "malformed"),
        (_BOUNDARY, b"--x\r\n\xff\xfe: \x00\r\n\r\n\r\n--x--", "malformed"),
        (_BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc\r\n--x--', "0 fields"),
        (_BOUNDARY, _PART + b"abc\r\n" + _PART + b"abc\r\n--x--", "2 fields"),
        (_BOUNDARY, b"--x\r\nContent-Type: image/png\r\n\r\nabc\r\n--x--", "0 fields"),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/batch_predict"])
def test_a_malformed_form_is_refused(
    agent: RunningAgent, path: str, content_type: str, body: bytes, reasons: str
) -> None:
    answer = agent.post(path, content=body, headers={"Content-Type": content_type})
    if path == "/predict":
        _assert_refused(answer, 400)
        assert any(reason in answer.json()["error"] for reason in reasons.split("|"))
    else:
        assert answer.status_code == 400


def test_an_incomplete_form_is_refused(agent: RunningAgent) -> None:
    answer = agent.post("/predict", content=_PART + digit_png()[:500], headers={"Content-Type": _BOUNDARY})
    assert 400 <= answer.status_code < 500
    assert answer.json().keys() == {"error"}


def test_a_batch_needs_a_form(agent: RunningAgent) -> None:
    _assert_refused(agent.post("/batch_predict", content=digit_png()), 400, "files")


def test_a_bad_file_does_not_affect_the_other_files_of_its_batch(agent: RunningAgent) -> None:
    contents = [digit_png(), b"", digit_png()[:100], digit_png()]
    answers = agent.post("/batch_predict", files=[("files", ("photo", content)) for content in contents]).json()
    assert ["error" in answer for answer in answers] == [False, True, True, False]
    assert answers[0]["label"] == answers[3]["label"]


@pytest.mark.parametrize(
    "query",
    [
        "max_results=0",
        "max_results=many",
        "max_results=99999999999999999999",
        "score_threshold=2",
        "score_threshold=-1",
        "score_threshold=nan",
        "score_threshold=",
    ],
)
def test_a_wrong_query_is_refused_with_the_name_of_the_parameter(agent: RunningAgent, query: str) -> None:
    answer = agent.post(f"/predict?{query}", content=digit_png())
    _assert_refused(answer, 400, query.partition("=")[0])


@pytest.mark.parametrize("name", ["birds", "..%2F..%2Fetc%2Fpasswd", "%00", "%ff", "a" * 5000])
def test_an_unknown_model_is_not_found(agent: RunningAgent, name: str) -> None:
    _assert_refused(agent.post(f"/predict?model={name}", content=digit_png()), 404)
    code = 400 if "%2F" in name else 404  # the path is decoded first, and has no such route then
    _assert_refused(agent.get(f"/v1/models/{name}"), code)


def test_an_unknown_version_is_not_found(agent: RunningAgent) -> None:
    _assert_refused(agent.get("/v1/models/digits/versions/2"), 404)


@pytest.mark.parametrize("version", ["-1", "latest"])
def test_a_version_that_is_no_number_is_refused_as_by_tensorflow_serving(agent: RunningAgent, version: str) -> None:
    _assert_refused(agent.get(f"/v1/models/digits/versions/{version}"), 400, version)


def test_a_wrong_method_is_refused_with_the_allowed_one(agent: RunningAgent) -> None:
    answer = agent.get("/predict")
    _assert_refused(answer, 405, "/docs")
    assert answer.headers["allow"] == "POST"


def test_a_wrong_path_is_not_found(agent: RunningAgent) -> None:
    _assert_refused(agent.get("/predictions"), 404, "/docs")
    _assert_refused(agent.get("/..%2f..%2fetc/passwd"), 404)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "no version", "negative length", "endless length", "length and chunks", "bad chunk"],
)
def test_invalid_http_is_refused(agent: RunningAgent, request_bytes: bytes) -> None:
    with _connection(agent) as stream:
        stream.sendall(request_bytes)
        assert _status(stream) == 400


def test_clients_that_disconnect_during_an_upload_do_not_affect_others(agent: RunningAgent) -> None:
    for _ in range(20):
        with _connection(agent) as stream:
            stream.sendall(_head("/predict", "Content-Length: 1000") + b"abc")
    assert agent.post("/predict", content=digit_png()).status_code == 200


@pytest.mark.long
def test_uploads_get_retry_after_if_no_model_is_served(tmp_path: Path) -> None:
    with RunningAgent(tmp_path) as agent:
        answer = agent.post("/predict", content=digit_png())
        _assert_refused(answer, 503, str(agent.models))
        assert int(answer.headers["retry-after"]) > 0
        assert agent.get("/readyz").status_code == 503
        assert agent.json("/readyz")["reasons"] == ["No model is served yet."]
        assert agent.get("/healthz").status_code == 200
        agent.drop(model_file(1))
        wait_until(lambda: agent.post("/predict", content=digit_png()).is_success, what="the first model serves")


@pytest.mark.long
def test_stalled_bodies_delay_neither_other_uploads_nor_the_stop(tmp_path: Path) -> None:
    with RunningAgent(tmp_path) as agent, contextlib.ExitStack() as streams:
        agent.drop(model_file(1))
        stalled = []
        for number in range(20):
            stream = streams.enter_context(_connection(agent))
            chunked = number % 2 == 0
            stream.sendall(_head("/predict", "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000"))
            stream.sendall(b"5\r\nhello\r\n" if chunked else b"hello")
            stalled.append(stream)
        wait_until(lambda: agent.post("/predict", content=digit_png()).is_success, what="another upload is answered")
        assert all(agent.post("/predict", content=digit_png()).is_success for _ in range(20))
        assert agent.end() < 5
        assert agent.process.returncode == 0
        assert [_status(stream) for stream in stalled] == [503] * 20
        assert "Traceback" not in agent.log


def test_uploads_are_refused_with_503_when_the_queue_is_full(tmp_path: Path) -> None:
    """With one worker and no waiting places, some of many simultaneous uploads are refused and the others answered."""
    with RunningAgent(tmp_path, engine={"workers": 1, "max_waiting": 0}) as agent, contextlib.ExitStack() as streams:
        agent.drop(model_file(1))
        wait_until(lambda: agent.get("/readyz").is_success, what="the model serves")
        clients = [streams.enter_context(_connection(agent)) for _ in range(30)]
        for client in clients:
            client.sendall(_head("/predict", f"Content-Length: {len(digit_png())}") + digit_png())
        codes = [_status(client) for client in clients]
    assert set(codes) <= {200, 503}
    assert codes.count(200) >= 1


def _connection(agent: RunningAgent) -> socket.socket:
    return socket.create_connection(("127.0.0.1", agent.port), timeout=10)


def _head(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: agent", *headers, "", "")).encode()


def _status(stream: socket.socket) -> int:
    """Reads the status code; the head of the response arrives in one piece."""
    return int(stream.recv(4096).split()[1])
