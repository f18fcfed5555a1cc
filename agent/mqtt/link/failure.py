"""ConnectFailure: why a connection to the broker failed, and what to do."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paho.mqtt.client import WebsocketConnectionError

if TYPE_CHECKING:
    from agent.mqtt.link.endpoint import Endpoint
    from agent.security.tls import Tls

# Values of X509_V_ERR_… in OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64

# MQTT 5's names of these reasons
NO_RETAIN, NO_QOS_1 = "Retain not supported", "QoS not supported"

_OTHER_PORT = "Correct mqtt.port (usually 8883 for TLS), or set mqtt.tls to false."
_OTHER_PATH = "Correct mqtt.websocket_path and mqtt.port, or remove mqtt.websocket_path."


_CREDENTIALS = (
    "Correct mqtt.username and mqtt.password_file (for the service: /etc/edge-agent/mqtt_password) and restart the "
    "agent, or give this user access on the broker."
)
_REMEDIES = {
    "Bad user name or password": _CREDENTIALS,
    "Not authorized": _CREDENTIALS,
    "Client identifier not valid": "Set another mqtt.client_id.",
    "Session taken over": "Another client uses the same mqtt.client_id. Give each device its own device.id.",
    NO_RETAIN: "Allow retained messages on the broker.",
    NO_QOS_1: "Allow QoS 1 on the broker.",
    "Shared subscription not supported": "Remove mqtt.shared_classify from the configuration.",
}


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """`what` the broker does and `why`. `refused` if this lasts until someone changes a certificate."""

    what: str
    why: str | None
    remedy: str
    refused: bool = False


def sentence(
    endpoint: Endpoint, what: str, why: str | None, remedy: str | None = None, *, otherwise: str | None = None
) -> str:
    """Says what the broker does, why, and what to do: `remedy`, or the known remedy for `why`, or `otherwise`."""
    cause = f": {why}" if why else ""
    fact = f"The MQTT broker at {endpoint.address} {what}{cause}."
    remedy = remedy or _REMEDIES.get(why or "", otherwise)
    return f"{fact} {remedy}" if remedy else fact


def unanswered(endpoint: Endpoint, what: str) -> str:
    """The sentence for a broker that does not answer the CONNECT."""
    kind = "without" if endpoint.tls is None else "with"
    remedy = f"Check that it is running and that mqtt.port is its port for MQTT {kind} TLS."
    return sentence(endpoint, what, None, remedy)


def connect_failure(error: BaseException, endpoint: Endpoint) -> ConnectFailure:
    if isinstance(error, WebsocketConnectionError):
        return ConnectFailure("does not accept WebSockets on this port", str(error), _OTHER_PATH)
    if not isinstance(error, OSError):
        return ConnectFailure("does not speak MQTT", repr(error), "Correct mqtt.host and mqtt.port.")
    if endpoint.tls is not None and (found := _tls_failure(error, endpoint.tls)) is not None:
        return found
    cause = error.strerror or str(error)
    return ConnectFailure("cannot be reached", cause, "Start it, or correct mqtt.host and mqtt.port.")


def _tls_failure(error: OSError, tls: Tls) -> ConnectFailure | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = _remedy_for(error.verify_code)
        return ConnectFailure("is not trusted", error.verify_message.rstrip("."), remedy, refused=True)
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or ""
    if "ALERT_" in reason:
        return _refusal(reason.partition("ALERT_")[2].replace("_", " ").lower(), tls)
    if reason == "UNSUPPORTED_PROTOCOL":
        return _refusal("protocol version", tls)
    if isinstance(error, ssl.SSLError | ConnectionResetError) or "handshake" in str(error):
        return ConnectFailure("does not accept TLS on this port", None, _OTHER_PORT)
    return None


def _remedy_for(code: int) -> str:
    if code == _EXPIRED:
        return "Renew the broker's certificate, or correct this device's clock."
    if code == _NOT_YET_VALID:
        return "Correct this device's clock."
    if code in {_OTHER_NAME, _OTHER_ADDRESS}:
        return "Set mqtt.host to a name that is in the broker's certificate, or issue a certificate for this name."
    return "Set mqtt.ca_file to the certificate of the authority that signed the broker's certificate."


def _refusal(alert: str, tls: Tls) -> ConnectFailure:
    """`alert` is the name of the TLS alert in RFC 8446, section 6."""
    what = "refuses this agent"
    if alert == "protocol version":
        return ConnectFailure(
            what, "it does not support TLS 1.2 or newer", "Update the broker, or enable TLS 1.2 there.", refused=True
        )
    if tls.cert_file is None:
        remedy = "The broker requires a client certificate. Set mqtt.cert_file and mqtt.key_file."
    elif alert == "certificate expired":
        remedy = "Renew mqtt.cert_file, or correct the broker's clock."
    else:
        remedy = "Set mqtt.cert_file to a certificate signed by an authority that the broker trusts."
    return ConnectFailure(what, alert, remedy, refused=True)
