from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.fake_agent import FakeModels, served
from agents.models_on_disk import DIGIT_LABELS, digits, photo_of_3

from agent.errors import (
    AgentError,
    BusyError,
    ImageDamagedError,
    ImageFormatError,
    ImageTooLargeError,
    ModelNotFoundError,
    NotFiniteError,
)
from agent.image import Frame, Image, decode
from agent.inference import engine as engine_module
from agent.inference.engine import InferenceEngine, View
from agent.runtimes.tflite import TFLiteClassifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.classification import Classification

FRAME = Frame(photo_of_3(), captured_ns=0)
JPEG = cv2.imencode(".jpg", photo_of_3().pixels)[1].tobytes()
DIGIT = View("digits")
OTHER_LABELS = tuple("abcdefghij")


class Served(FakeModels):
    """The digits, swapped by the test."""

    def __init__(self, *, workers: int) -> None:
        super().__init__()
        self._workers = workers

    def swap(self, *, version: int, labels: Sequence[str] = DIGIT_LABELS) -> None:
        self.served["digits"] = served(digits(str(version), labels=labels), version, workers=self._workers)

    def try_out(self, *, version: int, labels: Sequence[str] = DIGIT_LABELS) -> None:
        """From now on uploads that ask for no version get this one."""
        self.canaries["digits"] = served(digits(str(version), labels=labels), version, workers=self._workers)


class Outcomes:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, Classification | AgentError]] = []

    def __call__(self, source: str, model: str | None, outcome: Classification | AgentError) -> None:
        self.seen.append((source, model, outcome))


class Running:
    """An engine over the digits, with a way to keep its workers busy."""

    def __init__(self, engine: InferenceEngine, models: Served, outcomes: Outcomes) -> None:
        self.engine = engine
        self.models = models
        self.outcomes = outcomes
        self._release = threading.Event()

    def occupy(self) -> None:
        """Every worker stands still until release()."""
        arrived = threading.Barrier(self.engine.workers + 1)

        def stand_still() -> None:
            arrived.wait(10)
            self._release.wait(10)

        for _ in range(self.engine.workers):
            self.engine._pool.submit(stand_still)
        arrived.wait(10)

    def release(self) -> None:
        self._release.set()

    async def upload(self, content: bytes = JPEG, view: View = DIGIT) -> Classification:
        return await self.engine.classify_upload(content, view)

    async def frame(self, view: View = DIGIT, frame: Frame = FRAME) -> Classification:
        return await self.engine.classify_frame(frame, view, source="camera")


@asynccontextmanager
async def running(*, workers: int = 1, max_waiting: int = 2, max_pixels: int = 1 << 26) -> AsyncIterator[Running]:
    models, outcomes = Served(workers=workers), Outcomes()
    models.swap(version=1)
    engine = InferenceEngine(
        models=models, workers=workers, max_waiting=max_waiting, max_pixels=max_pixels, on_outcome=outcomes
    )
    run = Running(engine, models, outcomes)
    try:
        yield run
    finally:
        run.release()
        engine.close()


async def started(*tasks: asyncio.Task[Classification]) -> None:
    """Every task has come to its first wait."""
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


def label(classification: Classification) -> str:
    return classification.categories[0].label


def test_upload_and_frame_get_the_same_answer() -> None:
    async def scenario() -> None:
        async with running() as run:
            upload, frame = await run.upload(), await run.frame()
            assert label(upload) == label(frame) == "3"
            assert upload.model == frame.model == run.models.get("digits").identity
            assert upload.timing.decode > 0
            assert frame.timing.decode == 0
            for timing in (upload.timing, frame.timing):
                assert timing.total >= timing.decode + timing.preprocess + timing.invoke > 0

    asyncio.run(scenario())


def test_every_outcome_is_reported_with_its_source() -> None:
    async def scenario() -> None:
        async with running() as run:
            good = [await run.upload(), await run.frame()]
            with pytest.raises(ImageFormatError):
                await run.upload(b"text")
            with pytest.raises(ModelNotFoundError):
                await run.frame(View("cats"))
            assert run.outcomes.seen[:2] == [("upload", "digits", good[0]), ("camera", "digits", good[1])]
            assert [(s, m, type(o)) for s, m, o in run.outcomes.seen[2:]] == [
                ("upload", "digits", ImageFormatError),
                ("camera", "cats", ModelNotFoundError),
            ]

    asyncio.run(scenario())


def test_cameras_keep_to_the_stable_version_while_uploads_try_the_canary() -> None:
    async def scenario() -> None:
        async with running() as run:
            run.models.try_out(version=2, labels=OTHER_LABELS)
            assert label(await run.upload()) == "d"
            assert label(await run.frame()) == "3"

    asyncio.run(scenario())


