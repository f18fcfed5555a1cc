"""Interruption: a training that is interrupted anywhere leaves no output, and continues to the same result."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
from conversions import QUIET

from converter.errors import ConverterError
from converter.training.checkpoint import Checkpoint
from converter.training.export import write_folder
from converter.training.training import TrainingRequest, train_and_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trainings import Trained

T = TypeVar("T")

pytestmark = [pytest.mark.long, *(pytest.mark.filterwarnings(text) for text in QUIET)]


class _Interrupted:
    """A Track that presses Ctrl-C before the given item of a step, and counts what it saw."""

    def __init__(self, step: str = "", item: int = 0) -> None:
        self._step, self._item = step, item

    def __call__(self, items: Sequence[T], what: str) -> Iterable[T]:
        for number, item in enumerate(items):
            if (what, number) == (self._step, self._item):
                raise KeyboardInterrupt
            yield item

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        if what == self._step:
            raise KeyboardInterrupt
        yield


_POINTS = (
    ("Reading photos", 5),
    ("Comparing photos", 0),
    ("Opening the backbone", 0),
    ("Looking at the photos", 1),
    ("Checking how well the classes are recognized", 1),
    ("Training the head", 0),
    ("Writing the model", 0),
)


def test_ctrl_c_in_each_phase_leaves_nothing_and_continues_to_the_same_result(trained: Trained, tmp_path: Path) -> None:
    """One training is interrupted in each phase in turn, and then ends as the one that was not."""
    request = TrainingRequest(photos=trained.request.photos, output=tmp_path / "shapes", folds=2)
    for step, item in _POINTS:
        with pytest.raises(KeyboardInterrupt):
            train_and_write(request, track=_Interrupted(step, item))
        assert {path.name for path in tmp_path.iterdir()} <= {Checkpoint.folder_of(request.output).name}
    training = train_and_write(request, track=_Interrupted())
    assert training.resumed
    assert training.files == trained.training.files
    assert training.assessment is not None
    assert trained.training.assessment is not None
    assert (training.assessment.scores == trained.training.assessment.scores).all()
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_full_disk_is_one_sentence_and_the_training_continues_later(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TrainingRequest(photos=trained.request.photos, output=tmp_path / "shapes", folds=1)
    fsync, room = os.fsync, [3]

    def full(descriptor: int) -> None:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= 1
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ConverterError, match=r"cannot be written: No space left on device\. Make room"):
            train_and_write(request, track=_Interrupted())
        assert not request.output.exists()
    assert train_and_write(request, track=_Interrupted()).files == trained.training.files


def test_full_disk_while_writing_the_model_leaves_the_old_one(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "shapes"
    write_folder(output, {"saved_model.pb": b"old"})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ConverterError, match="cannot be written: No space left on device"):
            write_folder(output, trained.training.files)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]
    assert (output / "saved_model.pb").read_bytes() == b"old"


def test_a_changed_photo_starts_over(trained: Trained, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / ".m.training", key="one")
    checkpoint.save("step", {"a": trained.training.scores})
    assert Checkpoint(tmp_path / ".m.training", key="one").load("step") is not None
    assert Checkpoint(tmp_path / ".m.training", key="other").load("step") is None


@pytest.mark.parametrize("length", [0, 10, -20])
def test_a_damaged_step_is_done_again(trained: Trained, tmp_path: Path, length: int) -> None:
    """A power cut cannot leave one, but a bad disk can."""
    checkpoint = Checkpoint(tmp_path / ".m.training", key="one")
    checkpoint.save("step", {"a": trained.training.scores})
    path = tmp_path / ".m.training" / "step.npz"
    path.write_bytes(path.read_bytes()[:length])
    assert checkpoint.load("step") is None
