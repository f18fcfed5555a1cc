from __future__ import annotations

import asyncio
import threading

import pytest
from agents.fake_agent import FailingClassifier, serving
from agents.models_on_disk import DIGIT_LABELS
from agents.running_engine import JPEG, label, running, started

from agent.errors import (
    BusyError,
    ImageDamagedError,
    ImageFormatError,
    ModelNotFoundError,
    NotFiniteError,
)
from agent.inference.options import Options

OTHER_LABELS = tuple("abcdefghij")


@pytest.mark.anyio
async def test_every_outcome_is_reported_with_its_source() -> None:
    async with running() as run:
        good = [await run.upload(), await run.frame()]
        with pytest.raises(ImageFormatError):
            await run.upload(b"text")
        with pytest.raises(ModelNotFoundError):
            await run.frame(Options("cats"))
        assert [(each.source, each.classification) for each in run.heard.results] == [
            ("upload", good[0]),
            ("camera", good[1]),
        ]
        assert [(s, m, type(error), by) for s, m, error, by in run.heard.refusals] == [
            ("upload", "digits", ImageFormatError, None),
            ("camera", "cats", ModelNotFoundError, None),
        ]


@pytest.mark.anyio
async def test_cameras_use_the_stable_version_while_uploads_use_the_canary() -> None:
    async with running() as run:
        run.models.try_out(version=2, labels=OTHER_LABELS)
        assert label(await run.upload()) == "d"
        assert label(await run.frame()) == "3"


@pytest.mark.anyio
async def test_requested_version_is_used() -> None:
    async with running() as run:
        run.models.try_out(version=2, labels=OTHER_LABELS)
        stable, canary = Options("digits", version="stable"), Options("digits", version="canary")
        assert [label(await run.upload(options=stable)), label(await run.frame(stable))] == ["3", "3"]
        assert [label(await run.upload(options=canary)), label(await run.frame(canary))] == ["d", "d"]
        with pytest.raises(ModelNotFoundError):
            await run.upload(options=Options("digits", version="9"))


@pytest.mark.anyio
async def test_models_observe_the_outcome_of_each_call_on_the_loop() -> None:
    async with running() as run:
        first, second = await run.upload(), await run.frame()
        assert run.models.observed == [(1, first.timing), (1, second.timing)]
        assert run.models.observing_threads == {threading.current_thread()}
        assert [each.classification for each in run.heard.results] == [first, second]


@pytest.mark.anyio
async def test_models_observe_a_model_that_fails() -> None:
    error = NotFiniteError("The model answers with NaN.")
    async with running() as run:
        run.models.served["digits"] = model = serving([FailingClassifier(error)])
        for call in (run.upload, run.frame):
            with pytest.raises(NotFiniteError):
                await call()
        assert run.models.observed == [(1, error), (1, error)]
        assert run.heard.refusals == [
            ("upload", "digits", error, model.identity),
            ("camera", "digits", error, model.identity),
        ]


@pytest.mark.anyio
async def test_models_do_not_observe_bad_images_and_full_queues() -> None:
    async with running(max_waiting=0) as run:
        with pytest.raises(ImageFormatError):
            await run.upload(b"text")
        with pytest.raises(ImageDamagedError):
            await run.upload(JPEG[:500])
        await run.block_all_workers()
        waiting = asyncio.create_task(run.upload())
        await started(waiting)
        with pytest.raises(BusyError):
            await run.upload()
        assert run.models.observed == []
        run.release()
        await waiting


@pytest.mark.anyio
async def test_call_keeps_its_version_when_the_model_is_swapped() -> None:
    async with running() as run:
        await run.block_all_workers()
        before = [asyncio.create_task(run.upload()), asyncio.create_task(run.frame())]
        await started(*before)
        run.models.swap(version=2, labels=OTHER_LABELS)
        after = [asyncio.create_task(run.upload()), asyncio.create_task(run.frame())]
        await started(*after)
        run.release()
        answers = await asyncio.gather(*before, *after)
        assert [(each.model.version, label(each)) for each in answers] == [(1, "3"), (1, "3"), (2, "d"), (2, "d")]
        assert answers[0].model.sha256 != answers[2].model.sha256


@pytest.mark.anyio
async def test_labels_match_the_reported_version_during_many_swaps() -> None:
    async with running(workers=2, max_waiting=100) as run:
        tasks = []
        for version in range(2, 12):
            tasks += [asyncio.create_task(run.upload()), asyncio.create_task(run.frame())]
            await asyncio.sleep(0)
            run.models.swap(version=version, labels=DIGIT_LABELS if version % 2 else OTHER_LABELS)
        answers = await asyncio.gather(*tasks)
        assert [each.model.version for each in answers] == [n for n in range(1, 11) for _ in range(2)]
        assert [label(each) for each in answers] == ["3" if each.model.version % 2 else "d" for each in answers]
