"""Unpacks the bundle that `make bundle` built, and makes defective versions of it and a checkout."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

from agents.running_agent import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FAILS = 'raise SystemExit("this version is broken")\n'
# Becomes ready, and exits about a second later.
_DIES = """
import threading as _threading
_threading.Timer(1.5, lambda: os._exit(7)).start()
"""


def unpack_material(python: str, folder: Path, machine: str = platform.machine()) -> Path:
    """Creates a folder with the bundles `good`, `next` (a newer working version), `fails` and `dies` (defective).

    `checkout` is a third working version, and `index` has the wheels that it would download.
    Raises FileNotFoundError if no bundle for that machine and that Python was built.
    """
    material = folder / "material"
    with tarfile.open(bundle_file(python, machine)) as tar:
        name = tar.getnames()[0]
        tar.extractall(material)
    (material / name).rename(material / "good")
    for version in ("next", "fails", "dies"):
        shutil.copytree(material / "good", material / version, copy_function=os.link)
        _append(material / version / "configs/agent.yaml", f"# Of {version}.\n")
    _spoil(material / "fails", lambda source: source + _FAILS)
    _spoil(material / "dies", lambda source: source + _DIES)
    _check_out(material / "checkout")
    shutil.copytree(material / "good/wheels", material / "index", copy_function=os.link)
    fetch_builder(material / "index")
    return material


def fetch_builder(folder: Path) -> None:
    """Downloads the wheels needed to build the project's own wheel."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
    subprocess.run([*pip, "--require-hashes", "--dest", folder, "-r", ROOT / "locks/build.txt"], check=True)


def _check_out(folder: Path) -> None:
    """Copies the working tree without ignored files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    for name in listed.stdout.decode().split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def bundle_file(python: str, machine: str = platform.machine()) -> Path:
    """Raises FileNotFoundError, as unpack_material does."""
    pattern = f"edge-agent-*-{machine}-py{python.replace('.', '')}.tar"
    found = sorted((ROOT / "dist").glob(pattern))
    if not found:
        raise FileNotFoundError(pattern)
    return found[-1]


def _append(path: Path, more: str) -> None:
    """Appends to a new file, because the other bundles share the old one by hard link."""
    text = path.read_text() + more
    path.unlink()
    path.write_text(text)


def _spoil(bundle: Path, change: Callable[[str], str]) -> None:
    """Changes agent/service.py in the bundle's wheel."""
    (path,) = (bundle / "wheels").glob("edge_agent-*.whl")
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    files["agent/service.py"] = change(files["agent/service.py"].decode()).encode()
    path.unlink()
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
