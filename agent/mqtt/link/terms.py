"""Terms: what the broker accepts from its clients. TermsChoice: which last will to try."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from agent.mqtt.link.failure import NO_QOS_1, NO_RETAIN

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties

# Also the answers of a broker that refuses the topic of the last will
_MAYBE_THE_WILL = frozenset(
    {"Not authorized", "Topic name invalid", "Unspecified error", "Implementation specific error"}
)


@dataclass(frozen=True, slots=True)
class Terms:
    """`qos` and `retain` also apply to the last will, which is left out unless `will` is true."""

    qos: Literal[0, 1] = 1
    retain: bool = True
    will: bool = True
    wildcards: bool = True
    shared: bool = True
    max_packet_bytes: int | None = None

    def announced(self, properties: Properties | None) -> Terms:
        """Returns these terms with the limits of an MQTT 5 broker's CONNACK (MQTT 5, 3.2.2.3)."""
        return replace(
            self,
            qos=0 if getattr(properties, "MaximumQoS", 1) == 0 else self.qos,
            retain=self.retain and bool(getattr(properties, "RetainAvailable", 1)),
            wildcards=bool(getattr(properties, "WildcardSubscriptionAvailable", 1)),
            shared=bool(getattr(properties, "SharedSubscriptionAvailable", 1)),
            max_packet_bytes=getattr(properties, "MaximumPacketSize", None),
        )

    def may_subscribe(self, topic_filter: str) -> bool:
        if topic_filter.startswith("$share/"):
            return self.shared
        return self.wildcards or not ("+" in topic_filter or "#" in topic_filter)


_ALL = Terms()
_WITHOUT_ANSWER = (_ALL, Terms(retain=False), Terms(qos=0, retain=False), Terms(will=False))
_NOT_AUTHORIZED = (_ALL, Terms(will=False))
_GUESS_EVERY = 10  # failures: each guess is one more failed login if the password is wrong


class TermsChoice:
    """`current` are the terms of the connection, or of the next try.

    A broker that cannot retain messages or has no QoS 1 refuses a last will that demands them, and so does one that
    does not allow the topic. If it does not say so, the lower terms are a guess, tried without a pause: were the
    password corrected meanwhile, the will would be left out by mistake. Each new connection asks for everything again.
    """

    def __init__(self) -> None:
        self.current = _ALL
        self._working: Terms | None = None
        self._failures = 0

    def accept(self) -> None:
        self._failures = 0
        self._working = None if self.current == _ALL else self.current

    def restart(self) -> None:
        """The next try is for a new connection."""
        self.current = _ALL

    def lower(self, refusal: str | None) -> bool:
        """Call it after a refusal, or with None if the broker answered nothing; returns whether to retry at once."""
        before = self.current
        if refusal == NO_RETAIN:
            self.current = replace(before, retain=False)
        elif refusal == NO_QOS_1:
            self.current = replace(before, qos=0)
        elif refusal is None or refusal in _MAYBE_THE_WILL:
            return self._guess(_WITHOUT_ANSWER if refusal is None else _NOT_AUTHORIZED)
        return self.current != before

    def _guess(self, ladder: tuple[Terms, ...]) -> bool:
        if self.current == _ALL and self._working is not None:
            self.current = self._working
            return True
        self._failures += self.current == _ALL
        if self.current == _ALL and self._failures % _GUESS_EVERY != 1:
            return False
        step = ladder.index(self.current) if self.current in ladder else -1
        self.current = ladder[(step + 1) % len(ladder)]
        return self.current != _ALL
