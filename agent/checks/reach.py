"""Reach: whether the broker and the cameras can be got at from here."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.checks.finding import Finding, fault, ok, warning

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_S = 5.0
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def check_broker(host: str, port: int, tls: Callable[[], ssl.SSLContext] | None) -> Finding:
    """As far as TLS; what the broker says of name and password, the running agent tells."""
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=_PATIENCE_S) as connection:
            if tls is not None:
                tls().wrap_socket(connection, server_hostname=host).close()
    except socket.gaierror:
        return fault("broker", f"The name {host} is not known.", "Correct mqtt.host, or give the broker's address.")
    except ssl.SSLCertVerificationError as error:
        return fault("broker", f"{where}: {error.verify_message}.", "Correct mqtt.ca_file, the host name or the clock.")
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        return fault(
            "broker", f"{where} does not answer: {reason}.", "Start the broker; correct mqtt.host and mqtt.port."
        )
    return ok("broker", f"{where} answers{' over TLS' if tls else ''}")


def check_camera(name: str, source: str) -> Finding:
    """Opens nothing: a camera that the agent has open cannot be opened again."""
    about = f"camera {name}"
    if "://" in source:
        return _check_stream(about, source)
    path = Path(f"/dev/video{source}" if source.isdecimal() else source)
    if not path.exists():
        return fault(about, f"There is no {path}.", "Plug it in; v4l2-ctl --list-devices shows what is there.")
    if path.is_char_device() and not os.access(path, os.R_OK | os.W_OK):
        return fault(
            about, f"{path} may not be opened by this user.", "sudo usermod -aG video $USER, then log in again."
        )
    if not os.access(path, os.R_OK):
        return fault(about, f"{path} may not be read by this user.", f"sudo chmod a+r {path}")
    return ok(about, f"{path} is there")


def _check_stream(about: str, source: str) -> Finding:
    parts = urlsplit(source)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    if not host or not port:
        return warning(about, "Its address has no host or port that could be tried.", "Correct its source.")
    try:
        socket.create_connection((host, port), timeout=_PATIENCE_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        return fault(about, f"{host}:{port} does not answer: {reason}.", "Switch it on; correct its source.")
    return ok(about, f"{host}:{port} answers")
