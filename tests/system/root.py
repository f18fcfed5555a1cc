"""Root folders: minimal Debian or Ubuntu systems with systemd, Python and mosquitto, kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from documents import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())  # Debian's name
# qemu emulates the vector units of its default processor incorrectly: int8 models then give wrong results silently.
EMULATION = {"QEMU_CPU": "cortex-a72"}

_PACKAGES = (
    "systemd systemd-sysv dbus libpam-systemd python3 python3-venv procps iproute2 sudo curl ca-certificates "
    "mosquitto mosquitto-clients"
).replace(" ", ",")
_DEBIAN = ("main", "http://deb.debian.org/debian")
_MACHINE_PACKAGES = "linux-image-{} initramfs-tools kmod udev"
# debootstrap does not verify Ubuntu's signatures without its keyring, which Debian 12 does not have.
_OTHERS = {"jammy": ("main,universe", "http://archive.ubuntu.com/ubuntu")}


def missing_for_bed(architecture: str = HOST) -> str | None:
    """What this machine lacks for containers and how to get it; None if it lacks nothing."""
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt install {package}"
    if architecture != HOST and not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        return (
            f"this machine cannot run {architecture} programs: apt install qemu-user-static binfmt-support, then "
            "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; update-binfmts --enable qemu-aarch64"
        )
    return None if os.geteuid() == 0 else "creating containers needs root"


def skip_or_fail(reason: str) -> NoReturn:
    """Skips the test; in CI, which must run every test, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run every test, but {reason}")
    pytest.skip(reason)


def system_root(suite: str, architecture: str = HOST, packages: str = _PACKAGES) -> Path:
    """The first call takes minutes and needs a network. Raises CalledProcessError if the root cannot be created."""
    foreign = "" if architecture == HOST else f"{architecture}-"
    name = f"{suite}-{foreign}{_digest(packages)}"
    return _kept(name, lambda new: _debootstrap(suite, architecture, packages, new))


def machine_root(suite: str, architecture: str = HOST) -> Path:
    """Like system_root, with a kernel and camera modules; the first call takes two minutes more."""
    system, packages = system_root(suite, architecture), _MACHINE_PACKAGES.format(architecture)
    name = f"{system.name}-machine-{_digest(packages)}"
    return _kept(name, lambda new: _add_kernel(system, packages, new))


def tensorflow_wheels() -> Path:
    """The packages of locks/tensorflow.txt for this Python; the first call loads 600 MB."""
    lock = REPOSITORY / "locks/tensorflow.txt"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]

    def download(new: Path) -> None:
        subprocess.run([*pip, "--only-binary", ":all:", "--require-hashes", "--dest", new, "-r", lock], check=True)

    return _kept(f"tensorflow-{_digest(lock.read_text())}-py{sys.version_info[0]}{sys.version_info[1]}", download)


def cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "edge-agent-beds"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """Test processes that need the same root wait for the one that makes it."""
    root = cache() / name
    with (cache() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=cache(), prefix=".") as temporary:  # an incomplete root is never used
                new = Path(temporary, "root")
                make(new)
                new.rename(root)
    return root


def _debootstrap(suite: str, architecture: str, packages: str, new: Path) -> None:
    components, mirror = _OTHERS.get(suite, _DEBIAN)
    options = [f"--arch={architecture}", "--variant=minbase", f"--components={components}"]
    options += [f"--include={packages}"] if packages else []
    command = ["debootstrap", *options, suite, str(new), mirror]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **EMULATION})
    shutil.rmtree(new / "var/cache/apt/archives")
    (new / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")  # as Debian's installer does


def _add_kernel(system: Path, packages: str, new: Path) -> None:
    subprocess.run(["cp", "-a", system, new], check=True)
    shutil.copy("/etc/resolv.conf", new / "etc/resolv.conf")
    modules = new / "etc/initramfs-tools/conf.d/machine"
    modules.parent.mkdir(parents=True)
    modules.write_text("MODULES=list\n")  # only those for qemu's disk: unpacking all of them (30 MB) takes seconds
    (modules.parents[1] / "modules").write_text("virtio_pci\nvirtio_blk\next4\n")
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages.split()], ["clean"]):
        subprocess.run(
            ["chroot", new, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # debconf warns about the missing terminal
            env={**os.environ, **EMULATION},
        )


def _digest(packages: str) -> str:
    return hashlib.sha256(packages.encode()).hexdigest()[:8]
