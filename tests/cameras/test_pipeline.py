from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from agent.cameras.pipeline import Pipeline, StableLabel
from agent.classification import Category, Classification, ModelIdentity, Result, ResultLog, StableState, Timing
from agent.errors import ModelError, ModelNotFoundError
from agent.image import Frame, Image, image_size
from agent.inference.engine import View

MODEL = ModelIdentity("m", 1, "00" * 32)


def saying(label: str | None, score: float = 0.9) -> Classification:
    categories = () if label is None else (Category(0, label, score),)
    return Classification(MODEL, categories, Timing(0, 0, 0, 0))


class Frames:
    """A source that gives as many frames as it is told, each as soon as it is asked for."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.read_at_s: list[float] = []

    async def read(self) -> Frame | None:
        if not self.left:
            return None
        self.left -= 1
        self.read_at_s.append(time.monotonic())
        return Frame(Image(np.zeros((40, 60, 3), np.uint8)), captured_ns=self.left)


class Script:
    """An engine that answers what it is told, one after the other."""

    def __init__(self, *answers: Classification | Exception) -> None:
        self.answers = list(answers)

    async def classify_frame(self, frame: Frame, view: View, *, source: str) -> Classification:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Book:
    """A publisher that writes down what it gets."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.states: list[tuple[str, StableState]] = []
        self.snapshots: list[bytes] = []

    def publish_result(self, result: Result, *, camera: bool) -> None:
        assert camera
        self.results.append(result)

    def publish_state(self, camera: str, state: StableState) -> None:
        self.states.append((camera, state))

    def publish_snapshot(self, camera: str, jpeg: bytes) -> None:
        self.snapshots.append(jpeg)


def run(
    script: Script, *, max_fps: float = 1000, frames: Frames | None = None, snapshots: bool = False
) -> tuple[Book, Pipeline]:
    book = Book()
    pipeline = Pipeline(
        camera="front",
        source=frames or Frames(len(script.answers)),
        engine=script,
        publisher=book,
        results=ResultLog(device="d"),
        view=View(region=(0.0, 0.0, 0.5, 1.0), rotate=90),
        max_fps=max_fps,
        stable_frames=2,
        snapshots=snapshots,
    )
    asyncio.run(pipeline.run())
    return book, pipeline


def test_every_frame_becomes_a_result_of_its_camera() -> None:
    book, pipeline = run(Script(*[saying("a")] * 3))
    assert [(r.seq, r.source, r.captured_ns) for r in book.results] == [
        (1, "front", 2),
        (2, "front", 1),
        (3, "front", 0),
    ]
    assert pipeline.last_frame_ns == 0


def test_a_label_that_holds_becomes_the_state_once() -> None:
    book, _ = run(Script(*map(saying, ["a", "a", "a", "b", "a", "b", "b", "b"])))
    assert [(camera, state.label) for camera, state in book.states] == [("front", "a"), ("front", "b")]


def test_a_camera_without_a_model_waits_and_says_so() -> None:
    book, pipeline = run(Script(ModelNotFoundError("No model is served."), ModelNotFoundError("No model is served.")))
    assert pipeline.trouble == "No model is served."
    assert book.results == []
    book, pipeline = run(Script(ModelNotFoundError("No model is served."), saying("a")))
    assert pipeline.trouble is None
    assert len(book.results) == 1


def test_a_frame_that_the_model_fails_on_is_trouble_and_not_the_end() -> None:
    book, pipeline = run(Script(ModelError("It fails."), saying("a")))
    assert (pipeline.trouble, len(book.results)) == (None, 1)


def test_a_bug_ends_the_pipeline_instead_of_hiding() -> None:
    with pytest.raises(ZeroDivisionError):
        run(Script(ZeroDivisionError()))


def test_frames_are_read_no_faster_than_max_fps() -> None:
    frames = Frames(6)
    run(Script(*[saying("a")] * 6), max_fps=100, frames=frames)
    assert frames.read_at_s[-1] - frames.read_at_s[0] >= 5 * 0.01 * 0.99


def test_each_new_state_has_a_picture_of_what_the_model_saw_where_that_is_asked_for() -> None:
    labels = ["a", "a", "a", "b", "b"]
    assert run(Script(*map(saying, labels)))[0].snapshots == []
    book, _ = run(Script(*map(saying, labels)), snapshots=True)
    assert [image_size(jpeg) for jpeg in book.snapshots] == [(40, 30)] * 2


def observe(labels: list[str | None], *, frames: int) -> list[tuple[int, str | None, int]]:
    stable = StableLabel(frames=frames)
    changes = [(at, stable.observe(saying(label), at)) for at, label in enumerate(labels)]
    return [(at, state.label, state.since_ns) for at, state in changes if state is not None]


def test_the_state_dates_from_the_first_frame_that_showed_it() -> None:
    assert observe(["a", "a", "a", "b", "b", "b"], frames=3) == [(2, "a", 0), (5, "b", 3)]


def test_another_version_with_the_same_label_is_a_new_state() -> None:
    stable = StableLabel(frames=1)
    newer = Classification(ModelIdentity("m", 2, "11" * 32), (Category(0, "a", 0.9),), Timing(0, 0, 0, 0))
    assert stable.observe(saying("a"), 0) is not None
    assert stable.observe(saying("a"), 1) is None
    state = stable.observe(newer, 2)
    assert state is not None
    assert (state.label, state.model.version) == ("a", 2)


def test_a_flicker_changes_nothing() -> None:
    assert observe(["a", "a", "b", "a", "a", "b", "a"], frames=2) == [(1, "a", 0)]


def test_nothing_above_the_threshold_is_a_state_of_its_own() -> None:
    assert observe([None, None, "a", "a", None, None], frames=2) == [(1, None, 0), (3, "a", 2), (5, None, 4)]


def test_one_stable_frame_reports_every_change() -> None:
    assert observe(["a", "b", "b", "a"], frames=1) == [(0, "a", 0), (1, "b", 1), (3, "a", 3)]
