"""Runs every command of docs/tutorial/first-label.md in order, as a user with sudo, on a Debian with a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from documents import REPOSITORY, commands
from system.bed import booted_bed
from system.packages import package_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(600)
def test_every_command_of_the_guide_works(tmp_path: Path) -> None:
    with booted_bed("trixie", tmp_path) as bed:
        bed.run("useradd --create-home --groups adm ann; echo 'ann ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ann")
        bed.run("echo 'APT::Get::Assume-Yes \"true\";' >/etc/apt/apt.conf.d/assume-yes")  # a user would confirm
        package = package_of(tmp_path / "material/good", "0.1.0")
        package.rename(tmp_path / "material/good" / package.name)
        for command in commands(REPOSITORY / "docs/tutorial/first-label.md"):
            quoted = f"cd /mnt/good; {command}".replace("'", "'\\''")
            output = bed.run(f"runuser --login ann --command '{quoted}'")
            assert '"error"' not in output, command
            if "cp demo" in command:  # a user would be slower than the swap
                bed.wait_for("curl -sS http://127.0.0.1:8501/v1/models/digits | grep AVAILABLE")
