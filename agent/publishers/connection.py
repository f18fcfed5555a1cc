"""Connection: to the MQTT broker, tried again whenever it ends, with MQTT 5 or else 3.1.1."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from typing import TYPE_CHECKING, Literal

from agent.publishers.attempt import Attempt, MqttVersion
from agent.publishers.endpoint import Endpoint, Patience

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.publishers.message import Incoming, Message

ConnectionState = Literal["connecting", "connected", "refused", "unreachable"]

_OTHER: dict[MqttVersion, MqttVersion] = {5: 311, 311: 5}
_UNSUPPORTED_VERSION = "Unsupported protocol version"
_CREDENTIALS = "Correct mqtt.username and mqtt.password_file, or give this user access at the broker."
_CLIENT_CERTIFICATE = "Give a certificate that it accepts: mqtt.cert_file and mqtt.key_file."
_REMEDIES = {
    "Bad user name or password": _CREDENTIALS,
    "Not authorized": _CREDENTIALS,
    "Client identifier not valid": "Choose another mqtt.client_id.",
    "Session taken over": "Another client has the same mqtt.client_id: give each device its own.",
}
_REPEATED_LOSS = "If this repeats, check the network."
_TAKEN_OVER = "It goes on so: another client probably has the same mqtt.client_id. Give each device its own."
_TAKEN_OVER_AFTER = 3  # short connections in a row
_logger = logging.getLogger(__name__)


class Connection:
    """Belongs to the loop it is made in: every method is called there, every callback comes there.

    `version` is tried first, and the other one when the broker refuses it or hangs up without an answer.
    `on_disconnected` comes only after `on_connected`; `on_acknowledged` gets what `publish` returned, and why the
    broker throws the message away if it does; what `on_received` gets is to be acknowledged. It is logged when the
    state or its reason changes. Raises ConfigError for a host that cannot be one, and for unusable certificates.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        version: MqttVersion,
        on_connected: Callable[[], None],
        on_disconnected: Callable[[], None],
        on_acknowledged: Callable[[int, str | None], None],
        on_received: Callable[[Incoming], None],
        patience: Patience | None = None,
    ) -> None:
        endpoint.check_host()
        self._tls = endpoint.tls.context() if endpoint.tls else None
        self._loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._version = version
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_acknowledged = on_acknowledged
        self._on_received = on_received
        self._patience = patience or Patience()
        self._state: ConnectionState = "connecting"
        self._reason: str | None = None
        self._attempt: Attempt | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = self._patience.first_retry_s
        self._refusal: str | None = None
        self._proven: MqttVersion | None = None
        self._fell_back = False
        self._accepted_s = 0.0
        self._short_lives = 0
        self._unacknowledged: set[int] = set()
        self._heard_s = 0.0
        self._silence: asyncio.TimerHandle | None = None

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
            tls=self._tls,
            version=self._version,
            answer_timeout_s=self._patience.answer_s,
            listener=self,
        )

    def publish(self, message: Message) -> int:
        """Sends with QoS 1 and returns the message's number. Only while the state is connected."""
        assert self._attempt is not None
        number = self._attempt.publish(message)
        if not self._unacknowledged:
            self._heard_s = self._loop.time()
            self._watch_silence()
        self._unacknowledged.add(number)
        return number

    def subscribe(self, *topics: str) -> None:
        """With QoS 1. Only while the state is connected, and for this connection."""
        assert self._attempt is not None
        self._attempt.subscribe(topics)

    def unsubscribe(self, *topics: str) -> None:
        assert self._attempt is not None
        self._attempt.unsubscribe(topics)

    def acknowledge(self, incoming: Incoming) -> None:
        """Nothing where the connection that brought it has ended: it comes again."""
        attempt, number, qos = incoming.receipt
        if self._attempt is not None and id(self._attempt) == attempt:
            self._attempt.acknowledge(number, qos)

    async def close(self, *, timeout_s: float) -> None:
        """Disconnects cleanly and tries no more. Takes no longer, whatever the broker does."""
        self._state, self._reason = "unreachable", "The agent is stopping."
        for timer in (self._retry, self._silence):
            if timer is not None:
                timer.cancel()
        if self._attempt is not None:
            await self._attempt.close(timeout_s=timeout_s)

    def failed(self, error: BaseException | None) -> None:
        self._attempt = None
        if self._tls is not None and isinstance(error, ssl.SSLError | ConnectionResetError):
            self._tls_failed(error)
            return
        cause = getattr(error, "strerror", None) or error
        self._change(
            "unreachable",
            self._sentence("cannot be reached", str(cause), "Start it, or correct mqtt.host and mqtt.port."),
        )
        self._retry_later()

    def _tls_failed(self, error: ssl.SSLError | ConnectionResetError) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            why = error.verify_message.rstrip(".")
            self._refused(self._sentence("cannot be trusted", why, _untrusted_remedy(why)))
        elif "alert" in str(error).lower():
            self._refused(self._sentence("refuses this agent", _alert(error), _CLIENT_CERTIFICATE))
        else:
            remedy = "Correct mqtt.port, or set mqtt.tls to false."
            self._change("unreachable", self._sentence("does not speak TLS", None, remedy))
            self._retry_later()

    def _refused(self, sentence: str) -> None:
        self._change("refused", sentence)
        self._retry_in(self._patience.refused_retry_s)

    def accepted(self) -> None:
        self._proven, self._fell_back = self._version, False
        self._accepted_s = self._loop.time()
        self._unacknowledged.clear()
        self._change("connected", None)
        self._on_connected()

    def refused(self, reason: str) -> None:
        self._refusal = reason

    def acknowledged(self, number: int, failure: str | None) -> None:
        self._unacknowledged.discard(number)
        self._heard_s = self._loop.time()
        if failure is not None:
            remedy = f"Allow its user to write below {self._endpoint.will.topic.rpartition('/')[0]}."
            self._change("connected", self._sentence("discards what it gets", failure, remedy))
        self._on_acknowledged(number, failure)

    def received(self, incoming: Incoming) -> None:
        self._on_received(incoming)

    def subscription_refused(self, topic: str, reason: str) -> None:
        remedy = "Allow its user to read that topic." if reason == "Not authorized" else ""
        _logger.warning("%s %s", self._sentence(f"lets nobody subscribe to {topic}", reason, remedy).rstrip(), "")

    def ended(self, reason: str | None) -> None:
        self._attempt = None
        refusal, self._refusal = self._refusal, None
        if self._state == "connected":
            self._lost(reason)
        elif refusal == _UNSUPPORTED_VERSION or (refusal is None and self._proven != self._version):
            self._try_other_version(refusal)
        elif refusal is not None:
            self._refused(self._sentence("refuses this agent", refusal))
        else:
            self._hung_up()

    def _watch_silence(self) -> None:
        """A link that is half open takes everything and gives nothing, not even an end.

        paho finds it out after two keep-alives. Statistics want an acknowledgement once a keep-alive, so after another
        half without any it is known within one and a half.
        """
        left_s = self._heard_s + self._endpoint.keepalive_s / 2 - self._loop.time()
        if left_s > 0:
            self._silence = self._loop.call_later(left_s, self._end_silence)

    def _end_silence(self) -> None:
        if self._state != "connected" or not self._unacknowledged:
            return
        if self._heard_s + self._endpoint.keepalive_s / 2 > self._loop.time():
            self._watch_silence()
            return
        assert self._attempt is not None
        self._attempt.abandon()
        self._attempt = None
        self._lost("It does not answer any more")

    def _lost(self, reason: str | None) -> None:
        proven = self._loop.time() - self._accepted_s >= self._patience.proven_s
        self._short_lives = 0 if proven else self._short_lives + 1
        if proven:
            self._retry_s = self._patience.first_retry_s
        remedy = _REMEDIES.get(reason or "", _REPEATED_LOSS)
        if reason is None and self._short_lives >= _TAKEN_OVER_AFTER:
            remedy = _TAKEN_OVER
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
            self._refused(self._sentence("speaks neither MQTT 5 nor MQTT 3.1.1", None))

    def _hung_up(self) -> None:
        kind = "with" if self._tls else "without"
        remedy = f"Check that it is running and that mqtt.port is its port for MQTT {kind} TLS."
        self._change("unreachable", self._sentence("hangs up without an answer", None, remedy))
        self._retry_later()

    def _retry_later(self) -> None:
        self._retry_in(self._retry_s)
        self._retry_s = min(2 * self._retry_s, self._patience.max_retry_s)

    def _retry_in(self, delay_s: float) -> None:
        self._retry = self._loop.call_later(delay_s * random.uniform(0.5, 1.0), self.open)  # noqa: S311  (no secret)

    def _change(self, state: ConnectionState, reason: str | None) -> None:
        if (state, reason) == (self._state, self._reason):
            return
        self._state, self._reason = state, reason
        if reason is not None:
            _logger.warning("%s", reason)
        else:
            _logger.info("Connected to the MQTT broker at %s, MQTT %s.", self._endpoint.address, self.protocol)

    def _sentence(self, what: str, why: str | None, remedy: str | None = None) -> str:
        cause = f": {why}" if why else ""
        sentence = f"The MQTT broker at {self._endpoint.address} {what}{cause}."
        remedy = remedy or _REMEDIES.get(why or "")
        return f"{sentence} {remedy}" if remedy else sentence


def _alert(error: BaseException) -> str:
    """OpenSSL's words without its name of the alert and its line of C."""
    text = str(error.args[-1])
    return re.sub(r"^\[SSL: \w+\] | \(_ssl\.c:\d+\)$|^(tls|ssl)v\w+ alert ", "", text)


def _untrusted_remedy(why: str) -> str:
    if "expired" in why:
        return "Renew its certificate, and check this device's clock."
    if "not yet valid" in why:
        return "Set this device's clock."
    if "ismatch" in why:
        return "Set mqtt.host to a name that its certificate has, or give it a certificate for this name."
    return "Set mqtt.ca_file to the certificate of the authority that signed the broker's."
