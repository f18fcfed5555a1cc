"""PahoClient: a paho client and its thread, for one network connection."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import DisconnectFlags
    from paho.mqtt.reasoncodes import ReasonCode

    from agent.mqtt.link.endpoint import Endpoint
    from agent.mqtt.link.terms import Terms
    from agent.mqtt.message import MqttVersion

_PAHO_VERSIONS = {5: MQTTProtocolVersion.MQTTv5, 311: MQTTProtocolVersion.MQTTv311}


@dataclass(frozen=True, slots=True)
class End:
    """`error` is what paho or the socket raised, `reason` the one in an MQTT 5 broker's DISCONNECT.

    `silent` if an idle broker did not answer a ping.
    """

    error: BaseException | None
    reason: str | None
    silent: bool


class PahoClient:
    """Connects when run() is called; paho calls its callbacks in that thread. Call all methods from other threads.

    Paho's own reconnect can neither change the MQTT version nor wait longer after a refusal, and it would send
    messages again that the outbox repeats as well. Paho's own thread dies silently of bytes that it cannot parse.
    """

    def __init__(self, endpoint: Endpoint, *, version: MqttVersion, terms: Terms) -> None:
        self._endpoint = endpoint
        self._abandoned = self._unwanted = False
        self._reason: str | None = None
        self._silent = False
        self._error: BaseException | None = None
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            protocol=_PAHO_VERSIONS[version],
            transport="tcp" if endpoint.websocket_path is None else "websockets",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if terms.will:
            will = endpoint.will
            self.client.will_set(will.topic, will.payload, qos=terms.qos, retain=terms.retain)
        self._configure(_bounds(endpoint) if version == 5 else None)

    def run(self, *, on_open: Callable[[], None], on_end: Callable[[End], None]) -> None:
        """Returns immediately. The thread calls `on_open` once it is connected and `on_end` when that has ended."""
        threading.Thread(target=self._run, args=(on_open, on_end), name="mqtt", daemon=True).start()

    def disconnect(self) -> None:
        """Ends, after a DISCONNECT if there is a connection."""
        self._unwanted = True
        self.client.disconnect()

    def abandon(self) -> None:
        """Ends at the thread's next check, whatever the broker does; an unresponsive host may delay that."""
        self._unwanted = self._abandoned = True

    def forget_callbacks(self) -> None:
        """Breaks the reference cycle: the paho client is then freed with its thread, and closes its sockets."""
        client = self.client
        client.on_connect = client.on_publish = client.on_disconnect = None
        client.on_message = client.on_subscribe = client.on_unsubscribe = None

    def _configure(self, bounds: Properties | None) -> None:
        client, endpoint = self.client, self._endpoint
        client.max_inflight_messages_set(0)  # Window limits them: paho must hold nothing back
        client.username_pw_set(endpoint.username, endpoint.password)
        if endpoint.websocket_path is not None:
            client.ws_set_options(path=endpoint.websocket_path)
        client.connect_async(endpoint.host, endpoint.port, self._ping_after_s, properties=bounds)
        client.on_disconnect = self._disconnected
        client.on_socket_register_write = _leave_writing_to_the_thread

    @property
    def _ping_after_s(self) -> int:
        """Paho pings an idle link after this time, and ends it after twice this time.

        So at 0.6 keep-alives, a dead link is detected after 1.2, which leaves 0.3 for the tick of paho's clock. An
        MQTT 5 broker may demand another keep-alive; the detection then takes twice that.
        """
        return max(1, int(0.6 * self._endpoint.keepalive_s))

    def _run(self, on_open: Callable[[], None], on_end: Callable[[End], None]) -> None:
        self.client.enable_logger(_logger_to(self._note_error))
        try:
            self._converse(on_open)
        except Exception as error:  # noqa: BLE001  (paho may raise anything for bytes that are not MQTT)
            self._error = error
        if (sock := self.client.socket()) is not None:
            sock.close()
        self.client.disable_logger()
        # A traceback would keep a reference to the client, and so to its sockets.
        bare = None if self._error is None else self._error.with_traceback(None)
        on_end(End(bare, self._reason, self._silent))

    def _converse(self, on_open: Callable[[], None]) -> None:
        """Reads the certificates for each connection, so renewed ones work without a restart."""
        if self._endpoint.tls is not None:
            self.client.tls_set_context(self._endpoint.tls.context())
        self.client.reconnect()
        if self._unwanted:  # disconnect() was called meanwhile, and reconnect() makes paho forget that
            return
        on_open()
        if self._endpoint.websocket_path is not None:
            _fix_partial_send(self.client.socket())
        tick_s = min(1.0, self._ping_after_s / 8)
        while not self._abandoned and self.client.loop(tick_s) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass

    def _disconnected(
        self, _client: Client, _userdata: object, flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._reason = str(reason)
        else:
            self._silent = reason == "Keep alive timeout"

    def _note_error(self, record: logging.LogRecord) -> bool:
        """Paho reports why a connection broke only in its log, such as a certificate alert of TLS 1.3."""
        for argument in record.args or ():
            if isinstance(argument, BaseException):
                self._error = argument
        return False


def _fix_partial_send(sock: Any) -> None:
    """Over WebSockets, paho returns 0 for a partly sent packet, and then forgets what it was sending."""
    send = sock.send

    def send_or_wait(data: bytes) -> int:
        sent: int = send(data)
        if sent == 0:
            raise BlockingIOError
        return sent

    sock.send = send_or_wait


def _logger_to(take: Callable[[logging.LogRecord], bool]) -> logging.Logger:
    """Returns a private logger that passes each record to `take`."""
    logger = logging.Logger("paho", logging.ERROR)  # noqa: LOG001
    logger.addFilter(take)
    return logger


def _leave_writing_to_the_thread(_client: Client, _userdata: object, _socket: object) -> None:
    """Without this callback, paho would write in the caller's thread: it does not know about ours."""


def _bounds(endpoint: Endpoint) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = endpoint.receive_maximum
    if endpoint.max_packet_bytes is not None:
        properties.MaximumPacketSize = endpoint.max_packet_bytes
    return properties
