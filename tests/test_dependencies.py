"""Dependencies: none is older than the release that fixed a published advisory, in pyproject.toml and every lock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]

# The first release without the advisory, for direct and indirect dependencies; it applies where the package is used.
_FLOORS = {
    "certifi": ("2024.7.4", "CVE-2024-39689"),  # a distrusted root
    "cryptography": ("50.0.0", "CVE-2026-69247"),  # PKCS #7 decryption; 48.0.1 renewed OpenSSL (GHSA-537c-gmf6-5ccf)
    "fastapi": ("0.109.1", "CVE-2024-24762"),  # slow Content-Type
    "h11": ("0.16.0", "CVE-2025-43859"),  # request smuggling; the agent parses with httptools
    "idna": ("3.15", "CVE-2026-45409"),  # slow host names
    "keras": ("3.12.1", "CVE-2026-1462"),  # code in a model file; fixed in 3.13.2 too
    "opencv-python-headless": ("4.12", "CVE-2025-53644"),  # memory corruption by a JPEG 2000 image
    "pillow": ("12.3.0", "PYSEC-2026-2253"),
    "protobuf": ("6.33.5", "CVE-2026-0994"),  # recursion
    "python-multipart": ("0.0.31", "CVE-2026-53540"),  # a body in one piece; 0.0.27 limits headers (CVE-2026-42561)
    "requests": ("2.33.0", "CVE-2026-25645"),  # path traversal
    "setuptools": ("78.1.1", "CVE-2025-47273"),  # path traversal
    "starlette": ("1.3.1", "CVE-2026-54283"),  # form limits; 1.0.1 checks the Host header (CVE-2026-48710)
    "urllib3": ("2.7.0", "CVE-2026-44431"),  # credentials sent along a redirect
}

# tflite-runtime needs NumPy 1, which OpenCV 4.12 does not support. The agent decodes only formats that it knows by
# their first bytes, and JPEG 2000 is not one of them: test_image.py::test_jpeg_2000_is_refused_before_opencv_sees_it.
_WITH_NUMPY_1 = {"opencv-python-headless==4.11.0.86", "opencv-python-headless<4.12,>=4.10"}

# Home Assistant pins the exact versions of its dependencies. It is the peer of a test, and installed for it only.
_LOCKS = [path for path in sorted((ROOT / "locks").glob("*.txt")) if path.name != "home-assistant.txt"]


def _pinned(lock: Path) -> list[Requirement]:
    lines = re.findall(r"^([\w.-]+==[^ ;\\]+)", lock.read_text(), re.MULTILINE)
    return [Requirement(line) for line in lines]


def _required() -> list[Requirement]:
    """What pyproject.toml requires, with and without extras."""
    return [Requirement(line) for line in re.findall(r'^  "([^"\s].*)",', _project(), re.MULTILINE)]


def _project() -> str:
    project = (ROOT / "pyproject.toml").read_text().partition("[project]")[2]
    return project.partition("[project.scripts]")[0]


def _too_old(requirement: Requirement) -> str | None:
    if requirement.name not in _FLOORS or f"{requirement.name}{requirement.specifier}" in _WITH_NUMPY_1:
        return None
    floor, advisory = _FLOORS[requirement.name]
    lowest = [Version(each.version) for each in requirement.specifier if each.operator in (">=", "==")]
    return None if lowest and max(lowest) >= Version(floor) else f"{requirement} admits {advisory}: require {floor}"


@pytest.mark.parametrize("lock", _LOCKS, ids=lambda path: path.stem)
def test_lock_has_the_release_that_fixed_each_advisory(lock: Path) -> None:
    pinned = _pinned(lock)
    assert pinned
    assert [sentence for each in pinned if (sentence := _too_old(each))] == []


def test_pyproject_requires_the_release_that_fixed_each_advisory() -> None:
    required = _required()
    assert {"starlette", "tensorflow", "pytest"} <= {each.name for each in required}
    assert [sentence for each in required if (sentence := _too_old(each))] == []


def test_each_floor_and_exception_concerns_a_dependency() -> None:
    used = [*_required(), *(each for lock in _LOCKS for each in _pinned(lock))]
    assert _FLOORS.keys() - {each.name for each in used} == set()
    assert {f"{each.name}{each.specifier}" for each in used} >= _WITH_NUMPY_1
