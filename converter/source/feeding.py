"""Feeding: the preprocessing steps that the finished file's graph does itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.runtimes.tensorflow import import_tensorflow

if TYPE_CHECKING:
    from agent.image import Color
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.saved_model import ImageFunction


def moved_into_the_graph(
    function: ImageFunction, trained: ModelSettings, *, raw_pixels: bool
) -> tuple[ImageFunction, ModelSettings]:
    """The function as the file will contain it, and the settings for its input.

    The graph itself does what a reader of the file could not: TFLite Metadata has no BGR, MediaPipe supports no mean
    per channel, and the zero point of a raw uint8 input (`raw_pixels`) cannot be a mean outside 0 to 255.
    """
    tf = import_tensorflow()
    mean, std = trained.mean or (0.0,), trained.std or (1.0,)
    if len({*mean}) > 1 or len({*std}) > 1 or (raw_pixels and (not 0 <= mean[0] <= 255 or std[0] < 0)):
        given = tf.constant(mean), tf.constant(std)
        function = function.after(lambda image: (image - given[0]) / given[1])
        mean, std = (0.0,), (1.0,)
    if trained.color == "bgr":
        function = function.after(lambda image: tf.reverse(image, [-1]))
    color: Color = "gray" if trained.color == "gray" else "rgb"
    return function, replace(trained, mean=mean[:1], std=std[:1], color=color)
