"""Classifier: preprocesses an image and invokes the model; each runtime has a subclass."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agent.errors import ModelError, NoLabelsError, NotFiniteError, TensorError
from agent.model_file.layout import layout_of, not_a_picture, shape_of
from agent.runtimes.output import choose_output, for_one_image, value_count
from agent.runtimes.preprocessing import Preprocessor, quantized
from agent.runtimes.scores import Scores, dequantized, scores_of_one
from agent.runtimes.serving_signature import ServingSignature, as_served, served_input, served_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from agent.image import Image
    from agent.model_file.layout import Layout
    from agent.model_file.metadata import Tensor
    from agent.model_file.settings import ModelSettings, Score
    from agent.runtimes.score_kind import SeenScores
    from agent.runtimes.serving_signature import ServedTensor


class Spent(NamedTuple):
    """Milliseconds; `cpu` is the calling thread's CPU time during invoke, so other load does not affect it."""

    preprocess: float
    invoke: float
    cpu: float


class Classifier(ABC):
    """One thread at a time may call scores(), scores_of_tensor(), outputs() or values().

    `score` is what the outputs are; if the settings do not say it, decide_score() does before the first call of
    scores(), and `seen` has the reason.
    """

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], settings: ModelSettings) -> None:
        """`settings` are the final ones: those in the file, overridden by the sidecars and the configuration.

        Raises ModelError with the cause and the remedy if the model is not an image classifier, has no labels, or
        has a float input of unknown range.
        """
        tensor = _check_input(inputs)
        self.layout = _check_layout(tensor)
        self.input = replace(tensor, shape=self.layout.shape)
        self._outputs = for_one_image(outputs, self.layout.batch)
        self.output_index = choose_output(self._outputs, settings)
        self.output = _check_output(self._outputs[self.output_index])
        self._served = _served(self._outputs, first=self.output_index)
        self._count = value_count(self.output)
        self.labels = _check_labels(settings, self._count, self.layout.batch)
        _check_range(settings, self.input, self.layout.channels)
        self.score: Score | None = settings.score
        self.seen: SeenScores | None = None
        self._unknown_below = settings.unknown_below
        _check_color(settings, self.layout.channels)
        self._preprocess = Preprocessor.of(self.input, settings)

    def decide_score(self, seen: SeenScores) -> None:
        self.score, self.seen = seen.score, seen

    @property
    def longest_side(self) -> int:
        """Pixels; an image may be shrunk until its shorter side is this long, without loss for the model."""
        return max(self.layout.height, self.layout.width)

    @property
    @abstractmethod
    def ran_on(self) -> str:
        """The runtime and the hardware it uses, as readable text."""

    @property
    def signature(self) -> ServingSignature:
        """The tensors as clients see them; valid once the score is decided."""
        return ServingSignature(
            input=served_input(self.input, self.layout),
            outputs=tuple(output for _, output in self._served),
            has_logits=self.score in (None, "logits"),
        )

    def scores(self, image: Image) -> tuple[Scores, Spent]:
        """The scores of all labels, and the time spent.

        Raises ModelError if the runtime fails although the model was warmed up, NotFiniteError for NaN and infinity.
        """
        started = time.perf_counter()
        return self._scores(self._preprocess(image), started)

    def scores_of_tensor(self, values: npt.NDArray[np.generic]) -> tuple[Scores, Spent]:
        """Like scores(), for one instance in the form of `signature.input`.

        Raises TensorError for NaN and infinity in the values, and for values so large that the scores are not finite:
        a client sent them, so they say nothing about the model.
        """
        started = time.perf_counter()
        if not np.isfinite(values).all():
            raise TensorError("The tensor contains NaN or infinity. Send finite values.")
        if self.input.dtype == "int8":
            values = quantized(values.astype(np.float32, copy=False), self.input)
        try:
            return self._scores(np.ascontiguousarray(values).reshape(self.input.shape), started)
        except NotFiniteError:
            raise TensorError(
                "The model returned NaN or infinity for this tensor. Normalize its values as in the model's training."
            ) from None

    def outputs(self) -> dict[str, npt.NDArray[np.generic]]:
        """The outputs of the last call as the model returned them, by name, in the form of `signature.outputs`."""
        return {served.name: as_served(self._output(index), self._outputs[index]) for index, served in self._served}

    def _output(self, index: int) -> npt.NDArray[np.generic]:  # noqa: ARG002  (for runtimes with several outputs)
        """The raw values of an output in the last call."""
        return self._raw

    def _scores(self, tensor: npt.NDArray[np.generic], started: float) -> tuple[Scores, Spent]:
        invoked, cpu_s = time.perf_counter(), time.thread_time()
        raw = self._raw = self._invoke(tensor)
        cpu_s, done = time.thread_time() - cpu_s, time.perf_counter()
        self._check_size(raw)
        if raw.dtype == np.float32 and not np.isfinite(raw).all():
            raise NotFiniteError("The model returned NaN or infinity for this image. Train or convert it again.")
        return self._read(raw), Spent((invoked - started) * 1e3, (done - invoked) * 1e3, cpu_s * 1e3)

    def values(self, image: Image) -> npt.NDArray[np.float32]:
        """The model's outputs as they are, dequantized; NaN and infinity are possible. Raises ModelError."""
        raw = self._invoke(self._preprocess(image))
        self._check_size(raw)
        return dequantized(raw, self.output.scale, self.output.zero_point)

    def _check_size(self, raw: npt.NDArray[np.generic]) -> None:
        if raw.size != self._count:  # a graph may compute its shapes at run time
            raise ModelError(f"The model returned {raw.size} scores for {len(self.labels)} labels. Convert it again.")

    def _read(self, raw: npt.NDArray[np.generic]) -> Scores:
        scale, zero_point = self.output.scale, self.output.zero_point
        if self.score == "percent":
            scale = (scale or 1.0) / 100
        are_logits = self.score in (None, "logits")
        if self._count == 1:
            return scores_of_one(
                raw,
                self.labels,
                scale=scale,
                zero_point=zero_point,
                are_logits=are_logits,
                unknown_below=self._unknown_below,
            )
        return Scores(raw, self.labels, scale, zero_point, are_logits, self._unknown_below)

    def warm_up(self, invokes: int = 3) -> None:
        """Runs the model on a black image, so that the first real image is not slow. Raises ModelError."""
        try:
            tensor = np.zeros(self.input.shape, self.input.dtype)
        except (MemoryError, ValueError) as error:  # NumPy's errors for too little memory and for an impossible size
            raise ModelError(
                f"An input of {shape_of(self.input)} needs more memory than is free on this device. "
                "Drop a smaller model."
            ) from error
        for _ in range(invokes):
            self._invoke(tensor)

    @abstractmethod
    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Takes a tensor of the input's shape and dtype; returns the raw outputs, one per label."""


