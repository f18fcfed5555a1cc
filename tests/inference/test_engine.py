from __future__ import annotations

import asyncio
import dataclasses
import threading
import time

import cv2
import numpy as np
import pytest
from agents.fake_agent import serving
from agents.models_on_disk import DIGITS, photo_of_3
from agents.running_engine import JPEG, label, running, started

from agent.errors import (
    AgentError,
    BusyError,
    ImageTooLargeError,
    ModelNotFoundError,
)
from agent.frame import Frame
from agent.framing import Framing
from agent.image import Image, decode
from agent.inference import engine as engine_module
from agent.inference.options import Options
from agent.model_file.metadata import read_model_file
from agent.runtimes.tflite import TFLiteClassifier

OTHER_LABELS = tuple("abcdefghij")


@pytest.mark.anyio
async def test_upload_and_frame_get_the_same_answer() -> None:
    async with running() as run:
        upload, frame = await run.upload(), await run.frame()
        assert label(upload) == label(frame) == "3"
        assert upload.model == frame.model == run.models.get("digits").identity
        assert upload.timing.decode > 0
        assert frame.timing.decode == 0
        for timing in (upload.timing, frame.timing):
            assert timing.total >= timing.decode + timing.preprocess + timing.invoke > 0


@pytest.mark.anyio
async def test_upload_is_refused_at_once_when_the_queue_is_full() -> None:
    async with running(workers=2, max_waiting=3) as run:
        await run.block_all_workers()
        queued = [asyncio.create_task(run.upload()) for _ in range(5)]
        await started(*queued)
        begun_s = time.monotonic()
        with pytest.raises(BusyError, match="All 5 places in the queue are taken") as caught:
            await run.upload()
        assert time.monotonic() - begun_s < 1
        assert caught.value.retry_after_s == 1
        run.release()
        assert [label(each) for each in await asyncio.gather(*queued)] == ["3"] * 5
        assert label(await run.upload()) == "3"  # the places are free again


@pytest.mark.anyio
async def test_frame_is_accepted_when_the_queue_is_full() -> None:
    async with running(max_waiting=0) as run:
        await run.block_all_workers()
        queued = [asyncio.create_task(run.upload()), *(asyncio.create_task(run.frame()) for _ in range(5))]
        await started(*queued)
        with pytest.raises(BusyError):
            await run.upload()
        run.release()
        assert [label(each) for each in await asyncio.gather(*queued)] == ["3"] * 6


@pytest.mark.anyio
async def test_place_is_freed_when_the_caller_fails_or_is_canceled() -> None:
    async with running(max_waiting=0) as run:
        for content in (b"text", JPEG[:500]):
            with pytest.raises(AgentError):
                await run.upload(content)
        with pytest.raises(ModelNotFoundError):
            await run.upload(JPEG, Options("cats"))
        await run.block_all_workers()
        canceled = asyncio.create_task(run.upload())
        await started(canceled)
        canceled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await canceled
        queued = asyncio.create_task(run.upload())
        await started(queued)
        run.release()
        assert label(await queued) == "3"


@pytest.mark.anyio
async def test_uploads_are_decoded_in_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def recorded(content: bytes, *, max_pixels: int, smallest_side: int | None) -> Image:
        threads.append(threading.current_thread().name)
        assert smallest_side == 240
        return decode(content, max_pixels=max_pixels, smallest_side=smallest_side)

    monkeypatch.setattr(engine_module, "decode", recorded)
    async with running(workers=2) as run:
        await asyncio.gather(*(run.upload() for _ in range(4)))
    assert len(threads) == 4
    assert all(name.startswith("worker") for name in threads)


@pytest.mark.anyio
async def test_loop_keeps_running_while_the_workers_are_busy() -> None:
    async with running() as run:
        await run.block_all_workers()
        waiting = asyncio.create_task(run.frame())
        for _ in range(100):
            await started(waiting)
        run.release()
        await waiting


@pytest.mark.anyio
async def test_upload_above_the_pixel_limit_is_refused() -> None:
    async with running(max_pixels=100) as run:
        with pytest.raises(ImageTooLargeError, match="at most 100 pixels"):
            await run.upload()


