"""Tests the arm64 wheels under qemu user emulation: installation, and a correct answer for each dtype."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from arm64.chroot import Chroot
from arm64.published import PUBLISHED, Published, assert_same_as_x86_64, lay_out
from system.bundles import unpack_material
from system.root import missing_for_bed, system_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.measured import Note

pytestmark = [pytest.mark.assets, pytest.mark.timeout(1800)]

_AGENT = "/opt/edge-agent/versions/*/bin/edge-agent"
_URL = "http://127.0.0.1:8501"
# The steps of install.sh before the unit, which would need systemd.
_MAKE_VERSION = """
say() { echo "edge-agent: $*"; }
fail() { echo "edge-agent: $*" >&2; exit 1; }
root=/mnt/good home=/opt/edge-agent
source $root/deploy/systemd/install/check.sh
source $root/deploy/systemd/install/version.sh
check_system
make_version "$(version_here)"
"""
_CONFIG = """
device: {state_folder: /tmp/state}
models: {folder: /mnt/models}
mqtt: {enabled: false}
"""


@pytest.fixture(scope="module")
def chroot(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chroot]:
    """A chroot without edge-agent."""
    if reason := missing_for_bed("arm64"):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("arm64")
    try:
        material = unpack_material("3.11", folder, "aarch64")
        root = system_root("bookworm", "arm64")
    except FileNotFoundError as error:
        pytest.skip(f"dist/ has no {error}: run make test-arm64")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"arm64 cannot be installed: {error}")
    lay_out(assets, material)
    with Chroot(root, material, folder / "nspawn.log") as chroot:
        yield chroot


@pytest.fixture(scope="module")
def installed(chroot: Chroot, note: Note) -> Chroot:
    started_s = time.monotonic()
    chroot.run(_MAKE_VERSION, timeout_s=1200)
    note("chroot: installation of the wheels", f"{time.monotonic() - started_s:.0f} s")
    return chroot


def test_every_wheel_of_the_bundle_is_installed_and_compatible(installed: Chroot) -> None:
    python = "/opt/edge-agent/versions/*/bin/python"
    assert installed.run(f"{python} -m pip check") == "No broken requirements found."
    assert installed.run(f"{python} -c 'import platform; print(platform.machine())'") == "aarch64"


def test_inspect_reports_that_a_model_can_be_served(installed: Chroot) -> None:
    report = json.loads(installed.run(f"{_AGENT} inspect --json /mnt/models/int8.tflite 2>/tmp/stderr"))
    assert report["runtime"].startswith("ai-edge-litert")
    assert report["inputs"][0]["dtype"] == "int8"
    assert report["serves_here"], report["reason"]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.dtype)
def test_classify_gives_the_same_result_as_on_x86_64(installed: Chroot, assets: Path, published: Published) -> None:
    model = f"/mnt/models/{published.dtype}.tflite"
    words = f"{model} /mnt/photos/{published.photo} --max-results 1 --json"
    (answer,) = json.loads(installed.run(f"{_AGENT} classify {words} 2>/tmp/stderr"))
    assert_same_as_x86_64(published, answer["categories"][0], assets)


def test_the_agent_starts_and_answers_over_http(installed: Chroot, assets: Path, note: Note) -> None:
    installed.run(f"cat >/tmp/agent.yaml <<'END'\n{_CONFIG}\nEND")
    started_s = time.monotonic()
    installed.run(f"{_AGENT} run --config /tmp/agent.yaml </dev/null >/tmp/log 2>&1 &")
    installed.wait_for(f"curl -sS {_URL}/healthz || (cat /tmp/log; exit 1)", timeout_s=300)
    note("chroot: from start to HTTP", f"{time.monotonic() - started_s:.0f} s")
    published = PUBLISHED[0]
    installed.wait_for(f"curl -sS {_URL}/v1/models/{published.dtype} | grep AVAILABLE", timeout_s=300)
    upload = f"curl -sS -F file=@/mnt/photos/{published.photo} '{_URL}/predict?model={published.dtype}'"
    assert_same_as_x86_64(published, json.loads(installed.run(upload))["categories"][0], assets)
