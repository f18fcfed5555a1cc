from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.clock import UnixClock
from agents.heard import Heard

from agent.cameras.pipeline import Pipeline
from agent.cameras.state import StableLabel
from agent.cameras.view import Outcome, View
from agent.classification import Category, Classification, ModelIdentity, Result, Spot, Timing
from agent.errors import ImageDamagedError, ModelError, ModelNotFoundError
from agent.frame import Frame
from agent.framing import Framing
from agent.host.throttling import never
from agent.image import Image, image_size
from agent.inference.options import Options
from agent.inference.results import Results
from agent.runtimes.scores import Scores

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = ModelIdentity("m", 1, "00" * 32)
NO_SCORES = Scores(np.zeros(0, np.float32), (), scale=0.0, zero_point=0, are_logits=False)


def classification_of(label: str | None, score: float = 0.9) -> Classification:
    categories = () if label is None else (Category(0, label, score),)
    return Classification(MODEL, categories, Timing(0, 0, 0, 0))


class Frames:
    """A source of `count` frames, each available at once."""

    has_own_pace = False

    def __init__(self, count: int) -> None:
        self.left = count
        self.read_at_s: list[float] = []

    async def read(self) -> Frame | None:
        if not self.left:
            return None
        self.left -= 1
        self.read_at_s.append(time.monotonic())
        return Frame(Image(np.zeros((40, 60, 3), np.uint8)), captured_ns=self.left)


