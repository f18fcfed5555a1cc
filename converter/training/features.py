"""Features: what a frozen backbone sees in each photo, computed once."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.errors import AgentError
from agent.host import process
from agent.model_file.metadata import Tensor
from agent.model_file.settings import ModelSettings
from agent.runtimes.interpreter import open_interpreter
from agent.runtimes.preprocessing import Preprocessor
from agent.runtimes.tensorflow import import_tensorflow
from converter.errors import ImagesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from converter.progress import Track
    from converter.training.backbone import Backbone
    from converter.training.checkpoint import Checkpoint
    from converter.training.dataset import Photo
    from converter.training.strategy import Strategy

    Bytes: TypeAlias = npt.NDArray[np.uint8]
    Floats: TypeAlias = npt.NDArray[np.float32]

_STEP = 16  # photos of one step of the checkpoint
_BATCH = 16
_MOST_MIRRORED = 5000  # photos; with more, mirrored ones gain little


def input_tensor(side: int) -> Tensor:
    return Tensor("image", (1, side, side, 3), "float32")


def settings_of(labels: Sequence[str]) -> ModelSettings:
    """Of the exported model: plain RGB, resized as the agent does."""
    return ModelSettings(
        labels=tuple(labels), mean=(0.0,), std=(1.0,), color="rgb", resample="antialias", score="probability"
    )


class Pixels:
    """Photos as the agent feeds them to the model, as uint8."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._prepare = Preprocessor.of(replace(input_tensor(side), dtype="uint8"), settings_of(()))

    def of(self, photos: Sequence[Photo]) -> Bytes:
        """N x side x side x 3. Raises ImagesError for a photo that can no longer be read."""
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(self._one, photos)))

    def _one(self, photo: Photo) -> Bytes:
        try:
            return np.asarray(self._prepare(photo.found.read(smallest_side=self._side))[0], np.uint8)
        except AgentError as error:
            raise ImagesError(f"{photo.found.path} changed during the training: {error}.") from None


def features_of(
    backbone: Backbone, photos: Sequence[Photo], checkpoint: Checkpoint, *, strategy: Strategy, track: Track
) -> Floats:
    """Photos x views x features; the second view is the mirrored photo. Each photo is read once."""
    starts = range(0, len(photos), _STEP)
    mirrored = len(photos) <= _MOST_MIRRORED
    pixels = Pixels(backbone.side)

    @cache
    def call() -> Callable[[Floats], Any]:
        """Made when needed: a training that continues may have every step."""
        return _on_cpu(backbone) if strategy.is_plain else strategy.spread(pooled(backbone))

    parts = []
    for start in track(starts, "Looking at the photos"):
        name = f"features-{start:07}"
        stored = checkpoint.load(name)
        if stored is None:
            stored = {"features": _step(call(), pixels.of(photos[start : start + _STEP]), mirrored=mirrored)}
            checkpoint.save(name, stored)
        parts.append(np.asarray(stored["features"], np.float32))
    return np.concatenate(parts)


def scales_of(backbone: Backbone, features: Floats) -> Floats:
    """What to divide the features by, so that those of each map have its share of the length."""
    scales, start = [], 0
    for width, share in zip(backbone.widths, backbone.shares, strict=True):
        squares = (features[:, 0, start : start + width].astype(np.float64) ** 2).sum(axis=1)
        scales.append(np.full(width, max(np.sqrt(squares.mean()), 1e-6) / share))
        start += width
    return np.concatenate(scales).astype(np.float32)


def pooled(backbone: Backbone) -> Any:
    """A tf.function: a float32 batch of pixels to the average of each map, side by side."""
    tf = import_tensorflow()

    def call(images: Any) -> Any:
        maps = [tf.cast(each, tf.float32) for each in backbone.maps(images)]
        return tf.concat([tf.reduce_mean(each, axis=(1, 2)) for each in maps], axis=1)

    pixels = tf.TensorSpec((None, backbone.side, backbone.side, 3), tf.float32)
    return tf.function(call, input_signature=[pixels], autograph=False)


def _on_cpu(backbone: Backbone) -> Callable[[Floats], Floats]:
    """What pooled() computes, by the runtime of devices, which is mostly faster than TensorFlow on a CPU.

    Up to 2.7 times, with every backbone but ResNet50 (0.9).
    """
    function = pooled(backbone).get_concrete_function()
    # TensorFlow advises to give the network too, but then writes it to the disk first, which takes twice as long.
    content = import_tensorflow().lite.TFLiteConverter.from_concrete_functions([function]).convert()
    whole = np.zeros((_BATCH, backbone.side, backbone.side, 3), np.float32)
    interpreter = open_interpreter(content, threads=process.usable_cores(), input_shape=whole.shape)
    (given,), (taken,) = interpreter.get_input_details(), interpreter.get_output_details()

    def call(batch: Floats) -> Floats:
        whole[: len(batch)] = batch
        interpreter.set_tensor(given["index"], whole)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(taken["index"])[: len(batch)])

    return call


def _step(call: Any, pixels: Bytes, *, mirrored: bool) -> Floats:
    views = [_batched(call, pixels)]
    if mirrored:
        views.append(_batched(call, pixels[:, :, ::-1]))
    return np.stack(views, axis=1)


def _batched(call: Any, pixels: Bytes) -> Floats:
    batches = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
    return np.concatenate([np.asarray(call(batch.astype(np.float32))) for batch in batches])


def batches_of(items: Sequence[Any], size: int) -> Iterator[tuple[Any, ...]]:
    rest = iter(items)
    while batch := tuple(itertools.islice(rest, size)):
        yield batch
