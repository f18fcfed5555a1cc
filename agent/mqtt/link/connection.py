"""Connection: connects to the MQTT broker with MQTT 5 or 3.1.1, and reconnects whenever the link ends."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Literal

from agent.errors import ConfigError
from agent.host.backoff import Backoff
from agent.mqtt.link.endpoint import Endpoint, Timeouts
from agent.mqtt.link.failure import connect_failure, sentence, unanswered
from agent.mqtt.link.link import Link, LinkListener
from agent.mqtt.link.outgoing import Outgoing
from agent.mqtt.link.restrictions import Restrictions
from agent.mqtt.link.terms import TermsChoice
from agent.mqtt.link.versions import VersionChoice

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.mqtt.link.terms import Terms
    from agent.mqtt.message import Incoming, Message, MqttVersion

ConnectionState = Literal["connecting", "connected", "refused", "unreachable"]

_UNSUPPORTED_VERSION = "Unsupported protocol version"
_REPEATED_LOSS = "If this repeats, check the network."
_TAKEN_OVER = (
    "This keeps happening: another client probably uses the same mqtt.client_id. Give each device its own device.id: "
    "the default client id is derived from it."
)
_CLOSES = "closes the connection without an answer"
_SEARCHING = (
    "A message may be the reason, such as one that is too large or not allowed: the agent sends one at a time to find "
    "it, and leaves it out."
)
# Reasons of an MQTT 5 broker that say that no message of this agent is at fault
_NOT_A_MESSAGE = frozenset(
    {
        "Administrative action",
        "Connection rate exceeded",
        "Keep alive timeout",
        "Maximum connect time",
        "Message rate too high",
        "Server busy",
        "Server moved",
        "Server shutting down",
        "Session taken over",
        "Use another server",
    }
)
_TAKEN_OVER_AFTER = 3  # short connections in a row
_logger = logging.getLogger(__name__)


class ConnectionListener:
    """Override the events you need; each is called on the loop's thread."""

    def connected(self) -> None:
        """Messages can be published until `disconnected` is called."""

    def disconnected(self) -> None:
        """The connection was lost; it is retried automatically."""

    def acknowledged(self, number: int, failure: str | None) -> None:
        """`number` is the result of publish(); `failure` is why the broker discarded the message, or None."""

    def received(self, incoming: Incoming) -> None:
        """Pass the message to acknowledge() once it was handled."""