@pytest.mark.anyio
async def test_only_the_region_of_the_frame_is_classified() -> None:
    digit = photo_of_3().to_color("bgr").pixels
    height, width = digit.shape[:2]
    wide = np.zeros((2 * height, 3 * width, 3), np.uint8)
    wide[height:, width : 2 * width] = digit
    frame = Frame(Image(wide, "bgr"), captured_ns=0)
    async with running() as run:
        options = Options("digits", framing=Framing((1 / 3, 0.5, 2 / 3, 1.0)))
        part, whole = await run.frame(options, frame), await run.frame()
        assert label(part) == "3"
        assert part.categories[0].score == pytest.approx(whole.categories[0].score, abs=0.02)


@pytest.mark.anyio
async def test_camera_picture_is_decoded_at_the_size_that_its_region_needs() -> None:
    digit = photo_of_3().to_color("bgr").pixels
    height, width = digit.shape[:2]
    wide = np.zeros((2 * height, 4 * width, 3), np.uint8)
    wide[height:, width : 2 * width] = digit
    large = cv2.imencode(".jpg", cv2.resize(wide, None, fx=8, fy=8))[1].tobytes()
    async with running() as run:
        options = Options("digits", framing=Framing((1 / 4, 0.5, 2 / 4, 1.0)))
        part, whole = await run.frame(options, Frame(large, captured_ns=0)), await run.frame()
        assert label(part) == "3"
        assert part.categories[0].score == pytest.approx(whole.categories[0].score, abs=0.05)


@pytest.mark.anyio
@pytest.mark.parametrize(("degrees", "quarters"), [(0, 0), (90, 1), (180, 2), (270, 3)])
async def test_rotate_turns_the_frame_upright(degrees: int, quarters: int) -> None:
    turned = np.ascontiguousarray(np.rot90(photo_of_3().pixels, quarters))  # counterclockwise
    async with running() as run:
        options = Options("digits", framing=Framing(rotate=degrees))
        upright, rotated = await run.frame(), await run.frame(options, Frame(Image(turned, "bgr"), captured_ns=0))
        assert rotated.categories == upright.categories


@pytest.mark.anyio
async def test_region_is_cropped_before_the_frame_is_rotated() -> None:
    digit = np.rot90(photo_of_3().pixels)
    frame = Frame(Image(np.hstack([np.zeros_like(digit), digit]), "bgr"), captured_ns=0)
    async with running() as run:
        options = Options("digits", framing=Framing((0.5, 0.0, 1.0, 1.0), rotate=90))
        assert label(await run.frame(options, frame)) == "3"


@pytest.mark.anyio
async def test_options_limit_the_categories() -> None:
    async with running() as run:
        assert len((await run.frame(Options("digits", max_results=3))).categories) == 3
        assert (await run.frame(Options("digits", score_threshold=1.01))).categories == ()


@pytest.mark.anyio
@pytest.mark.parametrize(("own", "count"), [(0.0, 10), (1.0, 0)])
async def test_options_without_a_threshold_use_the_models_own(own: float, count: int) -> None:
    file = read_model_file(DIGITS)
    settings = dataclasses.replace(file.settings, unknown_below=own)
    async with running() as run:
        run.models.served["digits"] = serving([TFLiteClassifier(file, settings, threads=1)])
        options = Options("digits", max_results=10, score_threshold=None)
        assert len((await run.frame(options)).categories) == count


@pytest.mark.anyio
async def test_oldest_call_is_timed_while_it_runs() -> None:
    async with running() as run:
        assert run.engine.oldest_call_s == 0
        call = await run.block_worker()
        first_s = run.engine.oldest_call_s
        assert 0 < first_s < run.engine.oldest_call_s
        run.release()
        await call
        assert run.engine.oldest_call_s == 0


@pytest.mark.anyio
async def test_close_cancels_waiting_calls_and_does_not_wait_for_the_running_call() -> None:
    async with running() as run:
        call = await run.block_worker()
        waiting = asyncio.create_task(run.frame())
        await started(waiting)
        run.engine.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting  # still in the queue
        assert not call.done()
        run.release()
        assert (await call)[0] == "3"
