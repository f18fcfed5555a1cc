"""PahoClient: a paho client and the thread that runs it, for one network connection."""

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
    from agent.mqtt.message import MqttVersion

_PAHO_VERSIONS = {5: MQTTProtocolVersion.MQTTv5, 311: MQTTProtocolVersion.MQTTv311}


@dataclass(frozen=True, slots=True)
class End:
    """`error` is what paho or the socket raised, `told` what an MQTT 5 broker said before it hung up.

    It is `silent` if an idle broker gave no sign of life.
    """

    error: BaseException | None
    told: str | None
    silent: bool


class PahoClient:
    """Connects once run() is called; paho's callbacks come in its thread. All else is for other threads.

    paho's own reconnecting can neither change the MQTT version nor wait longer after a refusal, and it would
    send again what the outbox sends again as well. paho's own thread dies without a word of bytes it cannot read.
    """

    def __init__(self, endpoint: Endpoint, *, version: MqttVersion) -> None:
        self._endpoint = endpoint
        self._abandoned = self._unwanted = False
        self._told: str | None = None
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
        self._configure(_bounds(endpoint) if version == 5 else None)

    def run(self, *, on_open: Callable[[], None], on_end: Callable[[End], None]) -> None:
        """Returns at once. `on_open` comes in the thread when there is a connection, `on_end` when it is closed."""
        threading.Thread(target=self._run, args=(on_open, on_end), name="mqtt", daemon=True).start()

    def disconnect(self) -> None:
        """Sends a DISCONNECT, if there is a connection, and ends."""
        self._unwanted = True
        self.client.disconnect()

    def abandon(self) -> None:
        """Ends as soon as the thread looks, whatever the broker does; a host that does not answer may hold it up."""
        self._unwanted = self._abandoned = True

    def forget_callbacks(self) -> None:
        """Out of the cycle with its listener the paho client is freed with its thread, and closes what it has open."""
        client = self.client
        client.on_connect = client.on_publish = client.on_disconnect = None
        client.on_message = client.on_subscribe = client.on_unsubscribe = None

    def _configure(self, bounds: Properties | None) -> None:
        client, endpoint = self.client, self._endpoint
        client.max_inflight_messages_set(0)  # the window is the publisher's: paho shall hold nothing back
        client.username_pw_set(endpoint.username, endpoint.password)
        client.will_set(endpoint.will.topic, endpoint.will.payload, qos=1, retain=True)
        if endpoint.websocket_path is not None:
            client.ws_set_options(path=endpoint.websocket_path)
        client.connect_async(endpoint.host, endpoint.port, self._ping_after_s, properties=bounds)
        client.on_disconnect = self._disconnected
        client.on_socket_register_write = _leave_writing_to_the_thread

    @property
    def _ping_after_s(self) -> int:
        """After this time an idle link is asked for a sign of life, and after twice as long paho gives it up.

        So six tenths leave three for the ticks of its clock, and it is known within one and a half keep-alives. An
        MQTT 5 broker may demand another keep-alive, and then it takes twice that.
        """
        return max(1, int(0.6 * self._endpoint.keepalive_s))

    def _run(self, on_open: Callable[[], None], on_end: Callable[[End], None]) -> None:
        self.client.enable_logger(_logger_to(self._note_error))
        try:
            self._converse(on_open)
        except Exception as error:  # noqa: BLE001  (paho reads trustingly, and may raise anything on what is no MQTT)
            self._error = error
        if (sock := self.client.socket()) is not None:
            sock.close()
        self.client.disable_logger()
        # A traceback would hold on to the client, and so to its sockets.
        bare = None if self._error is None else self._error.with_traceback(None)
        on_end(End(bare, self._told, self._silent))

    def _converse(self, on_open: Callable[[], None]) -> None:
        """Certificates are read anew each time: renewed ones count without a restart."""
        if self._endpoint.tls is not None:
            self.client.tls_set_context(self._endpoint.tls.context())
        self.client.reconnect()
        if self._unwanted:  # since it waited for the network: paho has forgotten it
            return
        on_open()
        if self._endpoint.websocket_path is not None:
            _mend_send(self.client.socket())
        tick_s = min(1.0, self._ping_after_s / 8)
        while not self._abandoned and self.client.loop(tick_s) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass

    def _disconnected(
        self, _client: Client, _userdata: object, flags: DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._told = str(reason)
        else:
            self._silent = reason == "Keep alive timeout"

    def _note_error(self, record: logging.LogRecord) -> bool:
        """Paho tells why a connection broke to its log only: so TLS 1.3 says that it wants another certificate."""
        for argument in record.args or ():
            if isinstance(argument, BaseException):
                self._error = argument
        return False


def _mend_send(sock: Any) -> None:
    """Over WebSockets paho says 0 for a packet that has left in part only, and then forgets what it was sending."""
    send = sock.send

    def send_or_wait(data: bytes) -> int:
        sent: int = send(data)
        if sent == 0:
            raise BlockingIOError
        return sent

    sock.send = send_or_wait


def _logger_to(take: Callable[[logging.LogRecord], bool]) -> logging.Logger:
    """One of nobody else."""
    logger = logging.Logger("paho", logging.ERROR)  # noqa: LOG001
    logger.addFilter(take)
    return logger


def _leave_writing_to_the_thread(_client: Client, _userdata: object, _socket: object) -> None:
    """Without it paho, which knows of no thread but its own, would write in that of the caller."""


def _bounds(endpoint: Endpoint) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = endpoint.receive_maximum
    if endpoint.max_packet_bytes is not None:
        properties.MaximumPacketSize = endpoint.max_packet_bytes
    return properties
