"""One score: a model that returns one number p for an image, such as a sigmoid for two classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.runtimes.preprocessing import Preprocessor
from agent.runtimes.probe import probe_images
from agent.runtimes.tensorflow import import_tensorflow

if TYPE_CHECKING:
    from agent.model_file.settings import ModelSettings
    from agent.runtimes.saved_model import ImageFunction


def with_score_per_label(function: ImageFunction, settings: ModelSettings) -> ImageFunction:
    """`function` itself if it returns several scores. Of two labels, the first gets 1 - p and the second p.

    So every reader of the file finds a score for each label. Keras numbers two classes like this.
    """
    if max(function.output.shape) > 1:
        return function
    tf = import_tensorflow()
    if not _is_probability(function, settings):
        function = function.followed_by(tf.sigmoid)
    if len(settings.labels or ()) == 2:
        function = function.followed_by(lambda p: tf.concat([1 - p, p], axis=-1))
    return function


def _is_probability(function: ImageFunction, settings: ModelSettings) -> bool:
    """Whether p is from 0 to 1 for varied images; otherwise it is a logit."""
    prepare = Preprocessor.of(function.input, settings)
    _, height, width, _ = function.input.shape
    values = [function.concrete(prepare(image)).numpy() for image in probe_images(height, width)]
    return all((value >= 0).all() and (value <= 1).all() for value in values)