class Connection(LinkListener):
    """Belongs to the loop in which it is created: methods and events are called there only.

    Tries the endpoint's MQTT version first, and the other one if the broker refuses it or closes the connection
    without an answer. Logs each change of the state or its reason. `fraction` returns a random number from 0 to 1.
    Raises ConfigError for an invalid host and for unusable certificates.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        listener: ConnectionListener,
        timeouts: Timeouts | None = None,
        fraction: Callable[[], float] = random.random,
    ) -> None:
        endpoint.check()
        self._loop = asyncio.get_running_loop()
        self.endpoint = endpoint
        self._base = endpoint.will.topic.rpartition("/")[0]
        self._versions = VersionChoice(endpoint.version)
        self._terms = TermsChoice()
        self._outgoing = Outgoing(self)
        self._restrictions = Restrictions(endpoint, base=self._base)
        self._max_packet_bytes: int | None = None
        self._listener = listener
        self._timeouts = timeouts or Timeouts()
        self._backoff = Backoff(
            first_s=self._timeouts.first_retry_s, longest_s=self._timeouts.max_retry_s, fraction=fraction
        )
        self._link: Link | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._refusal: str | None = None
        self._accepted_s = 0.0
        self._short_connections = 0
        self._unsubscribable: set[str] = set()
        # Others may read these; only this class sets them.
        self.state: ConnectionState = "connecting"
        self.reason: str | None = None  # what is wrong and what to do
        self.receive_maximum = 0  # unacknowledged messages that the broker accepts; one more, and it disconnects
        self.tries = 0
        self.pause_s = 0.0  # before the latest try

    @property
    def protocol(self) -> Literal["5", "3.1.1"] | None:
        """The MQTT version in use; None while not connected."""
        if self.state != "connected":
            return None
        return "5" if self._versions.current == 5 else "3.1.1"

    @property
    def version(self) -> MqttVersion:
        """The MQTT version of the current connection, or of the next try."""
        return self._versions.current

    def open(self) -> None:
        """Connects, and reconnects until close(). Returns at once."""
        self.tries += 1
        self._link = Link(
            self.endpoint,
            number=self.tries,
            version=self.version,
            timeouts=self._timeouts,
            listener=self,
            terms=self._terms.current,
        )

    def publish(self, message: Message) -> int:
        """Sends with QoS 1 if the broker supports it, and returns the message's number. Call it only while connected.

        A message that the broker does not accept is shortened, or not sent and reported as discarded.
        """
        return self._outgoing.publish(message)

    def subscribe(self, *filters: str) -> None:
        """Subscribes with QoS 1 for this connection. Call it only while connected."""
        self._outgoing.subscribe(filters)

    def unsubscribe(self, *filters: str) -> None:
        """Call it only while connected."""
        assert self._link is not None
        self._link.unsubscribe(filters)

    def acknowledge(self, incoming: Incoming) -> None:
        """Does nothing for QoS 0, or if the connection that delivered the message has ended."""
        link, number, qos = incoming.receipt
        if qos > 0 and self._link is not None and self._link.number == link:
            self._link.acknowledge(number, qos)

    async def close(self, *, timeout_s: float) -> None:
        """Disconnects cleanly and stops retrying. Returns within `timeout_s`, whatever the broker does."""
        self.state, self.reason = "unreachable", "The agent is stopping."
        self._outgoing.close()
        if self._retry is not None:
            self._retry.cancel()
        if self._link is not None:
            await self._link.close(timeout_s=timeout_s)

    def failed(self, error: BaseException) -> None:
        self._link = None
        self._versions.undo()
        self._terms.restart()
        if isinstance(error, ConfigError):
            self._refuse(str(error))
            return
        failure = connect_failure(error, self.endpoint)
        reason = sentence(self.endpoint, failure.what, failure.why, failure.remedy)
        if failure.refused:
            self._refuse(reason)
        else:
            self._retry_later(reason)

    def accepted(self, *, receive_maximum: int, terms: Terms) -> None:
        assert self._link is not None
        self._versions.prove()
        self._terms.accept()
        self._accepted_s = self._loop.time()
        self._outgoing.open(self._link, terms)
        self._max_packet_bytes = terms.max_packet_bytes
        self.receive_maximum = receive_maximum
        self._change("connected", None)
        self._restrictions.connected(terms)
        if not self._outgoing.blame.may_retain(self._accepted_s):
            self._restrictions.without_retain()
        self.reason = self._restrictions.reason
        self._listener.connected()

    def refused(self, reason: str) -> None:
        self._refusal = reason

    def acknowledged(self, number: int, failure: str | None) -> None:
        self._outgoing.acknowledged(number, failure)

    def subscribed(self, topic_filter: str, failure: str | None) -> None:
        self._outgoing.subscribed(topic_filter, failure)

    def published(self, number: int, message: Message, failure: str | None) -> None:
        if failure is not None and self._is_own(message):
            size = self._size_of(message)
            self._restrictions.refused(message.topic, size, failure, limit=self._max_packet_bytes)
            self._restrict()
        self._listener.acknowledged(number, failure)

    def shortened(self, message: Message) -> None:
        if self._is_own(message):
            self._restrictions.shortened(message.topic, self._size_of(message), limit=self._max_packet_bytes)
            self._restrict()

    def _size_of(self, message: Message) -> int:
        """Of the whole packet if the broker announced a limit, which is one for packets."""
        return len(message.payload) if self._max_packet_bytes is None else message.packet_bytes(self.version)

    def subscription_answered(self, topic_filter: str, failure: str | None) -> None:
        """Logs a refusal once, not on each connection."""
        if failure is None:
            self._unsubscribable.discard(topic_filter)
        elif topic_filter not in self._unsubscribable:
            self._unsubscribable.add(topic_filter)
            remedy = f"Allow the agent's MQTT user to read {topic_filter}."
            _logger.warning(
                "%s", sentence(self.endpoint, f"refuses the subscription to {topic_filter}", failure, remedy)
            )

    def received(self, incoming: Incoming) -> None:
        self._listener.received(incoming)

    def silent(self) -> None:
        self._link = None
        if self.state == "connected":
            self._short_connections = 0
            self._outgoing.close()
            self._lose(sentence(self.endpoint, "no longer answers", None, _REPEATED_LOSS))
        elif not self._versions.is_proven:
            self._try_other_version("does not answer")
        else:
            self._retry_later(unanswered(self.endpoint, "does not answer"))

    def ended(self, reason: str | None) -> None:
        self._link = None
        refusal, self._refusal = self._refusal, None
        if self.state == "connected":
            self._lost(reason)
        elif refusal == _UNSUPPORTED_VERSION:
            self._try_other_version(None)
        elif refusal is not None:
            if self._terms.lower(refusal):
                self.open()
            else:
                self._refuse(sentence(self.endpoint, "refuses this agent", refusal))
        elif not self._versions.is_proven:
            self._try_other_version(_CLOSES)
        else:
            self._retry_without_answer(_CLOSES)

    def _lost(self, reason: str | None) -> None:
        """MQTT 3.1.1 does not report a takeover. It shows in the repetition: the two clients disconnect each other."""
        is_short = self._loop.time() - self._accepted_s < self._timeouts.proven_s
        in_flight = self._outgoing.close()
        suspicious = reason not in _NOT_A_MESSAGE and self._outgoing.blame.broke(in_flight, self._loop.time())
        if not suspicious:
            self._short_connections = self._short_connections + 1 if is_short and reason is None else 0
        taken_over = self._short_connections >= _TAKEN_OVER_AFTER
        remedy = _SEARCHING if self._outgoing.blame.searching else _TAKEN_OVER if taken_over else None
        self._lose(sentence(self.endpoint, "closed the connection", reason, remedy, otherwise=_REPEATED_LOSS))

    def _lose(self, reason: str) -> None:
        self._terms.restart()
        if self._loop.time() - self._accepted_s >= self._timeouts.proven_s:
            self._backoff.reset()
        self._change("unreachable", reason)
        self._listener.disconnected()
        self._retry_later(reason)

    def _try_other_version(self, without_answer: str | None) -> None:
        """Tries both versions without a pause between them, then pauses."""
        if self._versions.switch():
            self.open()
        elif without_answer is not None:
            self._retry_without_answer(without_answer)
        else:
            self._refuse(sentence(self.endpoint, "supports neither MQTT 5 nor MQTT 3.1.1", None))

    def _retry_without_answer(self, what: str) -> None:
        """A broker may close the connection because it does not accept the last will."""
        if what == _CLOSES and self._terms.lower(None):
            self.open()
        else:
            self._retry_later(unanswered(self.endpoint, what))

    def _is_own(self, message: Message) -> bool:
        """Another client chose the topic of an answer."""
        return message.retain or message.topic.startswith(f"{self._base}/")

    def _restrict(self) -> None:
        if self.state == "connected":
            self.reason = self._restrictions.reason

    def _refuse(self, reason: str) -> None:
        self._change("refused", reason)
        self._retry_in(self._backoff.shortened_s(self._timeouts.refused_retry_s))

    def _retry_later(self, reason: str) -> None:
        self._change("unreachable", reason)
        self._retry_in(self._backoff.next_s())

    def _retry_in(self, pause_s: float) -> None:
        self.pause_s = pause_s
        self._retry = self._loop.call_later(self.pause_s, self.open)

    def _change(self, state: ConnectionState, reason: str | None) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        if reason is not None:
            _logger.warning("%s", reason)
        else:
            _logger.info("Connected to the MQTT broker at %s, MQTT %s.", self.endpoint.address, self.protocol)
