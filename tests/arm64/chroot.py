"""Chroot: an arm64 Debian whose programs run under qemu user emulation, without systemd or its own kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from system.bed import Bed
from system.root import EMULATION

if TYPE_CHECKING:
    from pathlib import Path

# Otherwise LiteRT reads the host's processor from /proc/cpuinfo, uses its features, and crashes.
_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


class Chroot(Bed):
    """`material` is mounted read-only as /mnt."""

    ENVIRONMENT = EMULATION
    HAS_STARTED = "mount --bind /mnt/cpuinfo /proc/cpuinfo"

    def __init__(self, root: Path, material: Path, log: Path) -> None:
        super().__init__(root, material, log)
        (material / "cpuinfo").write_text(_CPUINFO)
        self._command.remove("--boot")
        self._command += ["--as-pid2", "sleep", "infinity"]
