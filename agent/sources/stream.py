"""Stream: an RTSP or HTTP camera on the network, and the reason if it cannot be reached."""

from __future__ import annotations

import os
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import cv2

from agent.errors import SourceError

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


class Stream:
    """An RTSP or HTTP stream, read by FFmpeg; lost if it sends nothing for `timeout_s`."""

    def __init__(self, url: str, *, timeout_s: float = 4.0) -> None:
        self.name = redact(url)
        self._url = url
        self._timeout_s = timeout_s
        # OpenCV reads this at every open. Over UDP, lost packets damage frames, and firewalls drop the stream.
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")

    def open(self) -> Any:
        """Raises SourceError; blocks for up to twice the timeout plus the time of the DNS lookup."""
        timeout_ms = int(self._timeout_s * 1000)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            raise SourceError(self.explain(opened=False))
        return capture

    def explain(self, *, opened: bool) -> str:
        """Opens a separate connection to find the reason, since OpenCV gives none."""
        if why := why_unreachable(self._url, timeout_s=self._timeout_s):
            return why
        if opened:
            return f"{self.name} stopped sending frames. If this persists, restart the camera."
        return f"{self.name} answers but sends no video. Check the path, user name and password in its URL."


def why_unreachable(url: str, *, timeout_s: float) -> str | None:
    """A sentence without the password; None if a server listens at `url`. Blocks."""
    name = redact(url)
    try:
        where = urlsplit(url)
        port = where.port or _PORTS.get(where.scheme)
        if not where.hostname or port is None:
            return _no_url(name)
        socket.create_connection((where.hostname, port), timeout_s).close()
    except ValueError:  # also UnicodeError, for a name that cannot be a host name
        return _no_url(name)
    except socket.gaierror:
        return f"{name}: the host name cannot be resolved. Correct it, or use the IP address."
    except OSError as error:
        return f"{name} does not answer ({error.strerror or error}). Check its power, network and port."
    return None


def _no_url(name: str) -> str:
    return f"{name} is not a valid URL. Use the form rtsp://user:password@host:port/path."


def redact(url: str) -> str:
    """The URL without user name, password and query, which may also hold a password; safe to show."""
    # Up to the last @, since a password may contain @, / and ? unescaped.
    return re.sub(r"\?.*", "?***", re.sub(r"://.*@", "://***@", url, flags=re.DOTALL), flags=re.DOTALL)
