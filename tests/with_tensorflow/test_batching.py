"""Batches of concurrent images through the engine, computed by TensorFlow."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tensorflow as tf
from agents.fake_agent import FakeModels, identity
from agents.heard import Heard
from agents.saved_models import save_function
from agents.site import until

from agent.classification import Spot
from agent.errors import BusyError, MemoryFullError, ModelError, TensorError
from agent.frame import Frame
from agent.image import Image
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.inferring import infer_all
from agent.inference.options import Options
from agent.inference.results import Results
from agent.inference.share import places_for_uploads
from agent.model_file.model import read_model
from agent.model_file.settings import ModelSettings
from agent.models.loader import LoadedModel
from agent.models.serving import ServedModel
from agent.runtimes.runtime import open_classifiers
from agent.runtimes.saved_classifier import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.classification import Classification, ModelIdentity

pytestmark = pytest.mark.anyio

SIDE, GUILTY, HUGE = 8, 255, 254
SETTINGS = ModelSettings(labels=("brightness", "rest"), score="probability")
BRIGHT = Options("bright")


def brightness(_: Any, image: Any) -> Any:
    """Refuses white images; needs 4 TB for an image of HUGE."""
    levels = tf.reduce_mean(tf.cast(image, tf.float32), axis=(1, 2, 3))
    with tf.control_dependencies([tf.debugging.assert_less(levels, float(GUILTY), message="too bright")]):
        rows = tf.cast(tf.reduce_any(tf.equal(levels, float(HUGE))), tf.int64) * (1 << 40)
        levels = (levels + tf.reduce_sum(tf.zeros(rows[None]))) / 255
    return tf.stack([levels, 1 - levels], axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_function(tmp_path_factory.mktemp("saved") / "1", brightness, (None, SIDE, SIDE, 3), tf.uint8)


class Sizes(Heard):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.of: list[ModelIdentity] = []

    def batched(self, model: ModelIdentity, size: int) -> None:
        self.sizes.append(size)
        self.of.append(model)


class Batches:
    """A data plane for one SavedModel with batches of up to `most`. `gate` holds batches back while it is not set."""

    def __init__(
        self, folder: Path, *, most: int = 8, workers: int = 2, max_waiting: int = 64, batch_threads: int = 1
    ) -> None:
        self._folder, self._most, self._workers = folder, most, workers
        self.models, self.heard = FakeModels(), Sizes()
        self.gate, self.computing = threading.Event(), threading.Event()
        self.gate.set()
        self.swap(1)
        self.engine = InferenceEngine(
            workers=workers,
            max_waiting=max_waiting,
            max_pixels=1 << 20,
            batch_threads=batch_threads,
            batch_timeout_s=30,  # no test waits for it
            on_batch=self.heard.batched,
        )
        self.plane = DataPlane(
            engine=self.engine, models=self.models, results=Results(device="test"), listener=self.heard
        )

    def swap(self, version: int, settings: ModelSettings = SETTINGS) -> ServedModel:
        model = read_model(self._folder)
        limits = BatchLimits(self._most, is_forced=True)
        classifiers = open_classifiers(model, settings, workers=self._workers, threads=1, batches=limits)
        classifiers[0].warm_up()
        classifiers[0]._shared.compute = Gated(classifiers[0]._shared.compute, self)  # type: ignore[attr-defined]
        self.models.served["bright"] = served = ServedModel(
            identity(version, "bright"), LoadedModel(model, settings, classifiers)
        )
        return served

    async def upload(self, level: int) -> Classification:
        return (await self.plane.classify(png(level), BRIGHT, arrived_ns=0)).classification

    async def frame(self, level: int) -> Classification:
        frame = Frame(Image(pixels(level)), captured_ns=0)
        return (await self.plane.classify_frame(frame, BRIGHT, spot=Spot("door")))[0].classification

    async def infer(self, levels: list[int], **options: Any) -> list[float]:
        instances = [pixels(level) for level in levels]
        served = self.plane.choose(BRIGHT)
        found = await self.plane.infer(served, instances, BRIGHT, arrived_ns=0, **options)
        return [float(each.outputs["scores"][0]) for each in found]

    async def hold(self) -> asyncio.Task[Classification]:
        """A batch of one black image that is being computed until the gate opens."""
        self.gate.clear()
        self.computing.clear()
        held = asyncio.create_task(self.upload(0))
        await asyncio.to_thread(self.computing.wait, 20)
        return held

    async def waiting(self, count: int) -> None:
        """Until so many instances wait for a batch."""
        queue = self.engine._batching.queue_of(self.models.get("bright"))
        assert queue is not None
        await until(lambda: len(queue.waiting) == count and queue.preparing == 0)


class Gated:
    """The function of the classifiers, which waits for the gate."""

    def __init__(self, function: Any, batches: Batches) -> None:
        self._function, self._batches = function, batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __call__(self, tensors: Any) -> Any:
        self._batches.computing.set()
        assert self._batches.gate.wait(20)
        return self._function(tensors)


@pytest.fixture
def batches(folder: Path) -> Iterator[Batches]:
    made = Batches(folder)
    yield made
    made.gate.set()
    made.engine.close()


def pixels(level: int) -> Any:
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def png(level: int) -> bytes:
    return bytes(cv2.imencode(".png", pixels(level))[1])


def score(classification: Classification) -> float:
    return next(each.score for each in classification.categories if each.label == "brightness")


async def test_16_concurrent_clients_get_their_own_answers(batches: Batches) -> None:
    levels = [16 * number for number in range(16)]
    for _ in range(4):
        answers = await asyncio.gather(*(batches.upload(level) for level in levels))
        assert [score(each) for each in answers] == pytest.approx([level / 255 for level in levels], abs=1e-5)
    assert sum(batches.heard.sizes) == 64
    assert max(batches.heard.sizes) > 1
    assert set(batches.heard.sizes) <= {1, 2, 4, 8}


async def test_images_that_wait_are_computed_together_from_uploads_and_cameras(batches: Batches) -> None:
    held = await batches.hold()
    uploads = [asyncio.create_task(batches.upload(level)) for level in (10, 20, 30)]
    frames = [asyncio.create_task(batches.frame(level)) for level in (40, 50)]
    await batches.waiting(5)
    assert batches.engine.oldest_call_s > 0
    batches.gate.set()
    answers = await asyncio.gather(held, *uploads, *frames)
    assert [round(255 * score(each)) for each in answers] == [0, 10, 20, 30, 40, 50]
    assert batches.heard.sizes == [1, 4, 1]
    assert batches.heard.of == [identity(1, "bright")] * 3
    await until(lambda: batches.engine.oldest_call_s == 0)
    first, last = answers[1].timing, answers[5].timing
    assert first.invoke > 0
    assert last.queue > 0
    assert first.total >= first.decode + first.preprocess + first.invoke > first.invoke


async def test_full_batch_starts_while_others_are_prepared(folder: Path) -> None:
    batches = Batches(folder, most=2, workers=1)
    queue = batches.engine._batching.queue_of(batches.models.get("bright"))
    assert queue is not None
    with batches.engine._batching.preparing(queue):  # an image that takes long to decode
        answers = await asyncio.gather(batches.upload(10), batches.upload(20))
        late = asyncio.create_task(batches.upload(30))
        await until(lambda: len(queue.waiting) == 1)
        assert not late.done()
    assert [round(255 * score(each)) for each in (*answers, await late)] == [10, 20, 30]
    assert batches.heard.sizes == [2, 1]
    batches.engine.close()


async def test_timeout_ends_the_wait_for_images_that_are_prepared(folder: Path) -> None:
    batches = Batches(folder, workers=1)
    batches.engine._batching._timeout_s = 0.001
    queue = batches.engine._batching.queue_of(batches.models.get("bright"))
    assert queue is not None
    with batches.engine._batching.preparing(queue):
        assert round(255 * score(await batches.upload(10))) == 10
    batches.engine.close()


async def test_only_the_guilty_image_of_a_batch_fails(batches: Batches) -> None:
    held = await batches.hold()
    tasks = [asyncio.create_task(batches.upload(level)) for level in (10, GUILTY, 30, 40)]
    await batches.waiting(4)
    batches.gate.set()
    await held
    first, guilty, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(guilty, ModelError)
    assert "too bright" in str(guilty)
    assert [round(255 * score(each)) for each in (first, *others)] == [10, 30, 40]  # type: ignore[arg-type]
    assert batches.heard.sizes == [1, 4]
    failures = [outcome for _, outcome in batches.models.observed if isinstance(outcome, ModelError)]
    assert failures == [guilty]


async def test_tensor_of_a_client_that_the_model_refuses_is_not_its_fault(batches: Batches) -> None:
    with pytest.raises(TensorError, match=r"Instance 1: .*too bright"):
        await batches.infer([10, GUILTY])
    assert not [outcome for _, outcome in batches.models.observed if isinstance(outcome, ModelError)]


async def test_image_that_the_memory_is_too_small_for_is_refused_and_the_rest_is_computed(batches: Batches) -> None:
    held = await batches.hold()
    tasks = [asyncio.create_task(batches.upload(level)) for level in (10, HUGE, 30, 40)]
    await batches.waiting(4)
    batches.gate.set()
    await held
    first, huge, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(huge, MemoryFullError)
    assert [round(255 * score(each)) for each in (first, *others)] == [10, 30, 40]  # type: ignore[arg-type]
    assert not [outcome for _, outcome in batches.models.observed if isinstance(outcome, ModelError)]
    queue = batches.engine._batching.queue_of(batches.models.get("bright"))
    assert queue is not None
    assert queue.sizes.best == 2  # batches of four have failed
    with pytest.raises(MemoryFullError):
        await batches.frame(HUGE)
    refused = [type(error) for _, _, error, _ in batches.heard.refusals]
    assert refused == [MemoryFullError, MemoryFullError]  # each counts once
    assert round(255 * score(await batches.upload(10))) == 10


async def test_images_that_wait_finish_with_their_own_version(batches: Batches) -> None:
    held = await batches.hold()
    old = [asyncio.create_task(batches.upload(level)) for level in (10, 20)]
    await batches.waiting(2)
    batches.swap(2, ModelSettings(labels=("darkness", "brightness"), score="probability"))
    new = asyncio.create_task(batches.upload(30))
    batches.gate.set()
    await held
    answers = await asyncio.gather(*old, new)
    assert [each.model.version for each in answers] == [1, 1, 2]
    assert [round(255 * score(each)) for each in answers] == [10, 20, 225]


async def test_instances_of_a_request_fill_a_batch(batches: Batches) -> None:
    levels = list(range(0, 200, 10))
    assert await batches.infer(levels) == pytest.approx([level / 255 for level in levels], abs=1e-5)
    assert max(batches.heard.sizes) == 8


async def test_request_with_few_free_places_computes_fewer_at_once(folder: Path) -> None:
    batches = Batches(folder, workers=2, max_waiting=3)
    levels = [10, 20, 30, 40, 50, 60, 70, 80]
    assert batches.plane.at_once(batches.models.get("bright"), 8) == [8, 4, 2]
    assert await batches.infer(levels) == pytest.approx([level / 255 for level in levels], abs=1e-5)
    assert max(batches.heard.sizes) <= 4  # of five places
    held = [await batches.hold(), *(asyncio.create_task(batches.upload(1)) for _ in range(3))]
    await batches.waiting(3)
    with pytest.raises(BusyError):
        await batches.infer(levels)
    batches.gate.set()
    await asyncio.gather(*held)
    batches.engine.close()


async def test_request_of_one_address_takes_places_for_a_batch_if_they_are_free(batches: Batches) -> None:
    places = places_for_uploads(6, per_client=2)
    served = batches.plane.choose(BRIGHT)
    taken: list[int] = []

    def more_places(count: int) -> Any:
        taken.append(count)
        return places.held("address", count)

    instances = [pixels(level) for level in range(8)]
    found = await infer_all(batches.plane, served, instances, BRIGHT, arrived_ns=0, more_places=more_places)
    assert len(found) == 8
    assert taken == [7, 3]


async def test_canceled_caller_leaves_the_batch_of_the_others(batches: Batches) -> None:
    held = await batches.hold()
    canceled, kept = (asyncio.create_task(batches.upload(level)) for level in (10, 20))
    await batches.waiting(2)
    canceled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await canceled
    batches.gate.set()
    await held
    assert round(255 * score(await kept)) == 20
    assert batches.heard.sizes == [1, 1]


async def test_close_cancels_what_waits_for_a_batch(batches: Batches) -> None:
    held = await batches.hold()
    waiting = asyncio.create_task(batches.upload(10))
    await batches.waiting(1)
    batches.engine.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    batches.gate.set()
    await held


async def test_close_cancels_what_is_being_prepared(batches: Batches) -> None:
    queue = batches.engine._batching.queue_of(batches.models.get("bright"))
    assert queue is not None
    with batches.engine._batching.preparing(queue):
        batches.engine.close()
        assert batches.engine._batching.put(queue, pixels(0)[None]).cancelled()


async def test_threads_compute_a_batch_each_at_the_same_time(folder: Path) -> None:
    batches = Batches(folder, batch_threads=2)
    held = await batches.hold()
    other = asyncio.create_task(batches.upload(20))
    await until(lambda: len(batches.engine._batching.started_s) == 2)
    waiting = [asyncio.create_task(batches.upload(level)) for level in (30, 40)]
    await batches.waiting(2)
    batches.gate.set()
    answers = await asyncio.gather(held, other, *waiting)
    assert [round(255 * score(each)) for each in answers] == [0, 20, 30, 40]
    assert sorted(batches.heard.sizes) == [1, 1, 2]
    batches.engine.close()


async def test_model_whose_images_wait_longest_is_computed_first(batches: Batches) -> None:
    held = await batches.hold()
    first = batches.models.get("bright")
    old = asyncio.create_task(batches.upload(10))
    await batches.waiting(1)
    batches.swap(2)
    new = [asyncio.create_task(batches.upload(level)) for level in range(20, 28)]
    await batches.waiting(8)
    assert first.identity.version == 1
    batches.gate.set()
    await asyncio.gather(held, old, *new)
    assert [(each.version, size) for each, size in zip(batches.heard.of, batches.heard.sizes, strict=True)] == [
        (1, 1),
        (1, 1),
        (2, 8),
    ]


async def test_unloaded_model_leaves_no_queue(batches: Batches) -> None:
    assert round(255 * score(await batches.upload(10))) == 10
    queues = batches.engine._batching._queues
    assert len(queues) == 1
    batches.models.served.clear()
    await until(lambda: len(queues) == 0)
