"""Real models that pass their trial and then fail, answer NaN, slow down, hang or crash the process."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from benchmarks.material import model_version
from end_to_end.material import digit_png, model_file, sha256
from end_to_end.notify_socket import NotifySocket
from faults.faulty_models import faulty_model
from faults.processes import mark, marked
from faults.steady_load import Answer, SteadyLoad

from agent.runtimes.interpreter import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.figures import Figures
    from faults.scale import Scale

_GOOD = model_file(1)
_PER_S = 20
_STARTS = 3
_BOUND = ["prlimit", f"--as={4 << 30}"]  # so that a model cannot use up the memory of the machine
_WATCHDOG_S = 2.0
_PROBATION_S = 60.0

_CAUSES = {
    "fails": "failures",
    "answers_nan": "nan",
    "is_slow": "slow",
    "needs_too_much_memory": "failures" if runtime().startswith("ai-edge-litert") else "crash",
    "crashes": "crash",
}
_traps = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="only x86 raises a signal for INT_MIN / -1"
)
_KINDS = [pytest.param(name, marks=[_traps] if name == "crashes" else []) for name in _CAUSES]


@dataclass(frozen=True, slots=True)
class _Harm:
    """The uploads that a faulty model answered or lost, and the time from the first to the last of them."""

    lasted_s: float
    lost: int
    answered: int

    @classmethod
    def of(cls, answers: list[Answer], model: bytes) -> _Harm:
        bad = [answer for answer in answers if answer.failure or answer.sha256 == sha256(model)]
        ends_s = max((answer.due_s + answer.took_ms / 1e3 for answer in bad), default=0.0)
        lost = sum(1 for answer in bad if answer.failure)
        return cls(ends_s - min((answer.due_s for answer in bad), default=0.0), lost, len(bad) - lost)

    @property
    def uploads(self) -> int:
        return self.lost + self.answered

    def __str__(self) -> str:
        return f"{self.lasted_s:.1f} s, {self.lost} uploads lost, {self.answered} answered by the model"


@pytest.fixture
def own() -> Iterator[dict[str, str]]:
    """The mark of an agent's processes; fails if any of them is left at the end."""
    own = mark()
    yield own
    wait_until(lambda: not marked(own), timeout_s=2, what="no process of the agent is left")


@pytest.mark.alone
@pytest.mark.parametrize("name", _KINDS)
def test_a_faulty_model_is_rolled_back_and_never_loaded_again(
    tmp_path: Path, own: dict[str, str], figures: Figures, name: str
) -> None:
    model, cause = faulty_model(name), _CAUSES[name]
    with _agent(tmp_path, own) as agent:
        with _load(agent) as load:
            wait_until(lambda: load.serves(sha256(_GOOD)), what="the good version answers")
            _drop(agent, model)
            if cause == "crash":
                wait_until(lambda: not agent.is_running(), what="the agent crashes")
                assert agent.process.returncode in (-signal.SIGFPE, -signal.SIGSEGV, -signal.SIGABRT)
                agent.restart()
            _wait_until_over(load, model)
        harm = _Harm.of(load.answers, model)
        _check_reported(agent, model)
        assert f'edge_agent_model_rollbacks_total{{cause="{cause}",model="digits"}} 1.0' in agent.get("/metrics").text
        agent.end()
        agent.restart()
        _check_reported(agent, model)
        assert "version 2 serves" not in agent.log
    figures(f"a model that passes its trial and then {_in_words(name)}", "rolled back", str(harm))


def test_the_agent_keeps_running_if_its_only_model_is_withdrawn(tmp_path: Path, own: dict[str, str]) -> None:
    model = faulty_model("fails")
    agent = _agent(tmp_path, own)
    _drop(agent, model)
    with agent:
        for _ in range(3):
            assert agent.post("/predict", content=digit_png()).status_code == 503
        wait_until(lambda: agent.model()["serving"] is None, what="it is withdrawn")
        _check_without_a_model(agent)
        agent.end()
        agent.restart()
        _check_without_a_model(agent)
        _drop(agent, _GOOD)
        wait_until(lambda: agent.post("/predict", content=digit_png()).is_success, what="the good one serves")


