"""Uses all copy methods at once: a complete file is activated exactly once, a partial one never."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent
from end_to_end.material import model_file, sha256
from faults.copy_methods import IGNORED, REPLACING, CopyJob, hard_link
from faults.drops import Drops
from faults.load import Load
from faults.mutants import patched
from faults.scrape import scraped

from agent.model_file.flatbuffer import Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.copy_methods import CopyMethod
    from faults.figures import Figures
    from faults.scale import Scale

pytestmark = [pytest.mark.minisign, pytest.mark.timeout(300)]

_PAUSES_S = (0.3, 0.3, 1.5, 0.3, 2.0, 0.3, 1.3)
_MORE_PAUSES_S = (*_PAUSES_S, *[0.2] * 30, 3.0, 0.5, 4.0, 0.5, 7.0, 0.5, 2.5)


def _with_other_weights(mask: int) -> bytes:
    """A model of the same length that differs in nearly every block."""
    model = model_file(1)
    start, length = max((span for each in Table.root(model).tables(4) if (span := each.span(0))), key=lambda s: s[1])
    return patched(model, {start: bytes(byte ^ mask for byte in model[start : start + length])})


_OLD, _NEW, _OTHER = model_file(1), _with_other_weights(1), _with_other_weights(2)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The versions of each sha256 that answered, the failed uploads, and the number of admitted files."""

    served: dict[str, set[str]]
    failures: list[str]
    admitted: int


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    folder = tmp_path_factory.mktemp("agent")
    models = {"signatures": "if_present", "trusted_keys": str(folder)}
    with RunningAgent(folder, models=models, engine={"max_waiting": 2 * len(REPLACING)}) as running:
        yield running


@pytest.fixture(scope="module")
def outcomes(
    agent: RunningAgent, tmp_path_factory: pytest.TempPathFactory, scale: Scale, figures: Figures
) -> dict[str, _Outcome]:
    """Each copy method has its own model, with the method's name."""
    pauses_s, names = scale(short=_PAUSES_S, full=_MORE_PAUSES_S), [method.__name__ for method in REPLACING]
    minisig = _signature(_NEW, agent, tmp_path_factory.mktemp("keys"))
    jobs = {method: _job(method, agent, tmp_path_factory, pauses_s, minisig) for method in (*REPLACING, *IGNORED)}
    with Drops(agent) as drops:
        for drop in [drops.put(_OLD, name) for name in names]:
            assert drops.verdict(drop).outcome == "accepted"
        with Load(agent, *names, per_s=5) as load:
            for name in names:
                load.wait_for(sha256(_OLD), name)
            with ThreadPoolExecutor(len(jobs)) as threads:
                for done in [threads.submit(method, job) for method, job in jobs.items()]:
                    done.result()
            for name in names:
                load.wait_for(sha256(_NEW), name)
            jobs[hard_link].source.write_bytes(_OTHER)  # in place, so it changes under both names
            load.wait_for(sha256(_OTHER), hard_link.__name__)
            # Once this file is admitted, the agent has also examined every older file.
            assert drops.verdict(drops.put(_NEW, "last")).outcome == "accepted"
            for name in names:
                load.wait_for_more(1, name)
    loads = scraped(agent, "edge_agent_model_loads_total", result="admitted")
    admitted = {labels["model"]: int(count) for labels, count in loads}
    found = {name: _Outcome(load[name].versions, load[name].failures, admitted[name]) for name in names}
    _report(found, load.total, figures)
    return found


@pytest.mark.parametrize("method", REPLACING)
def test_a_complete_file_is_activated_exactly_once_and_a_partial_one_never(
    outcomes: dict[str, _Outcome], method: CopyMethod
) -> None:
    outcome = outcomes[method.__name__]
    assert outcome.failures == []
    assert outcome.served == _expected(method.__name__)
    assert outcome.admitted == len(outcome.served)


@pytest.mark.parametrize("method", IGNORED)
def test_anything_but_a_plain_file_is_never_tried(
    agent: RunningAgent, outcomes: dict[str, _Outcome], method: CopyMethod
) -> None:
    assert method.__name__ not in {model["name"] for model in agent.json("/v1/models")["models"]}
    assert f"Model file {method.__name__}" not in agent.log
    assert f"Model {method.__name__}" not in agent.log


def _expected(name: str) -> dict[str, set[str]]:
    files = [_OLD, _NEW, _OTHER] if name == hard_link.__name__ else [_OLD, _NEW]
    return {sha256(content): {str(number)} for number, content in enumerate(files, start=1)}


def _job(
    method: CopyMethod,
    agent: RunningAgent,
    folders: pytest.TempPathFactory,
    pauses_s: tuple[float, ...],
    minisig: bytes,
) -> CopyJob:
    folder = folders.mktemp(method.__name__)
    (folder / "new").write_bytes(_NEW)
    (folder / "other").write_bytes(_OTHER)
    return CopyJob(folder / "new", folder / "other", agent.models / f"{method.__name__}.tflite", pauses_s, minisig)


def _signature(content: bytes, agent: RunningAgent, folder: Path) -> bytes:
    public, secret, path = folder / "ours.pub", folder / "ours.key", folder / "model"
    path.write_bytes(content)
    subprocess.run(["minisign", "-G", "-W", "-p", public, "-s", secret], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["minisign", "-S", "-s", secret, "-m", path], check=True, stdout=subprocess.DEVNULL)
    shutil.copy(public, agent.models.parent)
    return path.with_name("model.minisig").read_bytes()


def _report(outcomes: dict[str, _Outcome], requests: int, figures: Figures) -> None:
    once = sum(
        outcome.served == _expected(name) and outcome.admitted == len(outcome.served)
        for name, outcome in outcomes.items()
    )
    failed = sum(len(outcome.failures) for outcome in outcomes.values())
    partial = sum(outcome.served.keys() > _expected(name).keys() for name, outcome in outcomes.items())
    figures(
        f"{len(outcomes)} ways of copying: activated exactly once, partial file served, failed requests",
        f"{len(outcomes)}, 0, 0",
        f"{once}, {partial}, {failed} of {requests}",
    )
