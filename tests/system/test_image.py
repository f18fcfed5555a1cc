"""Runs the steps of the Dockerfile in a Debian as small as its base image, and tests the resulting container."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, ROOT
from system.bundles import bundle_file, fetch_builder
from system.container import ADDRESS, Container
from system.dockerfile import Build, Stage, context, instructions
from system.root import missing_for_bed, skip_or_fail, system_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
_URL = f"http://{ADDRESS}:8501"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def base() -> Path:
    if reason := missing_for_bed():
        skip_or_fail(reason)
    try:
        return system_root("trixie", packages="")
    except subprocess.CalledProcessError as error:
        skip_or_fail(f"trixie cannot be installed: {error}")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of the bundle and of the build tools, so that pip needs no network."""
    folder = tmp_path_factory.mktemp("wheels")
    try:
        bundle = bundle_file("3.13")
    except FileNotFoundError as error:
        skip_or_fail(f"dist/ has no {error}: run make test-system")
    with tarfile.open(bundle) as tar:
        for member in tar:
            if member.name.endswith(".whl"):
                (folder / member.name.rpartition("/")[2]).write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
    fetch_builder(folder)
    return folder


@pytest.fixture(scope="module")
def image(base: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("image")
    for part in context(_DOCKERFILE):
        (folder / "context" / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / "context" / part)
    started_s = time.monotonic()
    stage = Build(sources=folder / "context", base=base, folder=folder, wheels=wheels).run(instructions(_DOCKERFILE))
    mb = [_megabytes(root) for root in (stage.root, base)]
    print(f"\nimage: {mb[0] - mb[1]} MB over its base, made in {time.monotonic() - started_s:.0f} s")
    return stage


@pytest.fixture
def container(image: Stage, tmp_path: Path) -> Iterator[Container]:
    """A container with the demo model in a read-only models folder."""
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(DIGITS, models)
    with Container(image, tmp_path, models=models) as container:
        container.wait_for("curl", "-sSf", f"{_URL}/readyz")
        yield container


def token(container: Container) -> str:
    """The header with a new access token, made as `docker exec` does."""
    command = ["edge-agent", "token", "create", "phone", "--scope", "infer"]
    return f"Authorization: Bearer {container.inside(command).stdout.strip()}"


def test_the_image_has_no_compiler_and_no_pip(image: Stage) -> None:
    look = ["sh", "-c", "command -v gcc cc g++ make pip pip3 || echo nothing"]
    answer = subprocess.run([*image.nspawn(), *look], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "nothing"


def test_the_container_classifies_with_a_read_only_root_as_a_normal_user(container: Container) -> None:
    command = ["curl", "-sS", "-F", f"file=@{ROOT / 'demo/digit.jpg'}", f"{_URL}/predict"]
    assert "This agent has no access tokens yet" in container.outside(*command).stdout
    assert json.loads(container.outside(*command, "-H", token(container)).stdout)["label"] == "3"
    assert "An access token is required." in container.outside(*command).stdout
    assert container.inside(["id", "-u"]).stdout.strip() == "10001"
    assert "Read-only file system" in container.inside(["touch", "/tmp/anything"]).stderr


def test_a_bad_model_in_a_read_only_folder_is_reported(container: Container, tmp_path: Path) -> None:
    (tmp_path / "models/bad.tflite").write_bytes(b"no model")
    container.wait_for("sh", "-c", f"curl -sS -H '{token(container)}' {_URL}/readyz | grep 'Model bad:'")


def test_the_log_lines_are_json_with_a_message(container: Container) -> None:
    records = [json.loads(line) for line in container.log.splitlines() if line.startswith("{")]
    assert any(record["message"].startswith("Ready.") for record in records)


def test_the_health_check_fails_while_the_agent_hangs(container: Container, image: Stage) -> None:
    assert container.inside(image.health).returncode == 0
    container.send(signal.SIGSTOP)
    assert container.inside(image.health).returncode != 0
    container.send(signal.SIGCONT)
    assert container.inside(image.health).returncode == 0


def test_the_health_check_fails_without_an_agent(image: Stage) -> None:
    command = [*image.nspawn("--private-network", "--as-pid2"), *image.health]
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_the_container_stops_on_sigterm(container: Container) -> None:
    container.send(signal.SIGTERM)
    assert container.wait() == 0
    assert "Stopping." in container.log


def _megabytes(root: Path) -> int:
    """Without the apt files that this Debian has and Docker's Debian has not."""
    parts = [f"--exclude={root}/var/{part}" for part in ("cache/apt", "lib/apt/lists")]
    answer = subprocess.run(["du", "-sxm", *parts, root], check=True, capture_output=True, text=True)
    return int(re.findall(r"^\d+", answer.stdout)[0])