@_traps
def test_a_crashing_model_is_not_loaded_a_fourth_time_if_it_is_the_only_one(
    tmp_path: Path, own: dict[str, str], figures: Figures
) -> None:
    agent = _agent(tmp_path, own)
    _drop(agent, faulty_model("crashes"))
    with agent:
        for _ in range(_STARTS):
            with _load(agent):
                wait_until(lambda: not agent.is_running(), what="the agent crashes")
            assert agent.process.returncode == -signal.SIGFPE
            agent.restart()
        _check_without_a_model(agent)
        assert f"crashed on {_STARTS} consecutive starts" in agent.rejection()
        _drop(agent, _GOOD)
        wait_until(lambda: agent.post("/predict", content=digit_png()).is_success, what="the good one serves")
    figures(
        "the only model crashes the process on each upload",
        f"not loaded after {_STARTS} starts; the agent runs and reports this",
        "503 with an explanation, /healthz 200; the next model serves",
    )


@pytest.mark.alone
def test_a_slow_version_continues_to_serve_if_there_is_no_other(tmp_path: Path, own: dict[str, str]) -> None:
    model = faulty_model("is_slow")
    agent = _agent(tmp_path, own)
    _drop(agent, model)
    with agent, _load(agent, per_s=8) as load:
        wait_until(lambda: "is slow" in agent.log, what="it is found to be slow")
        wait_until(lambda: len(load.answers) > 40, what="it continues to answer")
    assert {answer.sha256 for answer in load.answers} == {sha256(model)}


@pytest.mark.timeout(600)
def test_a_version_that_takes_ten_seconds_per_image_is_rolled_back(
    tmp_path: Path, own: dict[str, str], figures: Figures, scale: Scale
) -> None:
    if not scale.full:
        pytest.skip("it takes minutes: FAULTS=full")
    model = faulty_model("is_very_slow")
    with _agent(tmp_path, own) as agent:
        with _load(agent, per_s=0.5) as load:
            wait_until(lambda: load.serves(sha256(_GOOD)), what="the good version answers")
            _drop(agent, model)
            wait_until(lambda: _is_withdrawn(agent, model), timeout_s=240, what="it is withdrawn")
            _wait_until_over(load, model, timeout_s=200)
        _check_reported(agent, model)
    harm = _Harm.of(load.answers, model)
    figures("a model that passes its trial and then takes 10 s per image", "rolled back", str(harm))


@pytest.mark.timeout(400)
def test_a_version_that_hangs_is_rolled_back_after_the_watchdog_restarts_the_agent(
    tmp_path: Path, own: dict[str, str], figures: Figures, scale: Scale
) -> None:
    if not scale.full:
        pytest.skip("it takes minutes: FAULTS=full")
    model = faulty_model("hangs")
    with NotifySocket() as systemd:
        environment = {**own, "NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": str(int(_WATCHDOG_S * 1e6))}
        with _agent(tmp_path, environment) as agent:
            with _load(agent, per_s=2) as load:
                wait_until(lambda: load.serves(sha256(_GOOD)), what="the good version answers")
                _drop(agent, model)
                wait_until(lambda: not _is_alive(systemd), timeout_s=180, what="the watchdog expires")
                agent.end(signal.SIGABRT)
                agent.restart()
                _wait_until_over(load, model)
            _check_reported(agent, model)
    figures("a model that passes its trial and then hangs", "rolled back", str(_Harm.of(load.answers, model)))


@_traps
@pytest.mark.timeout(200)
def test_a_model_that_crashes_on_a_late_first_image_is_rolled_back(
    tmp_path: Path, own: dict[str, str], scale: Scale
) -> None:
    """A version without a single answer is not proven, however long it has served."""
    if not scale.full:
        pytest.skip("it takes minutes: FAULTS=full")
    model = faulty_model("crashes")
    with _agent(tmp_path, own) as agent:
        wait_until(lambda: _is_serving(agent, _GOOD), what="the good version serves")
        _drop(agent, model)
        wait_until(lambda: _is_serving(agent, model), what="the crashing model serves")
        time.sleep(_PROBATION_S + 6)
        with _load(agent) as load:
            wait_until(lambda: not agent.is_running(), what="the agent crashes")
            agent.restart()
            _wait_until_over(load, model)
        _check_reported(agent, model)


