"""Installs on a device: the core from its hashed lock file, in its own virtual environment."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MAX_BYTES = 380 << 20  # in units of `du -m`


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with only the core and this project."""
    home = tmp_path_factory.mktemp("device")
    venv.create(home, with_pip=True)
    pip: list[str | Path] = [home / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wheels = tmp_path_factory.mktemp("wheels")
    build: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", wheels, REPOSITORY], check=True)
    subprocess.run([*pip, "--require-hashes", "-r", REPOSITORY / "locks/device.txt"], check=True)
    subprocess.run([*pip, "--no-deps", next(wheels.glob("*.whl"))], check=True)
    return home


@pytest.mark.timeout(300)
def test_the_core_stays_under_380_mb(device: Path) -> None:
    site = next(device.glob("lib/python*/site-packages"))
    own = {"pip", "setuptools", "_distutils_hack", "pkg_resources"}  # part of the environment, not of the core
    size = sum(
        file.stat().st_size
        for file in site.rglob("*")
        if file.is_file() and file.relative_to(site).parts[0].split("-")[0] not in own
    )
    print(f"the core is {size >> 20} MB")
    assert size < MAX_BYTES


def test_the_service_does_not_import_tensorflow_or_terminal_packages(device: Path) -> None:
    code = "import sys, json, agent.service; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    answer = subprocess.run([device / "bin/python", "-c", code], check=True, capture_output=True, cwd=device)
    loaded = set(json.loads(answer.stdout))
    assert {"agent", "cv2", "uvicorn"} <= loaded
    assert not loaded & {"tensorflow", "converter", "rich", "typer", "amqtt", "cryptography"}


def test_every_file_of_the_page_is_installed(device: Path) -> None:
    installed = next(device.glob("lib/python*/site-packages/agent/rest/page"))
    source = REPOSITORY / "agent/rest/page"
    files = {path.relative_to(source) for path in source.rglob("*") if path.suffix not in ("", ".pyc")}
    assert {Path("index.html"), Path("app.js"), Path("vendor/preact.js")} <= files
    assert {path for path in files if not (installed / path).exists()} == set()


def test_the_commands_work_with_only_the_core_installed(device: Path) -> None:
    answer = subprocess.run(
        [device / "bin/edge-agent", "inspect", "--json", REPOSITORY / "demo/digits.tflite"],
        check=True,
        capture_output=True,
        cwd=device,
    )
    assert json.loads(answer.stdout)["serves_here"] is True


@pytest.mark.parametrize("lock", sorted(path.name for path in (REPOSITORY / "locks").glob("*.txt")))
def test_a_lock_file_has_hashes_and_no_index(lock: str) -> None:
    lines = (REPOSITORY / "locks" / lock).read_text().splitlines()
    assert not [line for line in lines if "://" in line or re.match("--?(i|index|extra|find|trusted)", line.strip())]
    pins = [line for line in lines if re.match(r"[a-z0-9]", line)]
    assert pins
    assert all(re.match(r"[a-zA-Z0-9_.-]+(\[[a-z,]+\])?==[^ ]+ .*\\$", line) for line in pins)
