"""Image: a disk with Debian, a kernel, a root shell on TCP, and edge-agent installed by install.sh."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from system.bed import Bed
from system.bundles import unpack_material
from system.root import HOST, machine_root

SHELL_PORT = 2323

_PARTS = Path(__file__).with_name("guest")
_SIZE = "3G"
_FSTAB = "/dev/vda / ext4 errors=remount-ro 0 1\n"


@dataclass(frozen=True, slots=True)
class Image:
    """An ext4 file system in `disk`, with the kernel and initrd for `architecture` (Debian's name)."""

    disk: Path
    kernel: Path
    initrd: Path
    architecture: str


def make_image(folder: Path) -> Image:
    """Takes a minute; the first call takes several and needs a network.

    Raises FileNotFoundError if no bundle was built, CalledProcessError if the root cannot be created.
    """
    material = unpack_material("3.11", folder)
    root = _copy_root(folder, HOST)
    _install(root, material, folder / "install.log")
    shutil.rmtree(material)
    return _pack(root, folder, HOST)


def make_bare_image(folder: Path, architecture: str) -> Image:
    """Like make_image, without edge-agent."""
    return _pack(_copy_root(folder, architecture), folder, architecture)


def make_disk(content: Path, disk: Path, size: str) -> None:
    subprocess.run(["truncate", "--size", size, disk], check=True)
    # Otherwise ext4 writes after the first mount, which would be counted as the agent's writes.
    no_lazy_init = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", no_lazy_init, "-d", content, disk], check=True)


def _copy_root(folder: Path, architecture: str) -> Path:
    root = folder / "root"
    subprocess.run(["cp", "-a", machine_root("bookworm", architecture), root], check=True)
    shutil.copytree(_PARTS, root, dirs_exist_ok=True)
    (root / "etc/hostname").write_text("machine\n")
    with (root / "etc/hosts").open("a") as hosts:
        hosts.write("127.0.1.1 machine\n")
    subprocess.run(["systemctl", "--quiet", "--root", root, "enable", "shell.socket", "systemd-networkd"], check=True)
    return root


def _install(root: Path, material: Path, log: Path) -> None:
    """Runs install.sh in a container with the same root, since it takes minutes on an emulated processor."""
    with Bed(root, material, log, keep=True) as bed:
        bed.run("/mnt/good/deploy/systemd/install.sh --bundle /mnt/good")


def _pack(root: Path, folder: Path, architecture: str) -> Image:
    (root / "etc/fstab").write_text(_FSTAB)
    image = Image(folder / "disk.img", folder / "vmlinuz", folder / "initrd", architecture)
    make_disk(root, image.disk, _SIZE)
    shutil.copy(next(root.glob("boot/vmlinuz-*")), image.kernel)
    shutil.copy(next(root.glob("boot/initrd.img-*")), image.initrd)
    shutil.rmtree(root)
    return image