@pytest.mark.alone
@pytest.mark.assets
def test_a_good_version_is_not_rolled_back_because_the_machine_is_busy(
    tmp_path: Path, own: dict[str, str], assets: Path, figures: Figures
) -> None:
    """Other processes use the same processor once the version has passed its trial."""
    published = assets / "models" / "mobilenet_v2_224_uint8" / "mobilenet_v2_1.0_224_quant.tflite"
    old, new = (model_version(published, number) for number in (1, 2))
    processor = str(max(os.sched_getaffinity(0)))
    agent = RunningAgent(tmp_path, environment=own, under=["taskset", "--cpu-list", processor], engine={"workers": 2})
    _drop(agent, old)
    with agent, _load(agent, per_s=5) as load:
        wait_until(lambda: load.serves(sha256(old)), what="the old version answers")
        _drop(agent, new)
        wait_until(lambda: _is_serving(agent, new), what="the new version serves")
        with _busy(processor, others=4):
            wait_until(lambda: not agent.model()["probation"], timeout_s=60, what="its probation is over")
            late_ms = max(answer.took_ms for answer in load.answers)
        assert _is_serving(agent, new)
        assert agent.rejection() == ""
    assert load.failures == []
    figures(
        "a good version on probation, on a processor that four other processes keep busy",
        "not rolled back",
        f"it still serves; the slowest answer took {late_ms:.0f} ms",
    )


@contextmanager
def _busy(processor: str, *, others: int) -> Iterator[None]:
    endless = ["taskset", "--cpu-list", processor, sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(endless) for _ in range(others)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _is_serving(agent: RunningAgent, model: bytes) -> bool:
    serving = agent.model().get("serving") or {}
    return bool(serving.get("sha256") == sha256(model))


def _agent(folder: Path, environment: dict[str, str]) -> RunningAgent:
    """An agent with the good version in its folder."""
    agent = RunningAgent(folder, environment=environment, under=_BOUND, engine={"workers": 2})
    agent.drop(_GOOD)
    return agent


def _load(agent: RunningAgent, *, per_s: float = _PER_S) -> SteadyLoad:
    return SteadyLoad(agent, model="digits", picture=digit_png(), per_s=per_s)


def _drop(agent: RunningAgent, content: bytes) -> None:
    """With its checksum, so the agent need not wait until the file stops changing."""
    agent.drop(content)
    (agent.models / "digits.tflite.sha256").write_text(f"{sha256(content)}  digits.tflite\n")


def _wait_until_over(load: SteadyLoad, model: bytes, *, timeout_s: float = 20) -> None:
    """Until the model was used and the good version has answered ten consecutive uploads after it."""

    def is_over() -> bool:
        answers = load.answers
        last = [answer.sha256 for answer in answers[-10:]]
        return _Harm.of(answers, model).uploads > 0 and last == [sha256(_GOOD)] * 10

    wait_until(is_over, timeout_s=timeout_s, what="the good version answers again")


def _is_alive(systemd: NotifySocket) -> bool:
    """Whether the agent notifies systemd's watchdog in time."""
    try:
        systemd.wait_for("WATCHDOG=1", timeout_s=_WATCHDOG_S)
    except TimeoutError:
        return False
    return True


def _is_withdrawn(agent: RunningAgent, model: bytes) -> bool:
    return any(
        version["sha256"] == sha256(model) and version["state"] == "rejected" for version in agent.model()["versions"]
    )


def _check_reported(agent: RunningAgent, model: bytes) -> None:
    """The status and the note next to the file give the reason; the file is still there."""
    known = agent.model()
    assert known["serving"]["sha256"] == sha256(_GOOD)
    (version,) = (each for each in known["versions"] if each["sha256"] == sha256(model))
    assert version["state"] == "rejected"
    assert version["reason"].startswith(("Version 2 was withdrawn", "The agent crashed"))
    wait_until(lambda: agent.rejection() == version["reason"], what="the rejection gives the reason")
    note = agent.models / "digits.tflite.rejected.txt"
    wait_until(note.is_file, what="the note is written")
    assert note.read_text() == f"{version['reason']}\n"
    assert sha256((agent.models / "digits.tflite").read_bytes()) == sha256(model)


def _check_without_a_model(agent: RunningAgent) -> None:
    refused = agent.post("/predict", content=digit_png())
    assert refused.status_code == 503
    assert refused.json()["error"].endswith(".")
    assert agent.get("/healthz").is_success
    assert agent.get("/readyz").status_code == 503


def _in_words(name: str) -> str:
    return name.replace("_", " ").replace("nan", "NaN")
