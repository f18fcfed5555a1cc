"""Builds Debian packages from bundles with deploy/debian/build.sh."""

from __future__ import annotations

import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

from agents.running_agent import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_SCRIPT = ROOT / "deploy/debian/build.sh"


def package_of(bundle: Path, number: str) -> Path:
    """Builds the package, with that version number, next to the folder of the bundle."""
    project = bundle / "pyproject.toml"
    text = re.sub('(?m)^version = ".*"', f'version = "{number}"', project.read_text())
    project.unlink()  # other bundles may share the file by hard link
    project.write_text(text)
    archive = bundle.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(bundle, bundle.name)
    output = subprocess.run([_SCRIPT, archive], check=True, stdout=subprocess.PIPE, text=True).stdout
    archive.unlink()
    return bundle.with_name(output.partition(":")[0])
