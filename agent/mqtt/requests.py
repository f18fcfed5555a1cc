"""Requests: images to classify that arrive over MQTT, each with a topic for its answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from agent.errors import AgentError, BusyError, MemoryFullError
from agent.mqtt.message import Incoming, Message, is_topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MAX_WAITING = 64  # only QoS 0 requests reach it: the broker limits the number of unacknowledged messages
_MAX_WAITING_IMAGES = 10  # of the largest allowed size
_MAX_JSON_PARTS = 1000
_MAX_SHORT_TAG = 200
_ANSWER_TOO_LARGE = (
    "The answer is larger than the MQTT broker accepts. Raise the broker's limit for the size of a message."
)
_logger = logging.getLogger(__name__)
_MOST_TRIES = 5  # of an image for which the memory is too small
_FORM = (
    'A request must be the bytes of an image, or JSON such as {"image": "<base64>", "reply_to": "<topic>"}; '
    '"model" and "correlation" are optional.'
)


@dataclass(frozen=True, slots=True)
class _Request:
    """A parsed request; `fault` is the error to answer with if the request is invalid."""

    image: bytes = b""
    model: str | None = None
    reply_to: str | None = None
    correlation: bytes | None = None
    tag: Any = None
    fault: str | None = None


class Requests:
    """A request is JPEG or PNG bytes with MQTT 5's response topic and correlation data, or JSON.

    `classify` returns the JSON of a Result for an image and a model name, or raises AgentError. `answer` sends a
    message. `acknowledge` confirms a request to the broker; if this agent disconnects before that, the broker passes
    the request to another agent. At most `workers` requests are processed at the same time.
    """

    def __init__(
        self,
        *,
        classify: Callable[[bytes, str | None], Awaitable[dict[str, Any]]],
        answer: Callable[[Message], None],
        acknowledge: Callable[[Incoming], None],
        own_topics: str,
        max_bytes: int,
        workers: int,
        retry_busy_s: float = 0.2,
    ) -> None:
        self._classify = classify
        self._answer = answer
        self._acknowledge = acknowledge
        self._own_topics = own_topics
        self._max_bytes = max_bytes
        self._workers = workers
        self._retry_busy_s = retry_busy_s
        self._waiting: asyncio.Queue[Incoming] = asyncio.Queue(_MAX_WAITING)
        self._waiting_bytes = 0

    def put(self, incoming: Incoming) -> None:
        """Ignores a retained request: it is old, and the broker would send it again after every connect."""
        if incoming.retained:
            self._acknowledge(incoming)
            return
        if self._waiting.full() or self._waiting_bytes > _MAX_WAITING_IMAGES * self._max_bytes:
            self._reply(self._understood(incoming), {"error": "Too many requests are waiting. Try again later."})
            self._acknowledge(incoming)
            return
        self._waiting_bytes += len(incoming.payload)
        self._waiting.put_nowait(incoming)

    async def run(self) -> None:
        """Never returns."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._workers):
                tasks.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            incoming = await self._waiting.get()
            self._waiting_bytes -= len(incoming.payload)
            request = self._understood(incoming)
            self._reply(request, await self._document(request))
            self._acknowledge(incoming)

    async def _document(self, request: _Request) -> dict[str, Any]:
        if request.fault is not None:
            return {"error": request.fault}
        try:
            return await self._classified(request)
        except AgentError as error:
            return {"error": str(error)}

    async def _classified(self, request: _Request) -> dict[str, Any]:
        """Retries while the engine is busy: the broker can wait, so HTTP clients go first."""
        tries = 0
        while True:
            try:
                return await self._classify(request.image, request.model)
            except MemoryFullError:
                tries += 1
                if tries == _MOST_TRIES:  # it may always be too large, and others wait
                    raise
            except BusyError:
                pass
            await asyncio.sleep(self._retry_busy_s)

    def _reply(self, request: _Request, document: dict[str, Any]) -> None:
        if request.reply_to is None:
            if error := document.get("error"):
                _logger.warning("An MQTT request without a response topic failed: %s", error)
            return
        if request.tag is not None:
            document = {**document, "correlation": request.tag}
        short = {"error": _ANSWER_TOO_LARGE}
        if request.tag is not None and len(json.dumps(request.tag)) <= _MAX_SHORT_TAG:
            short["correlation"] = request.tag
        payloads = [json.dumps(each).encode() for each in (document, short)]
        self._answer(Message(request.reply_to, payloads[0], correlation=request.correlation, short=payloads[1]))

    def _understood(self, incoming: Incoming) -> _Request:
        reply_to, correlation = incoming.response_topic, incoming.correlation
        if (fault := self._unusable(reply_to)) is not None:
            _logger.warning("Ignored an MQTT request: %s", fault)
            return _Request(fault=fault)
        if len(incoming.payload) > self._max_bytes * 4 // 3 + 4096:
            return _Request(reply_to=reply_to, correlation=correlation, fault=self._too_large())
        if incoming.payload[:64].lstrip()[:1] != b"{":
            return self._checked(_Request(incoming.payload, None, reply_to, correlation))
        return self._from_json(incoming.payload, reply_to, correlation)

    def _from_json(self, payload: bytes, reply_to: str | None, correlation: bytes | None) -> _Request:
        if sum(payload.count(sign) for sign in (b"[", b"{", b",")) > _MAX_JSON_PARTS:  # parsing would take seconds
            return _Request(reply_to=reply_to, correlation=correlation, fault=_FORM)
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            return _Request(reply_to=reply_to, correlation=correlation, fault=_FORM)
        topic = document.get("reply_to", reply_to)
        tag, model, image = (document.get(key) for key in ("correlation", "model", "image"))
        if (fault := self._unusable(topic)) is not None:
            return _Request(reply_to=reply_to, correlation=correlation, fault=fault)
        request = _Request(b"", model, topic, correlation, tag)
        if not isinstance(image, str) or not isinstance(model, str | None):
            return replace(request, fault=_FORM)
        try:
            return self._checked(replace(request, image=base64.b64decode(image, validate=True)))
        except (binascii.Error, ValueError):
            return replace(request, fault=_FORM)

    def _checked(self, request: _Request) -> _Request:
        return (
            request if len(request.image) <= self._max_bytes else replace(request, image=b"", fault=self._too_large())
        )

    def _too_large(self) -> str:
        return f"The image is larger than {self._max_bytes} bytes. Send a smaller one or raise http.max_upload_bytes."

    def _unusable(self, topic: Any) -> str | None:
        """Protects the agent's own topics, Home Assistant's and the broker's from a client that may only ask."""
        if topic is None:
            return None
        if not isinstance(topic, str) or not is_topic(topic):
            return "The response topic must be 1 to 1024 characters long, without +, # and control characters."
        if topic.startswith(("$", self._own_topics + "/", "homeassistant/")):
            return f"The response topic must not begin with $, homeassistant/ or {self._own_topics}/."
        return None
