"""Swaps between SavedModels and .tflite files of one model, in a real agent under load."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from agents.saved_models import write_saved_model
from end_to_end.material import model_file, sha256
from end_to_end.uploads import Uploads

from agent.host.digest import sha256_of_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.first, pytest.mark.timeout(1800)]

_S = 300  # for a trial, and the import of TensorFlow in the agent; seconds on a machine that does nothing else


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path, models={"keep_versions": 5}) as running:
        yield running


def test_no_upload_fails_while_saved_models_and_files_replace_each_other(
    agent: RunningAgent, saved_model: Path, tmp_path: Path
) -> None:
    other = write_saved_model(tmp_path / "other", sharpness=0.02)
    files = {1: model_file(1), 3: model_file(3)}
    hashes = {number: sha256(content) for number, content in files.items()}
    hashes |= {2: sha256_of_folder(saved_model), 4: sha256_of_folder(other)}
    _drop_file(agent, 1, files[1])
    wait_until(lambda: agent.model("m").get("serving"), what="the first version serves")
    with Uploads(agent, model="m", clients=2) as uploads:
        for number, source in ((2, saved_model), (3, files[3]), (4, other)):
            if isinstance(source, bytes):
                _drop_file(agent, number, source)
            else:
                shutil.copytree(source, agent.models / "m" / str(number))
            _wait_for(agent, uploads, hashes[number])
        shutil.rmtree(agent.models / "m" / "2")  # a version is never read from the drop folder
        for number in (3, 2):
            assert agent.post("/api/models/m/pin", json={"version": number}).status_code == 200
            _wait_for(agent, uploads, hashes[number])
        uploads.wait_for_more(10)
    assert uploads.failures == []
    assert uploads.served == {digest: {str(number)} for number, digest in hashes.items()}


def test_saved_model_serves_after_a_restart_and_without_its_folder(agent: RunningAgent, saved_model: Path) -> None:
    shutil.copytree(saved_model, agent.models / "m" / "5")
    wait_until(lambda: agent.model("m").get("serving"), timeout_s=_S, what=f"it serves: {agent.rejection('m')}")
    agent.end()
    shutil.rmtree(agent.models / "m" / "5" / "variables")
    agent.restart()
    assert agent.model("m")["serving"]["version"] == "5"
    assert agent.model("m")["serving"]["sha256"] == sha256_of_folder(saved_model)


def _drop_file(agent: RunningAgent, number: int, content: bytes) -> None:
    (agent.models / "m" / str(number)).mkdir(parents=True)
    (agent.models / "m" / str(number) / "model.tflite").write_bytes(content)


def _wait_for(agent: RunningAgent, uploads: Uploads, digest: str) -> None:
    """Until it answers again."""
    wait_until(
        lambda: agent.model("m")["serving"]["sha256"] == digest,
        timeout_s=_S,
        what=f"{digest[:12]} serves; {agent.rejection('m')}",
    )
    uploads.wait_for_more(10)
