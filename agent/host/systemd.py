"""systemd: reports the state of the service to the service manager, if there is one (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def notify(*lines: str) -> None:
    """Sends lines such as READY=1; does nothing if NOTIFY_SOCKET is not set or no process listens there."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux's abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(address)
            # A reason may quote text from outside, which must not become another line.
            sender.send("\n".join(line.replace("\n", " ") for line in lines).encode(errors="replace"))
        except OSError:
            return


def watchdog_period_s() -> float | None:
    """Half of the time after which systemd kills a silent service; None if its watchdog is off."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 2e6
