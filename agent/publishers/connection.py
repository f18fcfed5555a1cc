"""Connection: to the MQTT broker, tried again whenever it ends, with MQTT 5 or else 3.1.1."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal

from agent.errors import ConfigError
from agent.publishers.attempt import Attempt, Endpoint, MqttVersion, Patience

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.publishers.outbox import Message

ConnectionState = Literal["connecting", "connected", "refused", "unreachable"]

_OTHER: dict[MqttVersion, MqttVersion] = {5: 311, 311: 5}
_UNSUPPORTED_VERSION = "Unsupported protocol version"
_CREDENTIALS = "Correct mqtt.username and mqtt.password_file, or give this user access at the broker."
_REMEDIES = {
    "Bad user name or password": _CREDENTIALS,
    "Not authorized": _CREDENTIALS,
    "Client identifier not valid": "Choose another mqtt.client_id.",
    "Session taken over": "Another client has the same mqtt.client_id: give each device its own.",
}
_REPEATED_LOSS = "If this repeats, check the network, and that no other client has the same mqtt.client_id."
_logger = logging.getLogger(__name__)


class Connection:
    """Belongs to the loop it is made in: every method is called there, every callback comes there.

    `version` is tried first, and the other one when the broker refuses it or hangs up without an answer.
    `on_disconnected` comes only after `on_connected`; `on_acknowledged` gets what `publish` returned;
    `on_change` comes when the state or its reason has changed, and only then is something logged.
    Raises ConfigError for a host that cannot be a host name.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        version: MqttVersion,
        on_connected: Callable[[], None],
        on_disconnected: Callable[[], None],
        on_acknowledged: Callable[[int], None],
        on_change: Callable[[], None],
        patience: Patience | None = None,
    ) -> None:
        _check_host(endpoint.host)
        self._loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._version = version
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_acknowledged = on_acknowledged
        self._on_change = on_change
        self._patience = patience or Patience()
        self._state: ConnectionState = "connecting"
        self._reason: str | None = None
        self._attempt: Attempt | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = self._patience.first_retry_s
        self._refusal: str | None = None
        self._proven: MqttVersion | None = None
        self._fell_back = False

    @property
    def state(self) -> ConnectionState:
        return self._state

    @property
    def reason(self) -> str | None:
        """A sentence that says what is wrong and what to do; None while nothing is known to be wrong."""
        return self._reason

    @property
    def protocol(self) -> Literal["5", "3.1.1"] | None:
        """The MQTT version spoken now; None while not connected."""
        if self._state != "connected":
            return None
        return "5" if self._version == 5 else "3.1.1"

    def open(self) -> None:
        """Connects, and connects again for ever, until close(). Returns at once."""
        self._attempt = Attempt(
            self._endpoint,
            version=self._version,
            answer_timeout_s=self._patience.answer_s,
            listener=self,
        )

    def publish(self, message: Message, *, retain: bool = False) -> int:
        """Sends with QoS 1 and returns the message's number. Only while the state is connected."""
        assert self._attempt is not None
        return self._attempt.publish(message, retain=retain)

    async def close(self, *, timeout_s: float) -> None:
        """Disconnects cleanly and tries no more. Takes no longer, whatever the broker does."""
        self._state, self._reason = "unreachable", "The agent is stopping."
        if self._retry is not None:
            self._retry.cancel()
        if self._attempt is not None:
            await self._attempt.close(timeout_s=timeout_s)

    def failed(self, error: BaseException | None) -> None:
        self._attempt = None
        cause = getattr(error, "strerror", None) or error
        self._change(
            "unreachable",
            self._sentence("cannot be reached", str(cause), "Start it, or correct mqtt.host and mqtt.port."),
        )
        self._retry_later()

    def accepted(self) -> None:
        self._proven, self._fell_back = self._version, False
        self._retry_s = self._patience.first_retry_s
        self._change("connected", None)
        self._on_connected()

    def refused(self, reason: str) -> None:
        self._refusal = reason

    def acknowledged(self, number: int, failure: str | None) -> None:
        if failure is not None:
            remedy = f"Allow its user to write below {self._endpoint.will.topic.rpartition('/')[0]}."
            self._change("connected", self._sentence("discards what it gets", failure, remedy))
        self._on_acknowledged(number)

    def ended(self, reason: str | None) -> None:
        self._attempt = None
        refusal, self._refusal = self._refusal, None
        if self._state == "connected":
            self._lost(reason)
        elif refusal == _UNSUPPORTED_VERSION or (refusal is None and self._proven != self._version):
            self._try_other_version(refusal)
        elif refusal is not None:
            self._change("refused", self._sentence("refuses this agent", refusal))
            self._retry_in(self._patience.refused_retry_s)
        else:
            self._hung_up()

    def _lost(self, reason: str | None) -> None:
        remedy = _REMEDIES.get(reason or "", _REPEATED_LOSS)
        self._change("unreachable", self._sentence("ended the connection", reason, remedy))
        self._on_disconnected()
        self._retry_later()

    def _try_other_version(self, refusal: str | None) -> None:
        """Both are tried at once, one after the other; then comes a pause."""
        self._version = _OTHER[self._version]
        self._fell_back = not self._fell_back
        if self._fell_back:
            self.open()
        elif refusal is None:
            self._hung_up()
        else:
            self._change("refused", self._sentence("speaks neither MQTT 5 nor MQTT 3.1.1", None))
            self._retry_in(self._patience.refused_retry_s)

    def _hung_up(self) -> None:
        remedy = "Check that it is running and that mqtt.port is its port for MQTT without TLS."
        self._change("unreachable", self._sentence("hangs up without an answer", None, remedy))
        self._retry_later()

    def _retry_later(self) -> None:
        self._retry_in(self._retry_s)
        self._retry_s = min(2 * self._retry_s, self._patience.max_retry_s)

    def _retry_in(self, delay_s: float) -> None:
        self._retry = self._loop.call_later(delay_s, self.open)

    def _change(self, state: ConnectionState, reason: str | None) -> None:
        if (state, reason) == (self._state, self._reason):
            return
        self._state, self._reason = state, reason
        if reason is not None:
            _logger.warning("%s", reason)
        else:
            _logger.info("Connected to the MQTT broker at %s, MQTT %s.", self._endpoint.address, self.protocol)
        self._on_change()

    def _sentence(self, what: str, why: str | None, remedy: str | None = None) -> str:
        cause = f": {why}" if why else ""
        sentence = f"The MQTT broker at {self._endpoint.address} {what}{cause}."
        remedy = remedy or _REMEDIES.get(why or "")
        return f"{sentence} {remedy}" if remedy else sentence


def _check_host(host: str) -> None:
    """Paho's thread would die of such a name without a word."""
    try:
        usable = bool(host.encode("idna"))
    except UnicodeError:
        usable = False
    if not usable:
        raise ConfigError(f"mqtt.host is {host!r}, which is no host name: give the broker's name or address.")
