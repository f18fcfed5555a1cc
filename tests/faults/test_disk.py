"""Disk faults of the store and the drop folder: uploads continue, and waiting models serve automatically afterwards."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file, sha256
from faults.disk_faults import AS_ORDINARY_USER, DISK_FAULTS, disk_at
from faults.processes import mark, marked
from faults.steady_load import SteadyLoad

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.figures import Figures

_OLD, _NEW = model_file(1), model_file(2)
_PER_S = 20
_REQUIRED = "uploads succeed, the fault is reported, the model serves automatically afterwards"


@pytest.fixture
def own() -> Iterator[dict[str, str]]:
    """The mark of an agent's processes; fails if any of them is left at the end."""
    own = mark()
    yield own
    wait_until(lambda: not marked(own), timeout_s=2, what="no process of the agent is left")


@pytest.mark.parametrize("kind", DISK_FAULTS)
def test_uploads_succeed_and_a_new_model_waits_during_a_store_fault(
    tmp_path: Path, own: dict[str, str], figures: Figures, kind: str
) -> None:
    with disk_at(tmp_path / "state" / "models") as disk, _agent(tmp_path, own, drops=_OLD) as agent:
        fault = DISK_FAULTS[kind](disk)
        with _load(agent) as load:
            _wait_for(agent, _OLD)
            fault.begin()
            _drop(agent, _NEW)
            wait_until(lambda: fault.message in _warning(agent), what="the fault is reported")
            assert _warning(agent).endswith(".")
            _wait_for_metric(agent, 1.0)
            assert agent.get("/readyz").is_success
            assert agent.model()["candidate"] == "digits.tflite"
            assert agent.rejection() == ""
            _wait_for_answers(load, 3 * _PER_S)
            assert load.serves(sha256(_OLD))
            fault.end()
            ended_s = time.monotonic()
            _wait_for(agent, _NEW)
            recovered_s = time.monotonic() - ended_s
            _wait_until_healthy(agent)
            wait_until(lambda: load.serves(sha256(_NEW)), what="the new model answers")
        assert load.failures == []
        assert {answer.sha256 for answer in load.answers} == {sha256(_OLD), sha256(_NEW)}
        assert not list(disk.rglob(".incoming-*"))
        agent.end()
    figures(
        f"{kind} for the store, while a model is dropped",
        _REQUIRED,
        f"{len(load.failures)} of {len(load.answers)} uploads lost; serves {recovered_s:.1f} s after the fault ends",
    )


@pytest.mark.parametrize("kind", DISK_FAULTS)
def test_a_start_serves_the_previous_model_during_a_store_fault(tmp_path: Path, own: dict[str, str], kind: str) -> None:
    with disk_at(tmp_path / "state") as disk:
        with _agent(tmp_path, own, drops=_OLD) as agent:
            _wait_for(agent, _OLD)
            agent.end()
        fault = DISK_FAULTS[kind](disk)
        fault.begin()
        with _agent(tmp_path, own) as agent, _load(agent) as load:
            wait_until(lambda: load.serves(sha256(_OLD)), what="the model answers")
            _drop(agent, _NEW)
            wait_until(lambda: fault.message in _warning(agent), what="the fault is reported")
            fault.end()
            _wait_for(agent, _NEW)
            _wait_until_healthy(agent)
            agent.end()
    assert load.answers[0].sha256 == sha256(_OLD)


def test_the_store_warning_ends_when_the_waiting_candidate_is_removed(tmp_path: Path, own: dict[str, str]) -> None:
    with disk_at(tmp_path / "state" / "models") as disk, _agent(tmp_path, own, drops=_OLD) as agent:
        _wait_for(agent, _OLD)
        fault = DISK_FAULTS["a full disk"](disk)
        fault.begin()
        agent.drop(_NEW, "other")
        wait_until(lambda: fault.message in _warning(agent), what="the fault is reported")
        (agent.models / "other.tflite").unlink()
        fault.end()
        _wait_until_healthy(agent)


