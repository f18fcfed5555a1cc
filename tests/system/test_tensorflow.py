"""TensorFlow in the installed service, by the commands of the guide, under a real systemd."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from documents import REPOSITORY, commands
from needs import need
from system.bed import booted_bed
from system.probes import PIP_FROM
from system.root import tensorflow_wheels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.bed import Bed

_SUITE = "bookworm"
_MODELS = "/var/lib/edge-agent/models"
_ADD = next(line for line in commands(REPOSITORY / "docs/how-to/saved-model.md") if line.startswith("sudo "))

pytestmark = [pytest.mark.first, pytest.mark.assets, pytest.mark.timeout(900)]


@pytest.fixture
def bed(tmp_path: Path, assets: Path) -> Iterator[Bed]:
    """The service, installed from a bundle. A denied system call kills it; pip finds its packages in a folder."""
    need(sys.version_info[:2] == (3, 11), "the packages of TensorFlow must be for the Python of Debian 12, 3.11")
    more = {
        "tensorflow": tensorflow_wheels(),
        "people": assets / "savedmodels/vww_96_savedmodel",
        "labels": assets / "models/mlperf_vww_96_float",
        "photos": assets / "photos",
    }
    with booted_bed(_SUITE, tmp_path, more=more) as bed:
        bed.override("strict", "SystemCallErrorNumber=kill")
        bed.run(PIP_FROM.format("/mnt/tensorflow"))
        bed.run("/mnt/good/deploy/systemd/install.sh --bundle /mnt/good")
        yield bed


def test_service_computes_a_saved_model_within_its_hardening(bed: Bed) -> None:
    bed.run(f"mkdir {_MODELS}/people; cp -r /mnt/people {_MODELS}/people/1")
    bed.run(
        f"cp /mnt/labels/labels.txt {_MODELS}/people/1.txt; printf 'mean: 0\\nstd: 255\\n' >{_MODELS}/people/1.yaml"
    )
    bed.wait_for(f"journalctl --unit edge-agent | grep -F '{_ADD}'")

    said = bed.run(_ADD, timeout_s=600)
    assert f"TensorFlow is installed: the service serves SavedModels, {_MODELS}/NAME/NUMBER/saved_model.pb." in said
    bed.wait_for("edge-agent models list | grep -E 'people +1'", timeout_s=300)
    answer = json.loads(
        bed.run("curl -sS -F file=@/mnt/photos/burger.jpg 'http://127.0.0.1:8501/predict?model=people'")
    )
    assert {each["label"] for each in answer["categories"]} == {"person", "non_person"}
    assert bed.show("NRestarts") == "0"
