"""Checks the Debian package with dpkg-deb, shellcheck and lintian. Its bundle has no wheels, to be fast."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEBIAN = ROOT / "deploy/debian"

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg is not installed")
_shellcheck = pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
_lintian = pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return _build(tmp_path, "aarch64 3.11")


def test_the_package_is_for_one_machine_and_one_python(package: Path) -> None:
    assert package.name.endswith("+py3.11_arm64.deb")
    assert _field(package, "Architecture") == "arm64"
    assert _field(package, "Version").endswith("+py3.11")
    assert _field(package, "Depends").startswith("python3 (>= 3.11~), python3 (<< 3.12), python3-venv, systemd")


def test_root_owns_all_files_and_only_root_can_write_them(package: Path) -> None:
    listing = subprocess.run(["dpkg-deb", "--contents", package], check=True, capture_output=True, text=True).stdout
    assert {line.split()[1] for line in listing.splitlines()} == {"root/root"}
    assert {line.split()[0] for line in listing.splitlines()} == {"drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"}


def test_the_same_bundle_gives_the_same_package(tmp_path: Path) -> None:
    first = _build(tmp_path, "aarch64 3.13").read_bytes()
    assert _build(tmp_path, "aarch64 3.13").read_bytes() == first


def test_an_unsupported_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _build(tmp_path, "riscv64 3.13")
    assert caught.value.stderr.startswith("edge-agent: Cannot build a Debian package for riscv64.")


def test_purge_does_not_need_the_removed_files_of_the_package(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", package, tmp_path / "control"], check=True)
    script = (tmp_path / "control/postrm").read_text()
    assert "purge() {" in script
    assert "/usr/lib/edge-agent" not in script
    subprocess.run(["bash", tmp_path / "control/postrm", "upgrade"], check=True)


@_shellcheck
def test_shellcheck_finds_no_problem_in_the_scripts(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", package, tmp_path / "control"], check=True)
    scripts = [tmp_path / "control" / name for name in ("postinst", "prerm", "postrm")]
    subprocess.run(["shellcheck", DEBIAN / "build.sh", *scripts], check=True)


@_lintian
@pytest.mark.long
def test_lintian_finds_neither_errors_nor_warnings(package: Path) -> None:
    subprocess.run(["lintian", "--fail-on", "error,warning", "--allow-root", package], check=True)


def _build(folder: Path, made_for: str) -> Path:
    bundle = folder / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(ROOT / "deploy/systemd", bundle / "deploy/systemd")
    shutil.copy(ROOT / "pyproject.toml", bundle)
    (bundle / "for").write_text(f"{made_for}\n")
    with tarfile.open(folder / "bundle.tar", "w") as tar:
        tar.add(bundle, "bundle")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    answer = subprocess.run(
        [DEBIAN / "build.sh", folder / "bundle.tar"], check=True, capture_output=True, text=True, env=environment
    )
    return folder / answer.stdout.partition(":")[0]


def _field(package: Path, name: str) -> str:
    return subprocess.run(
        ["dpkg-deb", "--field", package, name], check=True, capture_output=True, text=True
    ).stdout.strip()
