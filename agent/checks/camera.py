"""Camera: whether it can be got at from here."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from agent.checks.finding import Finding, fault, ok, warning

_PATIENCE_S = 5.0
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def check_camera(name: str, source: str) -> Finding:
    """Opens nothing: a camera that the agent has open cannot be opened again."""
    about = f"camera {name}"
    if "://" in source:
        return _check_stream(about, source)
    path = Path(f"/dev/video{source}" if source.isdecimal() else source)
    if not os.path.exists(path):  # noqa: PTH110  (Path raises for a closed folder)
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
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        reason = getattr(error, "strerror", None) or str(error)
        return fault(about, f"{host}:{port} does not answer: {reason}.", "Switch it on; correct its source.")
    return ok(about, f"{host}:{port} answers")
