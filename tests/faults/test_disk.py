"""A disk is full or read-only, or a folder may not be used any more: uploads go on, and what waits serves by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file, sha256
from faults.disk_faults import AS_ANYBODY, TROUBLES, disk_at
from faults.processes import mark, marked
from faults.steady_load import SteadyLoad

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.figures import Figures

_OLD, _NEW = model_file(1), model_file(2)
_PER_S = 20


@pytest.fixture
def own() -> Iterator[dict[str, str]]:
    """The mark of an agent's processes, none of which may be left."""
    own = mark()
    yield own
    wait_until(lambda: not marked(own), timeout_s=2, what="no process of the agent is left")


@pytest.mark.parametrize("kind", TROUBLES)
def test_uploads_go_on_and_a_new_model_waits_for_the_store(
    tmp_path: Path, own: dict[str, str], figures: Figures, kind: str
) -> None:
    with disk_at(tmp_path / "state" / "models") as disk, _agent(tmp_path, own, drops=_OLD) as agent:
        trouble = TROUBLES[kind](disk)
        with _load(agent) as load:
            _wait_for(agent, _OLD)
            trouble.begin()
            _drop(agent, _NEW)
            wait_until(lambda: trouble.words in _warning(agent), what="the trouble is told")
            assert _warning(agent).endswith(".")
            _wait_for_metric(agent, 1.0)
            assert agent.get("/readyz").is_success
            assert agent.model()["candidate"] == "digits.tflite"
            assert agent.rejection() == ""
            _wait_for_answers(load, 3 * _PER_S)
            assert load.serves(sha256(_OLD))
            trouble.end()
            ended_s = time.monotonic()
            _wait_for(agent, _NEW)
            recovered_s = time.monotonic() - ended_s
            _wait_until_well(agent)
            wait_until(lambda: load.serves(sha256(_NEW)), what="the new model answers")
        assert load.failures == []
        assert {answer.sha256 for answer in load.answers} == {sha256(_OLD), sha256(_NEW)}
        assert not list(disk.rglob(".incoming-*"))
        agent.end()
    figures(
        f"{kind} for the store, while a model is dropped",
        "uploads go on, it is told, the model serves afterwards by itself",
        f"{len(load.failures)} of {len(load.answers)} uploads lost; serves {recovered_s:.1f} s after the end of it",
    )


@pytest.mark.parametrize("kind", TROUBLES)
def test_a_start_serves_what_served_before(tmp_path: Path, own: dict[str, str], kind: str) -> None:
    with disk_at(tmp_path / "state") as disk:
        with _agent(tmp_path, own, drops=_OLD) as agent:
            _wait_for(agent, _OLD)
            agent.end()
        trouble = TROUBLES[kind](disk)
        trouble.begin()
        with _agent(tmp_path, own) as agent, _load(agent) as load:
            wait_until(lambda: load.serves(sha256(_OLD)), what="the model answers")
            _drop(agent, _NEW)
            wait_until(lambda: trouble.words in _warning(agent), what="the trouble is told")
            trouble.end()
            _wait_for(agent, _NEW)
            _wait_until_well(agent)
            agent.end()
    assert load.answers[0].sha256 == sha256(_OLD)


def test_the_trouble_is_over_for_a_candidate_that_was_taken_away(tmp_path: Path, own: dict[str, str]) -> None:
    with disk_at(tmp_path / "state" / "models") as disk, _agent(tmp_path, own, drops=_OLD) as agent:
        _wait_for(agent, _OLD)
        trouble = TROUBLES["a full disk"](disk)
        trouble.begin()
        agent.drop(_NEW, "other")
        wait_until(lambda: trouble.words in _warning(agent), what="the trouble is told")
        (agent.models / "other.tflite").unlink()
        trouble.end()
        _wait_until_well(agent)


def test_an_unreadable_drop_folder_is_told_and_read_again_by_itself(
    tmp_path: Path, own: dict[str, str], figures: Figures
) -> None:
    with _agent(tmp_path, own, drops=_OLD) as agent:
        with _load(agent) as load:
            _wait_for(agent, _OLD)
            agent.models.chmod(0o333)
            wait_until(lambda: "cannot be listed: Permission denied" in _warning(agent), what="the trouble is told")
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
        "a drop folder that may not be read, while a model is dropped",
        "uploads go on, it is told, the model serves afterwards by itself",
        f"{len(load.failures)} of {len(load.answers)} uploads lost; serves {recovered_s:.1f} s after the end of it",
    )


def test_an_unreadable_file_is_told_and_read_again_by_itself(tmp_path: Path, own: dict[str, str]) -> None:
    with _agent(tmp_path, own, drops=_OLD) as agent, _load(agent) as load:
        _wait_for(agent, _OLD)
        dropped = agent.models / "digits.tflite"
        dropped.chmod(0o200)
        _drop(agent, _NEW)
        wait_until(lambda: "cannot be read: Permission denied" in agent.rejection(), what="the trouble is told")
        assert load.serves(sha256(_OLD))
        dropped.chmod(0o644)
        _wait_for(agent, _NEW)
        wait_until(lambda: agent.rejection() == "", what="the rejection is gone")
    assert load.failures == []


def test_a_rejection_is_told_though_no_note_can_be_written(tmp_path: Path, own: dict[str, str]) -> None:
    with _agent(tmp_path, own, drops=_OLD) as agent, _load(agent) as load:
        _wait_for(agent, _OLD)
        _drop(agent, b"This is no model.")
        agent.models.chmod(0o555)
        wait_until(agent.rejection, what="the rejection is told")
        said = f"Why files are rejected cannot be written into {agent.models}: Permission denied."
        wait_until(lambda: said in agent.log, what="the log says that there is no note")
        agent.models.chmod(0o755)
        note = agent.models / "digits.tflite.rejected.txt"
        wait_until(note.is_file, what="the note is written")
        assert agent.log.count(said) == 1
    assert load.failures == []


def _agent(folder: Path, own: dict[str, str], *, drops: bytes | None = None) -> RunningAgent:
    agent = RunningAgent(folder, environment=own, under=AS_ANYBODY)
    if drops is not None:
        _drop(agent, drops)
    return agent


def _load(agent: RunningAgent) -> SteadyLoad:
    return SteadyLoad(agent, model="digits", picture=digit_png(), per_s=_PER_S)


def _drop(agent: RunningAgent, content: bytes) -> None:
    """With its checksum, by which it settles at once."""
    agent.drop(content)
    (agent.models / "digits.tflite.sha256").write_text(f"{sha256(content)}  digits.tflite\n")


def _wait_for(agent: RunningAgent, content: bytes) -> None:
    def serves() -> bool:
        serving = agent.model().get("serving") or {}
        return bool(serving.get("sha256") == sha256(content))

    wait_until(serves, what=f"{sha256(content)[:12]} serves")


def _wait_for_answers(load: SteadyLoad, number: int) -> None:
    enough = len(load.answers) + number
    wait_until(lambda: len(load.answers) >= enough, what=f"{number} uploads more are answered")


def _wait_for_metric(agent: RunningAgent, value: float) -> None:
    line = f"\nedge_agent_store_trouble {value}\n"
    wait_until(lambda: line in agent.get("/metrics").text, what=f"the metric says {value}")


def _wait_until_well(agent: RunningAgent) -> None:
    wait_until(lambda: _warning(agent) == "", what="no trouble is told any more")
    _wait_for_metric(agent, 0.0)


def _warning(agent: RunningAgent) -> str:
    return "\n".join(agent.json("/readyz")["warnings"])
