from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from peers.subscriber import until

from agent.errors import BusyError, ImageFormatError, MemoryFullError
from agent.mqtt.message import Incoming, Message
from agent.mqtt.requests import Requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PNG = b"\x89PNG and so on"


class RunningRequests:
    """Takes requests as the publisher does; `classify` returns the size of the image and the model's name."""

    def __init__(self, **options: Any) -> None:
        self.answers: list[Message] = []
        self.acknowledged: list[Incoming] = []
        self.busy: type[BusyError] = BusyError
        self.busy_times = 0
        self.working = self.most_workers = 0
        self.requests = Requests(
            classify=self._classify,
            answer=self.answers.append,
            acknowledge=self.acknowledged.append,
            own_topics="edge-agent/pi-1",
            **{"max_bytes": 1000, "workers": 2, **options},
        )

    async def _classify(self, image: bytes, model: str | None) -> dict[str, Any]:
        self.working += 1
        self.most_workers = max(self.most_workers, self.working)
        await asyncio.sleep(0)
        self.working -= 1
        if self.busy_times:
            self.busy_times -= 1
            raise self.busy("All places are taken.", retry_after_s=1)
        if not image.startswith(b"\x89PNG"):
            raise ImageFormatError("The body is not an image.")
        return {"image": len(image), "model": model}

    def only_answer(self) -> tuple[str, dict[str, Any], bytes | None]:
        (answer,) = self.answers
        return answer.topic, json.loads(answer.payload), answer.correlation


@asynccontextmanager
async def _run(**options: Any) -> AsyncIterator[RunningRequests]:
    running = RunningRequests(**options)
    task = asyncio.create_task(running.requests.run())
    yield running
    task.cancel()


def _incoming(
    payload: bytes | dict[str, Any],
    *,
    response_topic: str | None = "client/answers",
    correlation: bytes | None = b"7",
    retained: bool = False,
) -> Incoming:
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Incoming("edge-agent/pi-1/classify", content, retained, response_topic, correlation, (1, 1, 1))


async def _ask(*incoming: Incoming) -> RunningRequests:
    """Waits until every request is acknowledged."""
    async with _run() as running:
        for each in incoming:
            running.requests.put(each)
        await until(lambda: len(running.acknowledged) == len(incoming))
    return running


def _b64(image: bytes = _PNG) -> str:
    return base64.b64encode(image).decode()


@pytest.mark.anyio
async def test_image_bytes_are_answered_on_the_response_topic_with_their_correlation() -> None:
    assert (await _ask(_incoming(_PNG))).only_answer() == ("client/answers", {"image": len(_PNG), "model": None}, b"7")


@pytest.mark.anyio
async def test_json_request_sets_the_topic_the_model_and_the_correlation() -> None:
    request = {"image": _b64(), "reply_to": "client/other", "model": "birds", "correlation": [1]}
    running = await _ask(_incoming(request, response_topic=None, correlation=None))
    assert running.only_answer() == ("client/other", {"image": len(_PNG), "model": "birds", "correlation": [1]}, None)


@pytest.mark.anyio
async def test_json_request_without_a_topic_uses_the_response_topic() -> None:
    assert (await _ask(_incoming({"image": _b64()}))).only_answer()[0] == "client/answers"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b"", "not an image"),
        (b"GIF89a", "not an image"),
        (b"{", "must be the bytes of an image, or JSON such as"),
        (b'  {"image": 7}', "must be the bytes of an image, or JSON such as"),
        (b'{"image": "%%%"}', "must be the bytes of an image, or JSON such as"),
        (b'{"image": "\xc3\xa4"}', "must be the bytes of an image, or JSON such as"),
        (b"{" * 6000, "larger than 1000 bytes"),
        (b'{"a":' * 400, "must be the bytes of an image, or JSON such as"),
        ({"image": _b64(), "model": 7}, "must be the bytes of an image, or JSON such as"),
        ({"image": _b64(b"\x89PNG" + bytes(1000))}, "larger than 1000 bytes. Send a smaller one"),
        (b"\x89PNG" + bytes(1000), "larger than 1000 bytes. Send a smaller one"),
        (bytes(6000), "larger than 1000 bytes. Send a smaller one"),
        ({"image": _b64(), "reply_to": "a/+"}, "without +, # and control characters"),
        ({"image": _b64(), "reply_to": 7}, "without +, # and control characters"),
        ({"image": _b64(), "reply_to": "a\ud800"}, "without +, # and control characters"),
        ({"image": _b64(), "reply_to": "a\x01"}, "without +, # and control characters"),
        ({"image": _b64(), "reply_to": "a\uffff"}, "without +, # and control characters"),
        ({"image": _b64(), "reply_to": ""}, "without +, # and control characters"),
        ({"image": _b64(), "reply_to": "edge-agent/pi-1/status"}, "must not begin with $"),
        ({"image": _b64(), "reply_to": "homeassistant/device/x/config"}, "must not begin with $"),
        ({"image": _b64(), "reply_to": "$SYS/x"}, "must not begin with $"),
    ],
)
async def test_invalid_request_is_answered_with_an_error(payload: bytes | dict[str, Any], error: str) -> None:
    topic, document, correlation = (await _ask(_incoming(payload))).only_answer()
    assert (topic, correlation) == ("client/answers", b"7")
    assert error in document["error"]


@pytest.mark.anyio
async def test_response_topic_below_the_agents_own_topics_gets_no_answer() -> None:
    assert (await _ask(_incoming(_PNG, response_topic="edge-agent/pi-1/cameras/front/enabled/set"))).answers == []


@pytest.mark.anyio
async def test_request_without_a_response_topic_gets_no_answer_and_its_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = await _ask(_incoming(_PNG, response_topic=None), _incoming(b"junk", response_topic=None))
    assert running.answers == []
    assert "without a response topic failed: The body is not an image." in caplog.text


@pytest.mark.anyio
async def test_retained_request_is_not_answered() -> None:
    assert (await _ask(_incoming(_PNG, retained=True))).answers == []


@pytest.mark.anyio
async def test_request_waits_while_the_engine_is_busy() -> None:
    async with _run(retry_busy_s=0.001) as running:
        running.busy_times = 5
        running.requests.put(_incoming(_PNG))
        await until(lambda: running.acknowledged)
        assert running.only_answer()[1]["image"] == len(_PNG)


@pytest.mark.anyio
async def test_image_that_never_fits_into_the_memory_gets_an_error() -> None:
    async with _run(retry_busy_s=0.001) as running:
        running.busy, running.busy_times = MemoryFullError, 5
        running.requests.put(_incoming(_PNG))
        await until(lambda: running.acknowledged)
        assert running.only_answer()[1] == {"error": "All places are taken."}
        assert running.busy_times == 0


@pytest.mark.anyio
async def test_requests_use_only_the_workers_and_refuse_excess_requests() -> None:
    async with _run() as running:
        for _ in range(70):
            running.requests.put(_incoming(_PNG))
        refused = [json.loads(answer.payload) for answer in running.answers]
        assert refused == [{"error": "Too many requests are waiting. Try again later."}] * 6
        await until(lambda: len(running.answers) == 70)
        assert running.most_workers == 2


@pytest.mark.anyio
async def test_large_requests_wait_only_up_to_the_memory_limit() -> None:
    async with _run() as running:
        for _ in range(20):
            running.requests.put(_incoming(_PNG + bytes(980)))
        assert len(running.answers) == 9, (
            "ten images of the largest size wait, and one that arrived when there was room"
        )
        await until(lambda: len(running.answers) == 20)
        running.requests.put(_incoming(_PNG))
        await until(lambda: len(running.answers) == 21)
