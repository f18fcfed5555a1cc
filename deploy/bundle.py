"""Builds a bundle: one tar file with everything that install.sh needs on a device without internet.

Usage: bundle.py MACHINE PYTHON, for example `bundle.py aarch64 3.11`.
Writes dist/edge-agent-<version>-<machine>-py311.tar.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
LOCK = REPOSITORY / "locks/device.txt"
# The glibc versions (2.x) that wheels may need: up to 2.35, which Ubuntu 22.04 and JetPack 6 have.
_GLIBC = [*range(35, 16, -1)]
_PARTS = [
    "deploy/systemd",
    "locks/device.txt",
    "locks/tensorflow.txt",
    "configs/agent.yaml",
    "pyproject.toml",
    "LICENSE",
]
_PARTS += ["README.md", "CHANGELOG.md", "docs", "demo/digits.tflite", "demo/digit.jpg"]


def main() -> None:
    machine, python = sys.argv[1:]
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    name = f"edge-agent-{version[1]}-{machine}-py{python.replace('.', '')}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, name)
        for part in _PARTS:
            _copy(REPOSITORY / part, folder / part)
        (folder / "for").write_text(f"{machine} {python}\n")
        requirements = Path(temporary, "requirements.txt")
        requirements.write_text(pins_for(machine, python, LOCK.read_text()))
        _download(requirements, folder / "wheels", machine, python)
        _build_own(folder / "wheels", Path(temporary, "source"))
        archive = REPOSITORY / "dist" / f"{name}.tar"
        archive.parent.mkdir(exist_ok=True)
        with tarfile.open(archive, "w") as tar:  # wheels are compressed already
            tar.add(folder, name)
    print(f"{archive.relative_to(REPOSITORY)}: {archive.stat().st_size >> 20} MB")


def pins_for(machine: str, python: str, lock: str) -> str:
    """The pins that apply to that machine and Python, without markers: pip would evaluate them for its own Python."""
    target = {
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    pins = []
    for entry in re.findall(r"^[a-z0-9](?:.*\\\n)*.*$", lock, re.MULTILINE):
        pin, *hashes = re.split(r" \\\n\s*", entry)
        requirement = Requirement(pin)
        if requirement.marker is None or requirement.marker.evaluate(target):
            pins.append(" \\\n".join([f"{requirement.name}{requirement.specifier}", *hashes]))
    return "\n".join(pins) + "\n"


def _download(requirements: Path, wheels: Path, machine: str, python: str) -> None:
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC] + [f"manylinux2014_{machine}"]
    if machine == "x86_64":
        platforms += ["manylinux_2_5_x86_64", "manylinux1_x86_64", "manylinux2010_x86_64"]
    options = [word for platform in platforms for word in ("--platform", platform)]
    selection = ["--dest", str(wheels), "--python-version", python, "--implementation", "cp", "--only-binary", ":all:"]
    _pip("download", "--no-deps", *selection, *options, "--require-hashes", "-r", str(requirements))


def _build_own(wheels: Path, source: Path) -> None:
    """Builds from a copy, since setuptools leaves folders behind. The same sources give the same wheel."""
    os.environ["SOURCE_DATE_EPOCH"] = "315532800"  # 1980: the earliest date that zip can store
    for part in ("agent", "converter", "pyproject.toml", "README.md", "LICENSE"):
        _copy(REPOSITORY / part, source / part)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source))


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "reference_generator"))
    else:
        shutil.copy(source, target)


if __name__ == "__main__":
    main()