def test_version_that_was_asked_for_answers() -> None:
    async def scenario() -> None:
        async with running() as run:
            run.models.try_out(version=2, labels=OTHER_LABELS)
            stable, canary = View("digits", version="stable"), View("digits", version="canary")
            assert [label(await run.upload(view=stable)), label(await run.frame(stable))] == ["3", "3"]
            assert [label(await run.upload(view=canary)), label(await run.frame(canary))] == ["d", "d"]
            with pytest.raises(ModelNotFoundError):
                await run.upload(view=View("digits", version="9"))

    asyncio.run(scenario())


def test_models_hear_on_the_loop_what_came_of_each_call() -> None:
    async def scenario() -> None:
        async with running() as run:
            first, second = await run.upload(), await run.frame()
            assert run.models.observed == [(1, first), (1, second)]
            assert run.models.observing_threads == {threading.current_thread()}
            assert run.outcomes.seen == [("upload", "digits", first), ("camera", "digits", second)]

    asyncio.run(scenario())


def test_models_hear_of_a_model_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    error = NotFiniteError("The model answers with NaN.")

    def fail(*_: object, **__: object) -> None:
        raise error

    async def scenario() -> None:
        async with running() as run:
            for call in (run.upload, run.frame):
                with pytest.raises(NotFiniteError):
                    await call()
            assert run.models.observed == [(1, error), (1, error)]
            assert run.outcomes.seen == [("upload", "digits", error), ("camera", "digits", error)]

    monkeypatch.setattr(TFLiteClassifier, "classify", fail)
    asyncio.run(scenario())


def test_models_do_not_hear_of_bad_images_and_full_lines() -> None:
    async def scenario() -> None:
        async with running(max_waiting=0) as run:
            with pytest.raises(ImageFormatError):
                await run.upload(b"text")
            with pytest.raises(ImageDamagedError):
                await run.upload(JPEG[:500])
            run.occupy()
            waiting = asyncio.create_task(run.upload())
            await started(waiting)
            with pytest.raises(BusyError):
                await run.upload()
            assert run.models.observed == []
            run.release()
            await waiting

    asyncio.run(scenario())


def test_upload_beyond_the_line_is_refused_at_once() -> None:
    async def scenario() -> None:
        async with running(workers=2, max_waiting=3) as run:
            run.occupy()
            line = [asyncio.create_task(run.upload()) for _ in range(5)]
            await started(*line)
            begun_s = time.monotonic()
            with pytest.raises(BusyError, match="All 5 places in line are taken") as caught:
                await run.upload()
            assert time.monotonic() - begun_s < 1
            assert caught.value.retry_after_s == 1
            run.release()
            assert [label(each) for each in await asyncio.gather(*line)] == ["3"] * 5
            assert label(await run.upload()) == "3"  # the places are free again

    asyncio.run(scenario())


def test_frame_is_never_refused_for_want_of_a_place() -> None:
    async def scenario() -> None:
        async with running(max_waiting=0) as run:
            run.occupy()
            line = [asyncio.create_task(run.upload()), *(asyncio.create_task(run.frame()) for _ in range(5))]
            await started(*line)
            with pytest.raises(BusyError):
                await run.upload()
            run.release()
            assert [label(each) for each in await asyncio.gather(*line)] == ["3"] * 6

    asyncio.run(scenario())


def test_place_of_a_caller_who_left_or_failed_is_free_again() -> None:
    async def scenario() -> None:
        async with running(max_waiting=0) as run:
            for content in (b"text", JPEG[:500]):
                with pytest.raises(AgentError):
                    await run.upload(content)
            with pytest.raises(ModelNotFoundError):
                await run.upload(JPEG, View("cats"))
            run.occupy()
            left = asyncio.create_task(run.upload())
            await started(left)
            left.cancel()
            with pytest.raises(asyncio.CancelledError):
                await left
            line = asyncio.create_task(run.upload())
            await started(line)
            run.release()
            assert label(await line) == "3"

    asyncio.run(scenario())


def test_uploads_are_decoded_in_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def noted(content: bytes, *, max_pixels: int, smallest_side: int | None) -> Image:
        threads.append(threading.current_thread().name)
        assert smallest_side == 32
        return decode(content, max_pixels=max_pixels, smallest_side=smallest_side)

    async def scenario() -> None:
        async with running(workers=2) as run:
            await asyncio.gather(*(run.upload() for _ in range(4)))

    monkeypatch.setattr(engine_module, "decode", noted)
    asyncio.run(scenario())
    assert len(threads) == 4
    assert all(name.startswith("worker") for name in threads)


def test_loop_goes_on_while_the_workers_work() -> None:
    async def scenario() -> None:
        async with running() as run:
            run.occupy()
            waiting = asyncio.create_task(run.frame())
            for _ in range(100):
                await started(waiting)
            run.release()
            await waiting

    asyncio.run(scenario())


def test_upload_above_the_pixel_limit_is_refused() -> None:
    async def scenario() -> None:
        async with running(max_pixels=100) as run:
            with pytest.raises(ImageTooLargeError, match="at most 100 pixels"):
                await run.upload()

    asyncio.run(scenario())


