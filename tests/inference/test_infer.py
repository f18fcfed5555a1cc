"""Inferences of encoded images and tensors through the data plane."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from agents.fake_agent import FailingClassifier, serving
from agents.models_on_disk import photo_of_3
from agents.running_engine import DIGIT, JPEG, Running, running
from agents.site import until
from agents.tiny_models import TinyModel

from agent.errors import BusyError, ImageFormatError, ModelError, ModelNotFoundError, TensorError
from agent.inference.data_plane import MAX_INSTANCES
from agent.inference.options import Options
from agent.model_file.metadata import read_model_file
from agent.model_file.settings import ModelSettings
from agent.runtimes.preprocessing import Preprocessor
from agent.runtimes.runtime import open_classifiers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.inference.inferred import Inferred

BLACK = np.zeros((32, 32, 1), np.uint8)


async def infer(run: Running, instances: Sequence[Any], options: Options = DIGIT) -> list[Inferred]:
    return await run.data_plane.infer(run.data_plane.choose(options), instances, options, arrived_ns=0)


def three(run: Running) -> Any:
    """The tensor of the photo of a 3."""
    return Preprocessor.of(run.models.get("digits").classifier(0).input, ModelSettings())(photo_of_3())[0]


@pytest.mark.anyio
async def test_tensor_and_image_give_the_scores_of_an_upload() -> None:
    async with running() as run:
        uploaded = await run.upload(JPEG)
        image, tensor = await infer(run, [JPEG, three(run)])
        assert image.result.classification.categories == uploaded.categories
        assert [image.result.classification.categories[0].label] == ["3"]
        assert tensor.result.classification.categories[0].label == "3"
        assert image.outputs["output_0"].shape == (10,)
        assert image.outputs["output_0"].dtype == np.float32
        best = uploaded.categories[0]
        assert image.outputs["output_0"][best.index] == pytest.approx(best.score)
        assert [category.label for category in image.scores.best(10)][:5] == [
            category.label for category in uploaded.categories
        ]


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["softmax", "logits"])
async def test_scores_are_those_at_the_temperature_of_the_model_and_raw_ones_are_not(end: str) -> None:
    model = TinyModel(5)
    logits = model.dense(model.reshaped(model.image(1, 6, 9, 3), 1, 162), 3, spread=0.1)
    file = read_model_file(model.finish(model.softmax(logits) if end == "softmax" else logits))
    settings = ModelSettings(("a", "b", "c"), (0.0,), (1.0,), score="logits" if end == "logits" else None)
    tensor = np.random.default_rng(3).uniform(0, 1, (6, 9, 3)).astype(np.float32)
    async with running() as run:
        done = []
        for temperature in (None, 3.0):
            tempered = replace(settings, temperature=temperature)
            run.models.served["m"] = serving(open_classifiers(file, tempered, workers=1, threads=1))
            done += await infer(run, [tensor], Options("m", max_results=3))
        ((before,), (after,)) = (list(each.outputs.values()) for each in done)
        powers = np.asarray(before, np.float64) ** (1 / 3)
        assert after == pytest.approx(powers / powers.sum(), abs=1e-5)
        assert done[1].scores.probabilities.tolist() == after.tolist()
        categories = done[1].result.classification.categories
        assert [each.score for each in categories] == sorted(after.tolist(), reverse=True)
        assert done[1].raw.tolist() == done[0].raw.tolist()


@pytest.mark.anyio
async def test_every_instance_is_recorded_and_observed_like_an_upload() -> None:
    async with running(workers=2) as run:
        done = await infer(run, [JPEG, three(run), BLACK])
        assert sorted(result.seq for result in run.heard.results) == [1, 2, 3]
        assert {result.id for result in run.heard.results} == {each.result.id for each in done}
        assert {result.source for result in run.heard.results} == {"upload"}
        assert [number for number, _ in run.models.observed] == [1, 1, 1]


@pytest.mark.anyio
async def test_instances_are_answered_in_order_by_one_version() -> None:
    async with running(workers=2) as run:
        run.models.try_out(version=2, labels=tuple("abcdefghij"))
        done = await infer(run, [three(run), BLACK] * 8)
        labels = [each.result.classification.categories[0].label for each in done]
        assert labels == labels[:2] * 8
        assert labels[0] == "d"
        assert {each.result.classification.model.version for each in done} == {2}


@pytest.mark.anyio
async def test_chosen_version_answers_although_the_model_is_swapped() -> None:
    async with running() as run:
        chosen = run.data_plane.choose(DIGIT)
        run.models.swap(version=2)
        (done,) = await run.data_plane.infer(chosen, [BLACK], DIGIT, arrived_ns=0)
        assert done.result.classification.model.version == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("instances", "error", "sentence"),
    [
        ([BLACK[1:]], TensorError, "The tensor is 31 x 32 x 1; the model takes 32 x 32 x 1."),
        ([BLACK, BLACK[1:]], TensorError, "Instance 1: The tensor is 31 x 32 x 1; the model takes 32 x 32 x 1."),
        ([], TensorError, "The request has 0 instances. Send 1 to 64."),
        ([BLACK] * (MAX_INSTANCES + 1), TensorError, "The request has 65 instances. Send 1 to 64."),
        ([JPEG, b"text"], ImageFormatError, "Instance 1: "),
    ],
)
async def test_bad_instance_fails_the_request_and_is_announced_once(
    instances: list[Any], error: type[Exception], sentence: str
) -> None:
    async with running() as run:
        with pytest.raises(error) as caught:
            await infer(run, instances)
        assert str(caught.value).startswith(sentence)
        assert len(run.heard.refusals) == 1
        assert run.heard.refusals[0][:2] == ("upload", "digits")
        assert [type(outcome) for _, outcome in run.models.observed if isinstance(outcome, ModelError)] == []


@pytest.mark.anyio
async def test_wrong_shape_is_found_before_anything_runs() -> None:
    async with running() as run:
        with pytest.raises(TensorError):
            await infer(run, [BLACK, BLACK, BLACK[1:]])
        assert run.heard.results == []


@pytest.mark.anyio
async def test_first_error_ends_the_request() -> None:
    async with running() as run:
        with pytest.raises(ImageFormatError):
            await infer(run, [JPEG, b"text", JPEG, JPEG])
        assert len(run.heard.results) == 1


@pytest.mark.anyio
async def test_instances_of_a_failed_request_are_freed_at_once() -> None:
    gc.disable()  # in a running agent, hours may pass until it looks for old objects
    try:
        async with running() as run:
            photo = three(run)
            freed = weakref.ref(photo)
            with contextlib.suppress(ImageFormatError):
                await infer(run, [photo, b"text"])
            del photo
            run.heard.refusals.clear()
            await until(lambda: freed() is None)
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_failing_model_is_observed_and_blamed() -> None:
    error = ModelError("The runtime fails.")
    async with running() as run:
        run.models.served["digits"] = model = serving([FailingClassifier(error)])
        with pytest.raises(ModelError):
            await infer(run, [BLACK])
        assert run.models.observed == [(1, error)]
        assert run.heard.refusals == [("upload", "digits", error, model.identity)]


@pytest.mark.anyio
async def test_request_takes_as_many_places_as_run_in_parallel() -> None:
    async with running(workers=2, max_waiting=1) as run:
        await run.block_all_workers()
        waiting = asyncio.create_task(infer(run, [BLACK] * 5))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await infer(run, [BLACK, BLACK])
        assert len(run.heard.refusals) == 1
        run.release()
        assert len(await waiting) == 5


@pytest.mark.anyio
async def test_missing_model_is_announced() -> None:
    async with running() as run:
        with pytest.raises(ModelNotFoundError):
            run.data_plane.choose(Options("cats"))
        assert [(model, type(error)) for _, model, error, _ in run.heard.refusals] == [("cats", ModelNotFoundError)]