def _served(outputs: Sequence[Tensor], *, first: int) -> tuple[tuple[int, ServedTensor], ...]:
    """The outputs that clients can get, with their indices."""
    order = sorted(range(len(outputs)), key=lambda index: index != first)
    served = ((index, served_output(outputs[index])) for index in order)
    return tuple((index, output) for index, output in served if output is not None)


def _check_input(inputs: Sequence[Tensor]) -> Tensor:
    if len(inputs) != 1:
        raise ModelError(
            f"The model needs more than an image: it has {len(inputs)} inputs instead of one image. "
            "Export it with the image as its only input."
        )
    tensor = inputs[0]
    if tensor.dtype == "string":
        raise ModelError("This is not an image classifier: its input is text. Drop a model that takes pictures.")
    if tensor.dtype not in ("uint8", "int8", "float32"):
        raise ModelError(f"The input is {tensor.dtype}. Convert the model with a uint8, int8 or float32 input.")
    if tensor.dtype == "int8" and not tensor.scale:
        raise ModelError("The int8 input has no scale. Convert the model again with full integer quantization.")
    return tensor


def _check_layout(tensor: Tensor) -> Layout:
    layout = layout_of(tensor)
    if min(layout.height, layout.width) == 1:
        raise not_a_picture(tensor, "one pixel wide or high, as of audio or other features")
    return layout


def _check_output(output: Tensor) -> Tensor:
    if value_count(output) is None:
        kind = ", a map or a list of points" if output.shape else ""
        raise ModelError(
            f"This is not an image classifier: its output is {shape_of(output)}{kind}, not one score per label. "
            "Drop a model that returns one score per label."
        )
    if output.dtype == "float32" or (output.dtype in ("uint8", "int8", "int16") and output.scale):
        return output
    raise ModelError(
        f"The output is {output.dtype} and has no single scale. Convert the model with float32 scores, or with "
        "quantized scores that share one scale."
    )


def _check_labels(settings: ModelSettings, count: int | None, batch: int) -> tuple[str, ...]:
    labels = settings.labels or ()
    if count == 1 and len(labels) not in (1, 2):
        there = f"there are {len(labels)} labels" if labels else "there are no labels"
        raise (ModelError if labels else NoLabelsError)(
            f"The model has one output p, as a sigmoid gives it, and {there} for it. Put two labels, one per line, in "
            "a text file with the model's name and the extension .txt next to it: the first gets 1 - p, the second p. "
            "Or put one label, which gets p."
        )
    if not labels:
        raise NoLabelsError(
            f"The model has no labels for its {count} outputs. Put them, one per line, in a text file with the "
            "model's name and the extension .txt next to it."
        )
    if count not in (1, len(labels)):
        for_each = f" for each image of its batch of {batch}" if batch > 1 else ""
        raise ModelError(
            f"There are {len(labels)} labels for {count} outputs{for_each}. Use the label file that belongs to the "
            "model. If it has 1000 labels for 1001 outputs, add `background` as its first line."
        )
    return labels


def _check_range(settings: ModelSettings, tensor: Tensor, channels: int) -> None:
    if any(values is not None and len(values) not in (1, channels) for values in (settings.mean, settings.std)):
        raise ModelError(f"mean or std has three values but the input has {channels} channel. Give one value each.")
    if tensor.dtype == "float32" and (settings.mean is None or settings.std is None):
        raise ModelError(
            "The input is float32 and its range of values is unknown. Put `mean:` and `std:` in a .yaml file next to "
            "the model: 127.5 and 127.5 for -1 to 1, 0 and 255 for 0 to 1, 0 and 1 for 0 to 255."
        )


def _check_color(settings: ModelSettings, channels: int) -> None:
    if settings.color == "gray" and channels == 3:
        raise ModelError("The settings have color: gray but the input has 3 channels. Set color to rgb or bgr.")
