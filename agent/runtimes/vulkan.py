"""Vulkan: finds out, without loading it, whether this machine has a Vulkan driver, and which one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent.host.library import find_library

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Device files of GPUs: DRM, NVIDIA on PCs, NVIDIA on Jetsons, Arm's own driver, Qualcomm's, WSL.
_DEVICES = ("dri/render*", "nvidia[0-9]*", "nvhost-gpu", "nvgpu", "mali[0-9]*", "kgsl-3d*", "dxg")
# Where the loader looks (github.com/KhronosGroup/Vulkan-Loader, docs/LoaderDriverInterface.md).
_NAMED = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
_FOLDERS = ("/usr/local/etc", "/etc", "/usr/local/share", "/usr/share")


def find_driver(environment: Mapping[str, str] = os.environ, *, root: Path = Path("/")) -> str | None:
    """A text that changes with the drivers, their versions, the kernel and the rights of this process.

    None without a driver, and without a device that this process may open. A driver that the environment names needs no
    device: it may compute on the CPU. Reads a few small files.
    """
    named = next((environment[name] for name in _NAMED if environment.get(name)), None)
    manifests = _named(named) if named else _installed(environment, root)
    drivers = sorted(facts for path in manifests if (facts := _driver(path, root)))
    devices = _devices(root)
    if not drivers or not (named or devices):
        return None
    found = json.dumps([drivers, devices, os.uname().release, sorted(os.getgroups())])
    return hashlib.sha256(found.encode()).hexdigest()[:16]


def _devices(root: Path) -> list[str]:
    found = (path for pattern in _DEVICES for path in (root / "dev").glob(pattern))
    return sorted(path.name for path in found if os.access(path, os.R_OK | os.W_OK))


def _named(value: str) -> Iterator[Path]:
    for path in map(Path, value.split(os.pathsep)):
        yield from path.glob("*.json") if path.is_dir() else (path,)


def _installed(environment: Mapping[str, str], root: Path) -> Iterator[Path]:
    folders = [*environment.get("XDG_DATA_DIRS", "").split(os.pathsep), *_FOLDERS]
    for folder in dict.fromkeys(filter(None, folders)):
        yield from (root / folder.lstrip("/") / "vulkan" / "icd.d").glob("*.json")


def _driver(manifest: Path, root: Path) -> list[str | int] | None:
    """The library and what changes with its version; None if the manifest is unreadable or the library is missing."""
    try:
        library = json.loads(manifest.read_bytes())["ICD"]["library_path"]
        path = _library(str(library), manifest, root)
        status = path.stat()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [str(path), status.st_size, status.st_mtime_ns]


def _library(name: str, manifest: Path, root: Path) -> Path:
    """Relative to the manifest, unless it is only a name, which the dynamic linker looks up."""
    if "/" in name:
        return manifest.parent / name
    return find_library(name, root=root) or manifest  # somewhere else: the manifest stands for it
