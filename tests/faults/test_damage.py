"""The dropped file, the store's copy of it and the history are damaged while the agent runs, and before it starts."""

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
    """In place and in its length: whoever has mapped it reads zeros now."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


def _truncate(path: Path) -> None:
    """Whoever has mapped it gets SIGBUS."""
    os.truncate(path, 100)


def _unlink(path: Path) -> None:
    path.unlink()


def _replace_by_garbage(path: Path) -> None:
    aside = path.with_name(".garbage")
    aside.write_bytes(random.Random(0).randbytes(50_000))
    aside.replace(path)


_DAMAGES: tuple[Damage, ...] = (_overwrite, _truncate, _unlink, _replace_by_garbage)


@dataclass(frozen=True, slots=True)
class _Case:
    """A model of its own for each damage to each of its two files."""

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


def test_damaged_files_do_not_change_an_answer_and_are_made_good_at_the_next_start(
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
        f"{len(_CASES)} damages to the dropped file or the store's copy, while it answers", "no changed answer", "none"
    )
    with RunningAgent(tmp_path, models=config) as agent:
        for case in _CASES:
            assert _serves(agent, case.model, case.content), f"{case.model} does not serve"
    figures("... after a restart", f"{len(_CASES)} serve", f"{len(_CASES)}")


def _harm_while_it_answers(case: _Case, agent: RunningAgent, folder: Path, inferences: int) -> None:
    with Load(agent, case.model, per_s=1000) as load:
        load.wait_for_more(inferences // 10, case.model)
        case.harm(folder)
        load.wait_for_more(inferences, case.model)
    assert load[case.model].failures == []
    assert load[case.model].versions == {sha256(case.content): {"1"}}
    assert load[case.model].unsteady == set()


def test_an_old_version_whose_copy_was_damaged_serves_when_it_is_dropped_again(tmp_path: Path) -> None:
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


def test_a_damaged_history_keeps_nobody_from_starting(tmp_path: Path, figures: Figures, scale: Scale) -> None:
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    with RunningAgent(pristine) as agent, Drops(agent) as drops:
        assert drops.verdict(drops.put(model_file(1), "digits")).outcome == "accepted"
        agent.end()
    history = (pristine / "state" / "models" / "history.json").read_bytes()
    damaged = [*_blunt(history), *_flipped(history, scale(short=20, full=200))]
    folders = [tmp_path / str(number) for number in range(len(damaged))]
    with ThreadPoolExecutor(_STARTS_AT_ONCE) as hands:
        troubles = [trouble for trouble in hands.map(_trouble, itertools.repeat(pristine), folders, damaged) if trouble]
    figures(
        f"{len(damaged)} damages to history.json, then a start: the model serves",
        f"{len(damaged)}",
        f"{len(damaged) - len(troubles)}",
    )
    assert troubles == []


def _blunt(history: bytes) -> list[bytes | None]:
    """None stands for a folder in its place."""
    cut = [history[: len(history) * part // 8] for part in range(8)]
    return [*cut, history[:-1], bytes(len(history)), history + history, b"null", b"[]", b"{}", b"\xff\xfe", None]


def _flipped(history: bytes, count: int) -> Iterator[bytes]:
    chance = random.Random(0)
    for _ in range(count):
        at = chance.randrange(len(history))
        yield patched(history, {at: bytes([history[at] ^ 1 << chance.randrange(8)])})


def _trouble(pristine: Path, folder: Path, history: bytes | None) -> str:
    """What is wrong when an agent starts with that history and the same drop folder, "" where nothing is."""
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
    """Now, or once it has settled and is tried."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: agent.model(model).get("serving") or agent.rejection(model), what=f"{model} serves")
    serving = agent.model(model).get("serving")
    return serving is not None and serving["sha256"] == sha256(content)