def test_version_taken_at_the_start_is_kept_to_the_end() -> None:
    async def scenario() -> None:
        async with running() as run:
            run.occupy()
            before = [asyncio.create_task(run.upload()), asyncio.create_task(run.frame())]
            await started(*before)
            run.models.swap(version=2, labels=OTHER_LABELS)
            after = [asyncio.create_task(run.upload()), asyncio.create_task(run.frame())]
            await started(*after)
            run.release()
            answers = await asyncio.gather(*before, *after)
            assert [(each.model.version, label(each)) for each in answers] == [(1, "3"), (1, "3"), (2, "d"), (2, "d")]
            assert answers[0].model.sha256 != answers[2].model.sha256

    asyncio.run(scenario())


def test_many_callers_across_many_swaps_get_labels_of_the_version_they_are_told() -> None:
    async def scenario() -> None:
        async with running(workers=2, max_waiting=100) as run:
            tasks = []
            for version in range(2, 12):
                tasks += [asyncio.create_task(run.upload()), asyncio.create_task(run.frame())]
                await asyncio.sleep(0)
                run.models.swap(version=version, labels=DIGIT_LABELS if version % 2 else OTHER_LABELS)
            answers = await asyncio.gather(*tasks)
            assert [each.model.version for each in answers] == [n for n in range(1, 11) for _ in range(2)]
            assert [label(each) for each in answers] == ["3" if each.model.version % 2 else "d" for each in answers]

    asyncio.run(scenario())


def test_region_of_the_frame_is_what_is_classified() -> None:
    async def scenario() -> None:
        digit = photo_of_3().to_color("bgr").pixels
        height, width = digit.shape[:2]
        wide = np.zeros((2 * height, 3 * width, 3), np.uint8)
        wide[height:, width : 2 * width] = digit
        frame = Frame(Image(wide, "bgr"), captured_ns=0)
        async with running() as run:
            view = View("digits", region=(1 / 3, 0.5, 2 / 3, 1.0))
            part, whole = await run.frame(view, frame), await run.frame()
            assert label(part) == "3"
            assert part.categories[0].score == pytest.approx(whole.categories[0].score, abs=0.02)

    asyncio.run(scenario())


@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, 1), (180, 2), (270, 3)])
def test_camera_that_hangs_askew_is_turned_upright(degrees: int, quarters: int) -> None:
    async def scenario() -> None:
        turned = np.ascontiguousarray(np.rot90(photo_of_3().pixels, quarters))  # against the clock
        async with running() as run:
            view = View("digits", rotate=degrees)
            upright, askew = await run.frame(), await run.frame(view, Frame(Image(turned, "bgr"), captured_ns=0))
            assert askew.categories == upright.categories

    asyncio.run(scenario())


def test_region_is_cut_before_the_frame_is_turned() -> None:
    async def scenario() -> None:
        digit = np.rot90(photo_of_3().pixels)
        frame = Frame(Image(np.hstack([np.zeros_like(digit), digit]), "bgr"), captured_ns=0)
        async with running() as run:
            view = View("digits", region=(0.5, 0.0, 1.0, 1.0), rotate=90)
            assert label(await run.frame(view, frame)) == "3"

    asyncio.run(scenario())


def test_view_bounds_the_categories() -> None:
    async def scenario() -> None:
        async with running() as run:
            assert len((await run.frame(View("digits", max_results=3))).categories) == 3
            assert (await run.frame(View("digits", score_threshold=1.01))).categories == ()

    asyncio.run(scenario())


class SlowCall:
    """A call that stays in its worker until it may leave."""

    def __init__(self, run: Running) -> None:
        self._entered, self._leave = threading.Event(), threading.Event()
        self.answer = asyncio.create_task(run.engine._in_worker(run.models.get("digits"), self._load, DIGIT))

    def _load(self) -> tuple[Image, float]:
        self._entered.set()
        self._leave.wait(10)
        return photo_of_3(), 0.0

    async def entered(self) -> None:
        await asyncio.to_thread(self._entered.wait, 10)

    def leave(self) -> None:
        self._leave.set()


def test_longest_call_is_timed_while_it_runs() -> None:
    async def scenario() -> None:
        async with running() as run:
            assert run.engine.oldest_call_s == 0
            call = SlowCall(run)
            await call.entered()
            first_s = run.engine.oldest_call_s
            assert 0 < first_s < run.engine.oldest_call_s
            call.leave()
            await call.answer
            assert run.engine.oldest_call_s == 0

    asyncio.run(scenario())


def test_close_drops_who_waits_and_does_not_wait_for_the_call_in_flight() -> None:
    async def scenario() -> None:
        async with running() as run:
            call = SlowCall(run)
            await call.entered()
            waiting = asyncio.create_task(run.frame())
            await started(waiting)
            run.engine.close()
            with pytest.raises(asyncio.CancelledError):
                await waiting  # still in line: never begun
            assert not call.answer.done()
            call.leave()
            assert label(await call.answer) == "3"

    asyncio.run(scenario())
