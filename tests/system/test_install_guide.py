"""Runs every command of the pages about an installed service, as a user with sudo, on a Debian with a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from documents import ON_A_BOARD, blocks, configuration, lines_not_printed
from system.bed import booted_bed
from system.packages import package_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.bed import Bed

_CONFIGURATION = "/etc/edge-agent/agent.yaml"
_MODELS = "/var/lib/edge-agent/models"
# Where the user runs the commands of a page; elsewhere it is /mnt/good, which is read-only.
_FOLDERS = {"access.md": "/home/ann", "https.md": "/home/ann", "sign.md": "/home/ann", "upgrade.md": "/mnt/next"}
# The converter's own environment is not on the board; keygen and sign do not need it.
_CONVERTER = ".venv-converter/bin/edge-convert"

# What a page takes for granted, as commands of the user.
_PREPARED = {
    "access.md": ["cp /mnt/good/demo/digit.jpg photo.jpg"],
    "sign.md": ["cp /mnt/good/demo/digits.tflite birds.tflite", "echo wren >password"],
    "fix-problems.md": [f"echo no model >{_MODELS}/birds.tflite"],
}
# What a reader waits for before the next command.
_AWAITED = {
    f"cp demo/digits.tflite {_MODELS}/": "edge-agent models list | grep digits.*probation",
    f"cp birds.tflite.minisig birds.tflite {_MODELS}/": "edge-agent models list | grep birds.*probation",
    "systemctl restart edge-agent": (
        'sleep 1; curl -sS http://127.0.0.1:8501/readyz | grep -E "connected|:true}" || '
        'curl -sSk https://127.0.0.1:8501/readyz | grep -E "connected|:true}"'
    ),
}


@pytest.mark.timeout(900)
def test_documented_commands_print_the_documented_output(tmp_path: Path) -> None:
    with booted_bed("trixie", tmp_path) as bed:
        bed.run("useradd --create-home --groups adm ann; echo 'ann ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ann")
        bed.run("echo 'APT::Get::Assume-Yes \"true\";' >/etc/apt/apt.conf.d/assume-yes")  # a user would confirm
        bed.run("hostname pi-1; echo '127.0.0.1 pi-1 broker.local' >>/etc/hosts")
        package = package_of(tmp_path / "material/good", "0.1.0")
        package.rename(tmp_path / "material/good" / package.name)
        assert [missing for page in ON_A_BOARD for missing in _follow(bed, page)] == []


def _follow(bed: Bed, page: Path) -> Iterator[str]:
    """Runs the page's commands; yields each documented line that they do not print."""
    for command in _PREPARED.get(page.name, []):
        _as_user(bed, page, command)
    if page.name == "fix-problems.md":
        bed.wait_for(f"test -e {_MODELS}/birds.tflite.rejected.txt")
    before = bed.run(f"cat {_CONFIGURATION} 2>/dev/null || true")
    output = ""
    for block in blocks(page):
        if (addition := configuration(block)) is not None:
            _configure(bed, yaml.safe_load(addition))
        elif block.kind == "text" and output:
            yield from (f"{page.name}: {line}" for line in lines_not_printed(block, output))
        elif block.kind == "sh":
            output = "\n".join(_run(bed, page, line) for line in block.lines)
    if before and bed.run(f"cat {_CONFIGURATION} 2>/dev/null || true") not in ("", before):
        _write(bed, before)
        bed.run("systemctl restart edge-agent")


def _run(bed: Bed, page: Path, command: str) -> str:
    output = _as_user(bed, page, command.replace(_CONVERTER, "/opt/edge-agent/current/bin/edge-convert"))
    print(f"$ {command}\n{output}")  # pytest -s shows what the pages can quote
    assert '"error"' not in output, command
    for part, condition in _AWAITED.items():
        if part in command:
            bed.wait_for(condition)
    return output


def _as_user(bed: Bed, page: Path, command: str) -> str:
    quoted = f"cd {_FOLDERS.get(page.name, '/mnt/good')}; {command}".replace("'", "'\\''")
    return bed.run(f"runuser --login ann --command '{quoted}'")


def _configure(bed: Bed, addition: dict[str, dict[str, Any]]) -> None:
    """Adds keys to the sections of the configuration."""
    document = yaml.safe_load(bed.run(f"cat {_CONFIGURATION}"))
    for name, section in addition.items():
        document[name] = {**(document.get(name) or {}), **section}
    for camera in document["cameras"].values():
        camera.update(source="/mnt/good/demo", loop=True)  # a folder with an image: no camera is plugged in
    _write(bed, yaml.safe_dump(document))


def _write(bed: Bed, text: str) -> None:
    bed.run(f"cat >{_CONFIGURATION} <<'END'\n{text}\nEND")
