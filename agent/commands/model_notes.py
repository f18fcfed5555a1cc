"""Model notes: what `inspect` points out about a model and its settings."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from agent.errors import ModelError
from agent.model_file.labels import count_from_one
from agent.model_file.layout import Layout, layout_of, shape_of
from agent.model_file.metadata import ModelFile
from agent.runtimes.output import choose_output, for_one_image, value_count
from agent.runtimes.preprocessing import describes_pixels, without_effect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model_file.model import Model
    from agent.model_file.settings import ModelSettings


def unused_settings(file: Model, sidecar: ModelSettings) -> dict[str, str]:
    """As without_effect(), but without a range in the file's metadata that only describes the quantized pixels.

    Empty for a SavedModel, which takes unquantized pixels.
    """
    unused: dict[str, str] = {}
    if not isinstance(file, ModelFile):
        return unused
    with suppress(ModelError):  # the reason of the trial says it
        if len(file.inputs) == 1:
            unused = without_effect(file.inputs[0], file.settings.overridden_by(sidecar))
            if describes_pixels(file.inputs[0], file.settings):
                unused = {name: why for name, why in unused.items() if getattr(sidecar, name) is not None}
    return unused


def notes_on(file: Model, sidecar: ModelSettings) -> list[str]:
    """How the agent uses an unusual model, and what is probably not meant so, although the model can serve."""
    settings = file.settings.overridden_by(sidecar)
    notes = list(dict.fromkeys(unused_settings(file, sidecar).values()))
    with suppress(ModelError):
        if isinstance(file, ModelFile) and len(file.inputs) == 1:
            notes += [*_on_layout(layout_of(file.inputs[0])), *_on_output(file, settings)]
    labels = settings.labels or ()
    if count_from_one(labels):
        notes.append(f"The labels begin with the numbers 1 to {len(labels)}. Only numbers from 0 up count as indices.")
    return notes


def _on_layout(layout: Layout) -> Iterator[str]:
    if "CHW" in layout.axes:
        yield "The input has its channels first: the agent transposes each image."
    if "C" not in layout.axes:
        yield "The input has no channel axis: the agent gives it gray images."
    if layout.batch > 1:
        yield f"The input is a batch of {layout.batch} images: the agent reduces it to 1."


def _on_output(file: ModelFile, settings: ModelSettings) -> Iterator[str]:
    outputs = for_one_image(file.outputs, layout_of(file.inputs[0]).batch)
    output = outputs[choose_output(outputs, settings)]
    if len(outputs) > 1:
        yield f"Of the {len(outputs)} outputs, {output.alias or output.name} ({shape_of(output)}) has the scores."
    labels = settings.labels or ()
    if value_count(output) == 1 and len(labels) in (1, 2):
        other = f", and {labels[0]} gets 1 - p" if len(labels) == 2 else ""
        yield f"The model has one output p: {labels[-1]} gets p{other}."
