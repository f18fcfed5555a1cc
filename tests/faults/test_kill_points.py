"""Kills the agent (-9) at each point of admitting a model, restarts it as systemd does, and drops a third model."""

from __future__ import annotations

import hashlib
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file, sha256
from end_to_end.uploads import Uploads
from faults.processes import mark, marked
from faults.self_killing_agent import POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.figures import Figures

_OLDER, _OLD, _NEW, _THIRD = (model_file(number) for number in (1, 2, 3, 4))
_BAD = b"This is not a model."
_SELF_KILLING_AGENT = Path(__file__).with_name("self_killing_agent.py")
_STARTS = 3

# Before this point the history does not have the new version, so the next start tries it again and serves it. From
# this point on, the new version may be the cause of the kill.
_FIRST_BLAMED = list(POINTS).index("before the load")

# Files that must exist after the kill; otherwise it was too early or too late.
_LEFT = {
    "halfway through the copy": "state/models/copies/.incoming-*",
    "before the copy is flushed": "state/models/copies/.incoming-*",
    "before the copy is renamed": "state/models/copies/.incoming-*",
    "after the copy is renamed": f"state/models/copies/{sha256(_NEW)}.tflite",
    "before the history is flushed": "state/models/.history.json.new",
    "before the history is renamed": "state/models/.history.json.new",
    "while a note is written": "models/*.rejected.txt",
}


@pytest.fixture(scope="module")
def answered_after_s(figures: Figures) -> Iterator[list[float]]:
    """Collects, for each point that passed, the seconds from the restart to the first answer."""
    passed: list[float] = []
    yield passed
    if passed:
        figures(
            f"kill -9 at {len(POINTS)} points, then a start",
            "the old or the new version serves, no file is left over, a third version serves",
            f"{len(passed)} of {len(POINTS)}; first answer at most {max(passed):.1f} s after the start",
        )


@pytest.mark.parametrize("point", POINTS)
def test_the_old_or_the_new_version_serves_after_a_kill(
    tmp_path: Path, answered_after_s: list[float], point: str
) -> None:
    new = _BAD if point == "while a note is written" else _NEW
    own = mark()
    with _agent(tmp_path, own, point=point, of=new, drops=_OLDER) as agent:
        _drop(agent, _OLD)
        _wait_for(agent, _OLD)
        _prove(agent)
        _drop(agent, new)
        wait_until(lambda: not agent.is_running(), what=f"the agent is killed {point}")
    assert agent.process.returncode == -signal.SIGKILL
    assert point not in _LEFT or list(tmp_path.glob(_LEFT[point]))
    wait_until(lambda: not marked(own), timeout_s=2, what="no process of the agent is left")

    started_s = time.monotonic()
    with _agent(tmp_path, own) as agent:
        assert _answering(agent) in (sha256(_OLD), sha256(_NEW))
        answered_s = time.monotonic() - started_s
        serves = _OLD if list(POINTS).index(point) >= _FIRST_BLAMED else _NEW
        _wait_for(agent, serves)
        wait_until(lambda: not _left_over(agent, tmp_path), what="nothing is left over")
        assert bool(agent.rejection()) == (serves is _OLD)
        _drop(agent, _THIRD)
        _wait_for(agent, _THIRD)
        assert _answering(agent) == sha256(_THIRD)
        wait_until(lambda: not _left_over(agent, tmp_path), what="nothing is left over")
        agent.end()
    assert not marked(own)
    answered_after_s.append(answered_s)


def test_the_only_version_is_not_loaded_again_after_three_kills(tmp_path: Path, figures: Figures) -> None:
    own = mark()
    agent = _agent(tmp_path, own, point="between two interpreters", of=_NEW, drops=_NEW)
    for _ in range(_STARTS):
        agent.start()
        agent.process.wait(timeout=20)
        assert agent.process.returncode == -signal.SIGKILL
    with _agent(tmp_path, own) as agent:
        refused = agent.post("/predict", content=digit_png())
        assert refused.status_code == 503
        assert refused.json()["error"].endswith(".")
        assert agent.get("/healthz").status_code == 200
        assert agent.get("/readyz").status_code == 503
        assert f"crashed on {_STARTS} consecutive starts" in agent.rejection()
        _drop(agent, _THIRD)
        _wait_for(agent, _THIRD)
        assert _answering(agent) == sha256(_THIRD)
        assert agent.rejection() == ""
        agent.end()
    assert not marked(own)
    figures(
        f"kill -9 in {_STARTS} consecutive starts, while the only version is loaded",
        "it is not loaded again; the agent runs and reports this",
        "503 with an explanation, /healthz 200; the next model serves",
    )


def _agent(
    folder: Path, own: dict[str, str], *, point: str | None = None, of: bytes = b"", drops: bytes | None = None
) -> RunningAgent:
    """An agent that kills itself at `point` while it admits the model `of`; an ordinary agent without `point`."""
    under = [sys.executable, str(_SELF_KILLING_AGENT), point, sha256(of)] if point else []
    agent = RunningAgent(folder, environment=own, under=under, models={"keep_versions": 2}, engine={"workers": 2})
    if drops is not None:
        _drop(agent, drops)
    return agent


def _drop(agent: RunningAgent, content: bytes) -> None:
    """With its checksum, so the agent need not wait until the file stops changing."""
    agent.drop(content)
    (agent.models / "digits.tflite.sha256").write_text(f"{sha256(content)}  digits.tflite\n")


def _wait_for(agent: RunningAgent, content: bytes) -> None:
    """Until it serves and no candidate is left in the folder."""

    def is_settled() -> bool:
        model = agent.model()
        serving = model["serving"] or {}
        return serving.get("sha256") == sha256(content) and model["candidate"] is None

    wait_until(is_settled, what=f"{sha256(content)[:12]} serves")


def _prove(agent: RunningAgent) -> None:
    """Until its probation is over: a version on probation is blamed for any end of the process."""
    with Uploads(agent, model="digits", clients=2) as uploads:
        wait_until(lambda: not agent.model()["probation"], what="its probation is over")
    assert uploads.failures == []


def _answering(agent: RunningAgent) -> str:
    answer = agent.post("/predict?model=digits", content=digit_png())
    assert answer.is_success, answer.text
    return str(answer.json()["model"]["sha256"])


def _left_over(agent: RunningAgent, folder: Path) -> list[str]:
    """Files that are unneeded, incomplete or missing."""
    model = agent.model()
    versions = {version["sha256"]: version for version in model["versions"]}
    wanted = {f"copies/{sha256}.tflite" for sha256 in versions} | {"history.json"}
    state = folder / "state" / "models"
    found = {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}
    damaged = [path.name for path in state.glob("copies/*.tflite") if not _matches_its_name(path)]
    return [*(wanted ^ found), *damaged, *_unexpected_drops(agent.models, agent.rejection())]


def _matches_its_name(copy: Path) -> bool:
    """Also if the agent has deleted it since it was listed."""
    try:
        return hashlib.sha256(copy.read_bytes()).hexdigest() == copy.stem
    except FileNotFoundError:
        return True


def _unexpected_drops(models: Path, rejection: str) -> list[str]:
    note = models / "digits.tflite.rejected.txt"
    wanted = {"digits.tflite", "digits.tflite.sha256", *([note.name] if rejection else [])}
    unexpected = wanted ^ {path.name for path in models.iterdir()}
    if rejection and note.name not in unexpected and note.read_text() != f"{rejection}\n":
        unexpected.add(f"{note.name}: {note.read_text()}")
    return sorted(unexpected)
