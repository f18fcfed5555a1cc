from __future__ import annotations

import time

import numpy as np
import pytest
from agents.heard import Heard

from agent.cameras.pipeline import Pipeline
from agent.classification import Category, Classification, ModelIdentity, Result, Timing
from agent.errors import ModelError, ModelNotFoundError
from agent.image import Frame, Image, image_size
from agent.inference.options import Options
from agent.inference.results import Results

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
    """A data plane that answers what it is told, one after the other, and announces it."""

    def __init__(self, *answers: Classification | Exception) -> None:
        self.answers = list(answers)
        self.heard = Heard()
        self._results = Results(device="d")

    async def classify_frame(self, frame: Frame, options: Options, *, source: str) -> Result:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        result = self._results.record(answer, source=source, captured_ns=frame.captured_ns)
        self.heard.classified(result)
        return result


async def run(
    script: Script, *, max_fps: float = 1000, frames: Frames | None = None, snapshots: bool = False
) -> tuple[Heard, Pipeline]:
    heard = script.heard
    pipeline = Pipeline(
        camera="front",
        source=frames or Frames(len(script.answers)),
        data_plane=script,
        listener=heard,
        options=Options(region=(0.0, 0.0, 0.5, 1.0), rotate=90),
        max_fps=max_fps,
        stable_frames=2,
        snapshots=snapshots,
    )
    await pipeline.run()
    return heard, pipeline


@pytest.mark.anyio
async def test_every_frame_becomes_a_result_of_its_camera() -> None:
    heard, pipeline = await run(Script(*[saying("a")] * 3))
    assert [(r.seq, r.source, r.captured_ns) for r in heard.results] == [
        (1, "front", 2),
        (2, "front", 1),
        (3, "front", 0),
    ]
    assert pipeline.last_frame_ns == 0


@pytest.mark.anyio
async def test_a_label_that_holds_becomes_the_state_once() -> None:
    heard, _ = await run(Script(*map(saying, ["a", "a", "a", "b", "a", "b", "b", "b"])))
    assert [(camera, state.label) for camera, state in heard.states] == [("front", "a"), ("front", "b")]


@pytest.mark.anyio
async def test_a_camera_without_a_model_waits_and_says_so() -> None:
    heard, pipeline = await run(
        Script(ModelNotFoundError("No model is served."), ModelNotFoundError("No model is served."))
    )
    assert pipeline.trouble == "No model is served."
    assert heard.results == []
    heard, pipeline = await run(Script(ModelNotFoundError("No model is served."), saying("a")))
    assert pipeline.trouble is None
    assert len(heard.results) == 1


@pytest.mark.anyio
async def test_a_frame_that_the_model_fails_on_is_trouble_and_not_the_end() -> None:
    heard, pipeline = await run(Script(ModelError("It fails."), saying("a")))
    assert (pipeline.trouble, len(heard.results)) == (None, 1)


@pytest.mark.anyio
async def test_a_bug_ends_the_pipeline_instead_of_hiding() -> None:
    with pytest.raises(ZeroDivisionError):
        await run(Script(ZeroDivisionError()))


@pytest.mark.anyio
async def test_frames_are_read_no_faster_than_max_fps() -> None:
    frames = Frames(6)
    await run(Script(*[saying("a")] * 6), max_fps=100, frames=frames)
    assert frames.read_at_s[-1] - frames.read_at_s[0] >= 5 * 0.01 * 0.99


@pytest.mark.anyio
async def test_each_new_state_has_a_picture_of_what_the_model_saw_where_that_is_asked_for() -> None:
    labels = ["a", "a", "a", "b", "b"]
    assert (await run(Script(*map(saying, labels))))[0].snapshots == []
    heard, _ = await run(Script(*map(saying, labels)), snapshots=True)
    assert [image_size(jpeg) for jpeg in heard.snapshots] == [(40, 30)] * 2