def test_an_unreadable_drop_folder_is_reported_and_read_again_automatically(
    tmp_path: Path, own: dict[str, str], figures: Figures
) -> None:
    with _agent(tmp_path, own, drops=_OLD) as agent:
        with _load(agent) as load:
            _wait_for(agent, _OLD)
            agent.models.chmod(0o333)
            wait_until(lambda: "cannot be listed: Permission denied" in _warning(agent), what="the fault is reported")
            _wait_for_metric(agent, 0.0)
            _drop(agent, _NEW)
            _wait_for_answers(load, 2 * _PER_S)
            assert load.serves(sha256(_OLD))
            agent.models.chmod(0o755)
            ended_s = time.monotonic()
            _wait_for(agent, _NEW)
            recovered_s = time.monotonic() - ended_s
            assert _warning(agent) == ""
        assert load.failures == []
        agent.end()
    figures(
        "a drop folder without read permission, while a model is dropped",
        _REQUIRED,
        f"{len(load.failures)} of {len(load.answers)} uploads lost; serves {recovered_s:.1f} s after the fault ends",
    )


def test_an_unreadable_file_is_rejected_and_read_again_automatically(tmp_path: Path, own: dict[str, str]) -> None:
    with _agent(tmp_path, own, drops=_OLD) as agent, _load(agent) as load:
        _wait_for(agent, _OLD)
        dropped = agent.models / "digits.tflite"
        dropped.chmod(0o200)
        _drop(agent, _NEW)
        wait_until(lambda: "cannot be read: Permission denied" in agent.rejection(), what="the fault is reported")
        assert load.serves(sha256(_OLD))
        dropped.chmod(0o644)
        _wait_for(agent, _NEW)
        wait_until(lambda: agent.rejection() == "", what="the rejection is gone")
    assert load.failures == []


def test_a_rejection_is_reported_if_no_note_can_be_written(tmp_path: Path, own: dict[str, str]) -> None:
    with _agent(tmp_path, own, drops=_OLD) as agent, _load(agent) as load:
        _wait_for(agent, _OLD)
        _drop(agent, b"This is not a model.")
        agent.models.chmod(0o555)
        wait_until(agent.rejection, what="the rejection is reported")
        message = f"The reasons for rejections cannot be written to {agent.models}: Permission denied."
        wait_until(lambda: message in agent.log, what="the log says that the note is missing")
        agent.models.chmod(0o755)
        note = agent.models / "digits.tflite.rejected.txt"
        wait_until(note.is_file, what="the note is written")
        assert agent.log.count(message) == 1
    assert load.failures == []


def _agent(folder: Path, own: dict[str, str], *, drops: bytes | None = None) -> RunningAgent:
    agent = RunningAgent(folder, environment=own, under=AS_ORDINARY_USER)
    if drops is not None:
        _drop(agent, drops)
    return agent


def _load(agent: RunningAgent) -> SteadyLoad:
    return SteadyLoad(agent, model="digits", picture=digit_png(), per_s=_PER_S)


def _drop(agent: RunningAgent, content: bytes) -> None:
    """With its checksum, so the agent need not wait until the file stops changing."""
    agent.drop(content)
    (agent.models / "digits.tflite.sha256").write_text(f"{sha256(content)}  digits.tflite\n")


def _wait_for(agent: RunningAgent, content: bytes) -> None:
    def serves() -> bool:
        serving = agent.model().get("serving") or {}
        return bool(serving.get("sha256") == sha256(content))

    wait_until(serves, what=f"{sha256(content)[:12]} serves")


def _wait_for_answers(load: SteadyLoad, number: int) -> None:
    enough = len(load.answers) + number
    wait_until(lambda: len(load.answers) >= enough, what=f"{number} more uploads are answered")


def _wait_for_metric(agent: RunningAgent, value: float) -> None:
    line = f"\nedge_agent_store_trouble {value}\n"
    wait_until(lambda: line in agent.get("/metrics").text, what=f"the metric says {value}")


def _wait_until_healthy(agent: RunningAgent) -> None:
    wait_until(lambda: _warning(agent) == "", what="no fault is reported any more")
    _wait_for_metric(agent, 0.0)


def _warning(agent: RunningAgent) -> str:
    return "\n".join(agent.json("/readyz")["warnings"])
