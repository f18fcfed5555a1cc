"""Shares: what each camera gets when the workers are slower than all cameras together."""

from __future__ import annotations

import asyncio
import statistics
import time

import anyio
import numpy as np
import pytest

from agent.cameras.pictures import Pictures
from agent.cameras.pipeline import Pipeline
from agent.cameras.state import StableLabel
from agent.cameras.view import View
from agent.classification import Classification, ModelIdentity, Result, Spot, Timing
from agent.frame import Frame
from agent.framing import WHOLE
from agent.host.throttling import never
from agent.image import Image
from agent.inference.options import Options
from agent.inference.results import Results
from agent.inference.workers import Workers
from agent.listeners import Listener
from agent.runtimes.scores import Scores

_INFERENCE_S = 0.004
_CAMERAS = 8
_FRAMES = 30
_ANSWER = Classification(ModelIdentity("m", 1, "0" * 64), (), Timing(0, 0, 0, 0))
_SCORES = Scores(np.zeros(0, np.float32), (), scale=0.0, zero_point=0, are_logits=False)


class Live:
    """Has a new frame at any time, as a camera that is faster than the workers."""

    has_own_pace = False

    async def read(self) -> Frame | None:
        return Frame(Image(np.zeros((1, 1, 3), np.uint8)), time.monotonic_ns())


class Busy:
    """A data plane with the real workers, which also get uploads: each of `uploads` clients sends without a pause."""

    def __init__(self) -> None:
        self.ages_s: dict[str, list[float]] = {str(number): [] for number in range(_CAMERAS)}
        self.uploads = 0
        self.workers = Workers(2)
        self.measured = asyncio.Event()
        self._results = Results(device="d")

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        await self.workers.run(lambda _: time.sleep(_INFERENCE_S))
        self.ages_s[spot.camera].append((time.monotonic_ns() - frame.captured_ns) / 1e9)
        if min(map(len, self.ages_s.values())) >= _FRAMES:
            self.measured.set()
        return self._results.record(_ANSWER, spot=spot, captured_ns=frame.captured_ns), _SCORES

    async def upload(self) -> None:
        while True:
            await self.workers.run(lambda _: time.sleep(_INFERENCE_S))
            self.uploads += 1


@pytest.mark.anyio
@pytest.mark.parametrize("clients", [0, 16])
async def test_cameras_get_equal_shares_of_busy_workers_and_their_frames_are_new(clients: int) -> None:
    busy = Busy()
    async with anyio.create_task_group() as tasks:
        for number in range(_CAMERAS):
            spot = Spot(str(number))
            view = View(
                spot,
                Options(),
                data_plane=busy,
                listener=Listener(),
                stable=StableLabel(frames=1),
                pictures=Pictures(WHOLE),
            )
            pipeline = Pipeline(source=Live(), views=[view], max_fps=1000, is_throttled=never)
            tasks.start_soon(pipeline.run)
        for _ in range(clients):
            tasks.start_soon(busy.upload)
        begun_s = time.monotonic()
        await busy.measured.wait()
        period_s = (time.monotonic() - begun_s) / statistics.mean(map(len, busy.ages_s.values()))
        tasks.cancel_scope.cancel()
    busy.workers.close()
    counts = [len(ages_s) for ages_s in busy.ages_s.values()]
    assert max(counts) <= 1.2 * min(counts)
    # On an idle machine 95 % of the frames are that new; beside other tests, the slowest ones say nothing.
    assert statistics.median(age_s for each in busy.ages_s.values() for age_s in each) < 2 * period_s
    assert busy.uploads >= 0.8 * clients * min(counts)  # a client is served as often as a camera
