"""Root: a minimal Debian or Ubuntu with systemd, Python and mosquitto, made once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_PACKAGES = (
    "systemd systemd-sysv dbus libpam-systemd python3 python3-venv procps iproute2 sudo curl ca-certificates "
    "mosquitto mosquitto-clients"
).replace(" ", ",")
_DEBIAN = ("main", "http://deb.debian.org/debian")
_OF_A_MACHINE = "linux-image-amd64 initramfs-tools kmod udev"
# debootstrap checks no signature of Ubuntu's unless its keyring is there, which Debian 12 does not have.
_OTHERS = {"jammy": ("main,universe", "http://archive.ubuntu.com/ubuntu")}


def why_there_is_no_bed() -> str | None:
    """What this machine lacks for real containers, in a sentence; None where it lacks nothing."""
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt install {package}"
    return None if os.geteuid() == 0 else "containers are made by root"


def give_up(reason: str) -> NoReturn:
    """Skips the test; in CI, which must run every one, it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run every test, and {reason}")
    pytest.skip(reason)


def system_root(suite: str, packages: str = _PACKAGES) -> Path:
    """Takes minutes and a network at the first call. Raises CalledProcessError where it cannot be made."""
    return _kept(f"{suite}-{_digest(packages)}", lambda new: _debootstrap(suite, packages, new))


def machine_root(suite: str) -> Path:
    """The same with a kernel of its own and the modules of cameras; two minutes more at the first call."""
    of_a_system = system_root(suite)
    return _kept(f"{of_a_system.name}-machine-{_digest(_OF_A_MACHINE)}", lambda new: _add_kernel(of_a_system, new))


def cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "edge-agent-beds"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    root = cache() / name
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=cache(), prefix=".") as aside:  # a half-made one is never taken for whole
            new = Path(aside, "root")
            make(new)
            new.rename(root)
    return root


def _debootstrap(suite: str, packages: str, new: Path) -> None:
    components, mirror = _OTHERS.get(suite, _DEBIAN)
    options = ["--variant=minbase", f"--components={components}", f"--include={packages}"]
    subprocess.run(["debootstrap", *options, suite, str(new), mirror], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(new / "var/cache/apt/archives")
    (new / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")  # as Debian's installer does


def _add_kernel(of_a_system: Path, new: Path) -> None:
    subprocess.run(["cp", "-a", of_a_system, new], check=True)
    shutil.copy("/etc/resolv.conf", new / "etc/resolv.conf")
    modules = new / "etc/initramfs-tools/conf.d/machine"
    modules.parent.mkdir(parents=True)
    modules.write_text("MODULES=list\n")  # those of qemu's disk; all of them are 30 MB, which take seconds to unpack
    (modules.parents[1] / "modules").write_text("virtio_pci\nvirtio_blk\next4\n")
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *_OF_A_MACHINE.split()], ["clean"]):
        subprocess.run(
            ["chroot", new, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # debconf's complaints of a missing terminal
        )


def _digest(packages: str) -> str:
    return hashlib.sha256(packages.encode()).hexdigest()[:8]
