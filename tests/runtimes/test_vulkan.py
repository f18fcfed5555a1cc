"""The search for Vulkan drivers in folders that look like those of a device."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from agent.host.library import find_library
from agent.runtimes.vulkan import find_driver

if TYPE_CHECKING:
    from pathlib import Path


def install(root: Path, *, library: str = "libvulkan_broadcom.so", version: bytes = b"23.2") -> Path:
    """A driver as Debian's mesa-vulkan-drivers installs it; returns its manifest."""
    file = root / "usr/lib/aarch64-linux-gnu" / library.rpartition("/")[2]
    manifest = root / "usr/share/vulkan/icd.d/broadcom_icd.json"
    for path in (file, manifest):
        path.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(version)
    manifest.write_text(json.dumps({"ICD": {"api_version": "1.2", "library_path": library}}))
    return manifest


def plug_in(root: Path, device: str = "dri/renderD128") -> None:
    path = root / "dev" / device
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_driver_with_a_device_is_found_and_changes_with_its_version(tmp_path: Path) -> None:
    plug_in(tmp_path)
    install(tmp_path)
    before = find_driver({}, root=tmp_path)
    assert before is not None
    assert find_driver({}, root=tmp_path) == before
    install(tmp_path, version=b"24.1.1")
    assert find_driver({}, root=tmp_path) not in (None, before)


@pytest.mark.parametrize("device", ["nvidia0", "nvhost-gpu", "mali0", "dri/renderD129"])
def test_devices_of_several_makers_count(tmp_path: Path, device: str) -> None:
    install(tmp_path)
    assert find_driver({}, root=tmp_path) is None
    plug_in(tmp_path, device)
    assert find_driver({}, root=tmp_path) is not None


def test_device_that_the_agent_may_not_open_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    plug_in(tmp_path)
    before = find_driver({}, root=tmp_path)
    monkeypatch.setattr("agent.runtimes.vulkan.os.getgroups", lambda: [104])  # of a drop-in of the service
    assert find_driver({}, root=tmp_path) not in (None, before)
    monkeypatch.setattr("agent.runtimes.vulkan.os.access", lambda *_: False)
    assert find_driver({}, root=tmp_path) is None


def test_device_without_a_driver_does_not_count(tmp_path: Path) -> None:
    plug_in(tmp_path)
    assert find_driver({}, root=tmp_path) is None
    manifest = install(tmp_path)
    next((tmp_path / "usr/lib").glob("*/*.so")).unlink()
    manifest.write_text(json.dumps({"ICD": {"library_path": "../../../lib/gone.so"}}))
    assert find_driver({}, root=tmp_path) is None
    for damaged in ("", "[]", "{}", '{"ICD": 5}'):
        manifest.write_text(damaged)
        assert find_driver({}, root=tmp_path) is None


@pytest.mark.parametrize("variable", ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"])
def test_named_driver_needs_no_device(tmp_path: Path, variable: str) -> None:
    manifest = install(tmp_path)
    assert find_driver({variable: str(manifest)}, root=tmp_path) is not None
    assert find_driver({variable: str(manifest.parent)}, root=tmp_path) is not None
    assert find_driver({variable: "/nowhere.json"}, root=tmp_path) is None


def test_driver_beside_its_manifest_is_found(tmp_path: Path) -> None:
    manifest = install(tmp_path)
    (manifest.parent / "driver.so").touch()
    manifest.write_text(json.dumps({"ICD": {"library_path": "./driver.so"}}))
    plug_in(tmp_path)
    assert find_driver({"XDG_DATA_DIRS": os.pathsep.join(("/usr/share", "/nowhere"))}, root=tmp_path) is not None


def test_library_is_found_in_the_folders_of_the_environment_first(tmp_path: Path) -> None:
    install(tmp_path, library="libx.so")
    own = tmp_path / "own"
    own.mkdir()
    assert find_library("libx.so", {"LD_LIBRARY_PATH": f":{own}"}, root=tmp_path) == next(tmp_path.rglob("libx.so"))
    (own / "libx.so").touch()
    assert find_library("libx.so", {"LD_LIBRARY_PATH": f":{own}"}, root=tmp_path) == own / "libx.so"
    assert find_library("liby.so", {}, root=tmp_path) is None
