"""Damages the dropped file, the stored copy and the history, while the agent runs and before it starts."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import model_file, sha256
from faults.drops import Drops
from faults.load import Load
from faults.mutants import patched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faults.figures import Figures
    from faults.scale import Scale

Damage: TypeAlias = "Callable[[Path], None]"

pytestmark = pytest.mark.timeout(1200)

_STARTS_AT_ONCE = 3


def _overwrite(path: Path) -> None:
    """In place, with the same length: a process that maps the file reads zeros."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


def _truncate(path: Path) -> None:
    """A process that maps the file gets SIGBUS."""
    os.truncate(path, 100)


def _unlink(path: Path) -> None:
    path.unlink()


def _replace_by_garbage(path: Path) -> None:
    garbage = path.with_name(".garbage")
    garbage.write_bytes(random.Random(0).randbytes(50_000))
    garbage.replace(path)


_DAMAGES: tuple[Damage, ...] = (_overwrite, _truncate, _unlink, _replace_by_garbage)


@dataclass(frozen=True, slots=True)
class _Case:
    """One kind of damage to one of a model's two files; each case has its own model."""

    number: int
    damage: Damage
    of_copy: bool

    @property
    def model(self) -> str:
        return f"{'copy' if self.of_copy else 'drop'}{self.damage.__name__}"

    @property
    def content(self) -> bytes:
        return model_file(self.number)

    def harm(self, folder: Path) -> None:
        copy = folder / "state" / "models" / "copies" / f"{sha256(self.content)}.tflite"
        self.damage(copy if self.of_copy else folder / "models" / f"{self.model}.tflite")


_CASES = [
    _Case(number, damage, of_copy)
    for number, (damage, of_copy) in enumerate((damage, of_copy) for of_copy in (False, True) for damage in _DAMAGES)
]


def test_damaged_files_change_no_answer_and_are_repaired_at_the_next_start(
    tmp_path: Path, figures: Figures, scale: Scale
) -> None:
    config = {"retire_after_s": 3600}
    with RunningAgent(tmp_path, models=config) as agent, Drops(agent) as drops:
        for drop in [drops.put(case.content, case.model) for case in _CASES]:
            assert drops.verdict(drop).outcome == "accepted"
        for case in _CASES:
            _harm_while_it_answers(case, agent, tmp_path, scale(short=100, full=1000))
        agent.end()
    figures(
        f"{len(_CASES)} kinds of damage to the dropped file or the stored copy while it answers",
        "no changed answer",
        "none",
    )
    with RunningAgent(tmp_path, models=config) as agent:
        for case in _CASES:
            assert _serves(agent, case.model, case.content), f"{case.model} does not serve"
    figures("... models that serve after a restart", f"{len(_CASES)}", f"{len(_CASES)}")


def _harm_while_it_answers(case: _Case, agent: RunningAgent, folder: Path, inferences: int) -> None:
    with Load(agent, case.model, per_s=1000) as load:
        load.wait_for_more(inferences // 10, case.model)
        case.harm(folder)
        load.wait_for_more(inferences, case.model)
    assert load[case.model].failures == []
    assert load[case.model].versions == {sha256(case.content): {"1"}}
    assert load[case.model].unsteady == set()


def test_an_old_version_with_a_damaged_copy_serves_when_it_is_dropped_again(tmp_path: Path) -> None:
    old, new = model_file(1), model_file(2)
    with RunningAgent(tmp_path) as agent, Drops(agent) as drops:
        for content in (old, new):
            assert drops.verdict(drops.put(content, "digits")).outcome == "accepted"
        _overwrite(tmp_path / "state" / "models" / "copies" / f"{sha256(old)}.tflite")
        drops.put(old, "digits", with_checksum=True)
        wait_until(
            lambda: agent.model()["serving"]["sha256"] == sha256(old) or agent.rejection(),
            what="the old version serves or is refused",
        )
        assert agent.rejection() == ""


def test_the_agent_starts_and_serves_with_a_damaged_history(tmp_path: Path, figures: Figures, scale: Scale) -> None:
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    with RunningAgent(pristine) as agent, Drops(agent) as drops:
        assert drops.verdict(drops.put(model_file(1), "digits")).outcome == "accepted"
        agent.end()
    history = (pristine / "state" / "models" / "history.json").read_bytes()
    damaged = [*_grossly_damaged(history), *_flipped(history, scale(short=20, full=200))]
    folders = [tmp_path / str(number) for number in range(len(damaged))]
    with ThreadPoolExecutor(_STARTS_AT_ONCE) as threads:
        failures = [
            failure for failure in threads.map(_failure, itertools.repeat(pristine), folders, damaged) if failure
        ]
    figures(
        f"{len(damaged)} damaged copies of history.json, a start with each: the model serves",
        f"{len(damaged)}",
        f"{len(damaged) - len(failures)}",
    )
    assert failures == []


def _grossly_damaged(history: bytes) -> list[bytes | None]:
    """None means a folder in its place."""
    cut = [history[: len(history) * part // 8] for part in range(8)]
    return [*cut, history[:-1], bytes(len(history)), history + history, b"null", b"[]", b"{}", b"\xff\xfe", None]


def _flipped(history: bytes, count: int) -> Iterator[bytes]:
    chance = random.Random(0)
    for _ in range(count):
        at = chance.randrange(len(history))
        yield patched(history, {at: bytes([history[at] ^ 1 << chance.randrange(8)])})


def _failure(pristine: Path, folder: Path, history: bytes | None) -> str:
    """Starts an agent with that history and the same drop folder; returns the error, or "" if the model serves."""
    shutil.copytree(pristine / "state", folder / "state")
    path = folder / "state" / "models" / "history.json"
    path.unlink()
    if history is None:
        path.mkdir()
    else:
        path.write_bytes(history)
    try:
        with RunningAgent(folder, models={"folder": str(pristine / "models")}) as agent:
            return "" if _serves(agent, "digits", model_file(1)) else f"it does not serve: {history!r}\n{agent.log}"
    except AssertionError as error:
        return f"{error}: {history!r}"


def _serves(agent: RunningAgent, model: str, content: bytes) -> bool:
    """Whether it serves, once the agent has examined it."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: agent.model(model).get("serving") or agent.rejection(model), what=f"{model} serves")
    serving = agent.model(model).get("serving")
    return serving is not None and serving["sha256"] == sha256(content)
