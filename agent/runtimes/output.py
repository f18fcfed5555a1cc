"""Output: chooses the output of a model that has the scores."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.errors import ModelError, NoLabelsError
from agent.model_file.layout import shape_of
from agent.model_file.signature import SCORE_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model_file.metadata import Tensor
    from agent.model_file.settings import ModelSettings


def choose_output(outputs: Sequence[Tensor], settings: ModelSettings) -> int:
    """The index of the output with the scores; `outputs` have the shapes for one image.

    That named in the settings, or the only one, or the only one with as many values as labels, or the only one that
    is a list of values, or the only one of these that is named as scores are. Raises ModelError if none or several fit.
    """
    if settings.output is not None:
        return _named(outputs, settings.output)
    if len(outputs) == 1:
        return 0
    lists = [index for index, output in enumerate(outputs) if value_count(output) is not None and _is_read(output)]
    if not lists or _detects_objects(outputs):
        raise ModelError(_not_a_classifier(outputs))
    count = len(settings.labels or ())
    fitting = [index for index in lists if value_count(outputs[index]) == count]
    if count == 2 and not fitting:  # one sigmoid serves two labels
        fitting = [index for index in lists if value_count(outputs[index]) == 1]
    named = [index for index in fitting or lists if outputs[index].name in SCORE_NAMES]
    for candidates in (fitting, lists, named):
        if len(candidates) == 1:
            return candidates[0]
    return _undecided(outputs, count)


def for_one_image(outputs: Sequence[Tensor], batch: int) -> list[Tensor]:
    """The outputs with their shapes for one image of a batch."""
    if batch == 1:
        return list(outputs)
    return [replace(each, shape=(1, *each.shape[1:])) if each.shape[:1] == (batch,) else each for each in outputs]


def value_count(output: Tensor) -> int | None:
    """How many values the output has for one image; None for a map, a list of points or an unknown shape."""
    if not output.shape or -1 in output.shape or sum(side > 1 for side in output.shape) > 1:
        return None
    return math.prod(output.shape)


def _is_read(output: Tensor) -> bool:
    """Not for text and indices, which a classifier may return beside its scores."""
    return output.dtype not in ("string", "int32", "int64", "bool") or bool(output.scale)


def _named(outputs: Sequence[Tensor], name: str) -> int:
    for index, output in enumerate(outputs):
        if name in (output.name, output.alias):
            return index
    raise ModelError(f"The model has no output {name!r}. Its outputs: {_listed(outputs)}. Correct the setting output.")


def _detects_objects(outputs: Sequence[Tensor]) -> bool:
    """Whether an output has boxes: four numbers for each of several objects."""
    return any(len(output.shape) == 3 and output.shape[1] > 1 and output.shape[2] == 4 for output in outputs)


def _not_a_classifier(outputs: Sequence[Tensor]) -> str:
    kind = ", so it is probably an object detector" if len(outputs) in (3, 4) else ", none of them one score per label"
    many = f"it has {len(outputs)} outputs{kind}"
    return f"This is not an image classifier: {many}. Drop a model that returns one score per label."


def _undecided(outputs: Sequence[Tensor], labels: int) -> int:
    fits = f"not exactly one of them has one value for each of the {labels} labels" if labels else "there are no labels"
    raise (ModelError if labels else NoLabelsError)(
        f"The model has {len(outputs)} outputs, and {fits}: {_listed(outputs)}. Put `output:` and the name of the one "
        "with the scores in a .yaml file next to the model, or give as many labels as it has values."
    )


def _listed(outputs: Sequence[Tensor]) -> str:
    return ", ".join(f"{output.alias or output.name} ({shape_of(output)})" for output in outputs)
