"""Retained: the newest payload of each retained topic, to send again to a broker that missed or lost it."""

from __future__ import annotations

from typing import Protocol

from agent.mqtt.message import Message


class Window(Protocol):
    def room(self) -> int: ...
    def send(self, message: Message) -> int: ...


class Retained:
    """Sends all topics after every connect, and each change immediately. Not thread-safe."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._messages: dict[str, Message] = {}
        self._unsent: dict[str, None] = {}  # used as an ordered set
        self._removals: dict[int, str] = {}
        self._connected = False

    def __contains__(self, topic: str) -> bool:
        message = self._messages.get(topic)
        return message is not None and bool(message.payload)

    def put(self, topic: str, payload: bytes, *, short: bytes | None = None) -> None:
        """`short` is sent instead if the broker does not accept a payload of this size."""
        message = Message(topic, payload, retain=True, short=short)
        if self._messages.get(topic) != message:
            self._messages[topic] = message
            self.repeat(topic)

    def repeat(self, topic: str) -> None:
        """Sends the topic's payload again; does nothing if there is none."""
        if topic in self._messages:
            self._unsent[topic] = None
            self.pump()

    def remove(self, topic: str) -> None:
        """Sends an empty payload, which makes the broker delete the topic, until the broker acknowledges it."""
        self.put(topic, b"")

    def open(self) -> None:
        self._connected = True
        self._unsent = dict.fromkeys(self._messages)
        self.pump()

    def pause(self) -> None:
        self._connected = False
        self._removals.clear()

    def acknowledge(self, number: int) -> None:
        topic = self._removals.pop(number, None)
        if topic is not None and topic not in self:
            self._messages.pop(topic, None)

    def pump(self) -> None:
        while self._connected and self._unsent and self._window.room() > 0:
            topic = next(iter(self._unsent))
            del self._unsent[topic]
            number = self._window.send(self._messages[topic])
            if topic not in self:
                self._removals[number] = topic
