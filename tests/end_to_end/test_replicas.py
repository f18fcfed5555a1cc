"""Replicas: agents that share one models folder without write permission."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file, sha256
from faults.disk_faults import AS_ORDINARY_USER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "digits.tflite").write_bytes(model_file(1))
    yield folder
    folder.chmod(0o755)


@pytest.fixture
def replicas(models: Path, tmp_path: Path) -> Iterator[list[RunningAgent]]:
    models.chmod(0o555)
    with ExitStack() as running:
        agents = []
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
            agent = RunningAgent(tmp_path / name, under=AS_ORDINARY_USER, models={"folder": str(models)})
            agents.append(running.enter_context(agent))
        yield agents


def test_all_replicas_serve_existing_and_newly_dropped_models(models: Path, replicas: list[RunningAgent]) -> None:
    for version in (1, 2):
        drop(models, "digits.tflite", model_file(version))
        for agent in replicas:
            wait_until(partial(serves, agent, model_file(version)), what=f"version {version} serves")
            assert agent.post("/predict", content=digit_png()).json()["model"]["sha256"] == sha256(model_file(version))


def test_a_rejection_is_reported_if_no_note_can_be_written(models: Path, replicas: list[RunningAgent]) -> None:
    drop(models, "bad.tflite", b"no model")
    for agent in replicas:
        wait_until(partial(agent.rejection, "bad"), what="it is rejected")
        assert agent.get("/readyz").json()["ready"]
    assert not list(models.glob("*.txt"))


def drop(models: Path, name: str, content: bytes) -> None:
    """Writes the file as a user with write permission does."""
    models.chmod(0o755)
    (models / name).write_bytes(content)
    models.chmod(0o555)


def serves(agent: RunningAgent, content: bytes) -> bool:
    return (agent.model().get("serving") or {}).get("sha256") == sha256(content)