class AnsweredFrames(Frames):
    """A source that must learn what came of each frame."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.outcomes: list[Outcome] = []

    async def done(self, outcomes: Mapping[str | None, Outcome]) -> None:
        self.outcomes.extend(outcomes.values())


class Script:
    """A data plane that gives the listed answers one after the other, and announces them."""

    def __init__(self, *answers: Classification | Exception) -> None:
        self.answers = list(answers)
        self.heard = Heard()
        self.shown: list[Frame] = []
        self._results = Results(device="d", clock=UnixClock())

    def show(self, frame: Frame) -> None:
        self.shown.append(frame)

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        result = self._results.record(answer, spot=spot, captured_ns=frame.captured_ns)
        self.heard.classified(result)
        return result, NO_SCORES


def pipeline_of(script: Script, source: Frames, *, max_fps: float = 1000, snapshots: bool = False) -> Pipeline:
    view = View(
        Spot("front"),
        Options(framing=Framing((0.0, 0.0, 0.5, 1.0), rotate=90)),
        data_plane=script,
        listener=script.heard,
        stable=StableLabel(frames=2),
        pictures=script,
        snapshots=snapshots,
    )
    return Pipeline(source=source, views=[view], max_fps=max_fps, is_throttled=never)


async def run(
    script: Script, *, max_fps: float = 1000, frames: Frames | None = None, snapshots: bool = False
) -> tuple[Heard, Pipeline]:
    pipeline = pipeline_of(script, frames or Frames(len(script.answers)), max_fps=max_fps, snapshots=snapshots)
    await pipeline.run()
    return script.heard, pipeline


@pytest.mark.anyio
async def test_pipeline_makes_a_result_of_every_frame() -> None:
    heard, pipeline = await run(Script(*[classification_of("a")] * 3))
    assert [(r.seq, r.source, r.captured_ns) for r in heard.results] == [
        (1, "front", 2),
        (2, "front", 1),
        (3, "front", 0),
    ]
    assert pipeline.last_frame_ns == 0


@pytest.mark.anyio
async def test_pipeline_announces_a_stable_label_once() -> None:
    heard, _ = await run(Script(*map(classification_of, ["a", "a", "a", "b", "a", "b", "b", "b"])))
    assert [(spot.camera, state.label) for spot, state in heard.states] == [("front", "a"), ("front", "b")]


@pytest.mark.anyio
async def test_pipeline_waits_and_reports_trouble_when_its_model_is_missing() -> None:
    heard, pipeline = await run(
        Script(ModelNotFoundError("No model is served."), ModelNotFoundError("No model is served."))
    )
    assert pipeline.trouble == "No model is served."
    assert heard.results == []
    heard, pipeline = await run(Script(ModelNotFoundError("No model is served."), classification_of("a")))
    assert pipeline.trouble is None
    assert len(heard.results) == 1


@pytest.mark.anyio
async def test_pipeline_continues_when_the_model_fails_on_a_frame() -> None:
    heard, pipeline = await run(Script(ModelError("The runtime fails."), classification_of("a")))
    assert (pipeline.trouble, len(heard.results)) == (None, 1)


@pytest.mark.anyio
async def test_pipeline_skips_a_damaged_picture_of_the_camera() -> None:
    heard, pipeline = await run(Script(ImageDamagedError("The image is damaged."), classification_of("a")))
    assert (pipeline.trouble, len(heard.results)) == (None, 1)


@pytest.mark.anyio
async def test_pipeline_raises_unexpected_errors() -> None:
    with pytest.raises(ZeroDivisionError):
        await run(Script(ZeroDivisionError()))


@pytest.mark.anyio
async def test_pipeline_ignores_max_fps_when_the_source_has_its_own_pace() -> None:
    frames = Frames(3)
    frames.has_own_pace = True
    await run(Script(*[classification_of("a")] * 3), max_fps=0.01, frames=frames)
    assert frames.read_at_s[-1] - frames.read_at_s[0] < 50


@pytest.mark.anyio
async def test_pipeline_reads_frames_no_faster_than_max_fps() -> None:
    frames = Frames(6)
    await run(Script(*[classification_of("a")] * 6), max_fps=100, frames=frames)
    assert frames.read_at_s[-1] - frames.read_at_s[0] >= 5 * 0.01 * 0.99


@pytest.mark.anyio
async def test_pipeline_announces_a_picture_of_the_region_when_snapshots_are_enabled() -> None:
    labels = ["a", "a", "a", "b", "b"]
    assert (await run(Script(*map(classification_of, labels))))[0].snapshots == []
    heard, _ = await run(Script(*map(classification_of, labels)), snapshots=True)
    assert [image_size(jpeg) for jpeg in heard.snapshots] == [(40, 30)] * 2


class CutFrames(Frames):
    """JPEGs that end before their last bytes, which only a picture of the whole size needs."""

    async def read(self) -> Frame | None:
        if (frame := await super().read()) is None:
            return None
        noise = np.random.default_rng(0).integers(0, 255, (64, 96), np.uint8)
        jpeg = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes()
        return replace(frame, picture=jpeg[:-5])


@pytest.mark.anyio
async def test_pipeline_goes_on_when_a_picture_is_too_damaged_for_a_snapshot() -> None:
    frames = CutFrames(3)
    small = await CutFrames(1).read()
    assert small is not None
    assert small.image(8).width == 12  # what a model sees
    heard, _ = await run(Script(*map(classification_of, "aaa")), frames=frames, snapshots=True)
    assert (len(heard.results), heard.snapshots) == (3, [])


@pytest.mark.anyio
async def test_pipeline_says_what_came_of_each_frame_to_a_source_that_must_know() -> None:
    frames, damaged, failed = AnsweredFrames(3), ImageDamagedError("It is damaged."), ModelError("The runtime fails.")
    heard, pipeline = await run(Script(classification_of("a"), damaged, failed), frames=frames)
    assert frames.outcomes == [*heard.results, damaged, failed]
    assert pipeline.trouble is None


@pytest.mark.anyio
async def test_pipeline_reports_that_an_answered_source_waits_for_a_model() -> None:
    missing = ModelNotFoundError("No model is served.")
    _, pipeline = await run(Script(missing), frames=AnsweredFrames(1))
    assert pipeline.trouble == "No model is served."


@pytest.mark.anyio
@pytest.mark.parametrize(("source", "is_idle"), [(Frames, False), (AnsweredFrames, True)])
async def test_pipeline_is_idle_only_while_its_source_may_have_no_frame(source: type[Frames], is_idle: bool) -> None:  # noqa: FBT001
    seen: list[bool] = []

    class Watched(source):  # type: ignore[misc, valid-type]  # each kind
        async def read(self) -> Frame | None:
            seen.append(pipeline.is_idle)
            return await super().read()  # type: ignore[no-any-return]

    script = Script(classification_of("a"))
    pipeline = pipeline_of(script, Watched(1))
    await pipeline.run()
    assert seen == [is_idle, is_idle]
    assert not pipeline.is_idle


@pytest.mark.anyio
async def test_frames_are_shown_with_and_without_a_model_but_not_if_they_are_damaged() -> None:
    script = Script(ModelNotFoundError("No model is served."), ImageDamagedError("Damaged."), classification_of("a"))
    await run(script)
    assert [frame.captured_ns for frame in script.shown] == [2, 0]
