"""Root: a minimal Debian or Ubuntu with systemd, Python and mosquitto, made once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_PACKAGES = (
    "systemd systemd-sysv dbus libpam-systemd python3 python3-venv procps iproute2 sudo curl ca-certificates "
    "mosquitto mosquitto-clients"
).replace(" ", ",")
_DEBIAN = ("main", "http://deb.debian.org/debian")
# debootstrap checks no signature of Ubuntu's unless its keyring is there, which Debian 12 does not have.
_OTHERS = {"jammy": ("main,universe", "http://archive.ubuntu.com/ubuntu")}


def why_there_is_no_bed() -> str | None:
    """What this machine lacks for real containers, in a sentence; None where it lacks nothing."""
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt install {package}"
    return None if os.geteuid() == 0 else "containers are made by root"


def system_root(suite: str) -> Path:
    """Takes minutes and a network at the first call. Raises CalledProcessError where it cannot be made."""
    name = f"{suite}-{hashlib.sha256(_PACKAGES.encode()).hexdigest()[:8]}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "edge-agent-beds"
    root = cache / name
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".") as aside:  # a half-made one is never taken for whole
            new = Path(aside, "root")
            components, mirror = _OTHERS.get(suite, _DEBIAN)
            options = ["--variant=minbase", f"--components={components}", f"--include={_PACKAGES}"]
            subprocess.run(["debootstrap", *options, suite, str(new), mirror], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(new / "var/cache/apt/archives")
            (new / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")  # as Debian's installer does
            new.rename(root)
    return root
