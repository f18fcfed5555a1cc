"""Classifier: preprocesses an image and invokes the model; each runtime has a subclass."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from agent.errors import AgentError, InputRefusedError, ModelError, NoLabelsError, NotFiniteError, TensorError
from agent.model_file.layout import shape_of
from agent.runtimes.model_input import FILE_LAYOUT, FileInput, PixelInput, black, check_input, layout_of_picture
from agent.runtimes.output import choose_output, for_one_image, value_count
from agent.runtimes.scores import Scores, dequantized, scores_of_one
from agent.runtimes.serving_signature import ServingSignature, as_served, served_output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from agent.image import Image
    from agent.model_file.metadata import Tensor
    from agent.model_file.settings import ModelSettings, Score
    from agent.runtimes.score_kind import SeenScores
    from agent.runtimes.serving_signature import ServedTensor

    Array: TypeAlias = npt.NDArray[np.generic]


class Spent(NamedTuple):
    """Milliseconds; `cpu` is the calling thread's CPU time during invoke, so other load does not affect it."""

    preprocess: float
    invoke: float
    cpu: float


class Classifier(ABC):
    """One thread at a time may call scores(), scores_of_tensor(), outputs() or values().

    `score` is what the outputs are; if it `is_undecided`, decide_score() follows before the first call of scores(), and
    `seen` has the reason.
    """

    platform = "tensorflow_tflite"
    # Where a person can put settings, and labels
    _sidecar = "a .yaml file next to the model"
    _label_file = "a text file with the model's name and the extension .txt next to it"

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        settings: ModelSettings,
        *,
        takes_files: bool = False,
    ) -> None:
        """`settings` are the final ones: those in the file, overridden by the sidecars and the configuration.

        `takes_files`: an input of strings takes encoded images.

        Raises ModelError with the cause and the remedy if the model is not an image classifier, has no labels, or
        has a float input of unknown range.
        """
        tensor = check_input(inputs, takes_files=takes_files)
        self.layout = FILE_LAYOUT if takes_files else layout_of_picture(tensor)
        self.input = tensor if takes_files else replace(tensor, shape=self.layout.shape)
        self._outputs = for_one_image(outputs, self.layout.batch)
        self.output_index = choose_output(self._outputs, settings)
        self.output = _check_output(self._outputs[self.output_index])
        self._served = _served(self._outputs, first=self.output_index)
        self._count = value_count(self.output)
        self.labels = _check_labels(settings, self._count, self.layout.batch, file=self._label_file)
        self.score: Score | None = settings.score
        self.seen: SeenScores | None = None
        self._unknown_below = settings.unknown_below
        self._temperature = None if settings.temperature == 1 else settings.temperature
        self._are_independent = False
        self._input = (
            FileInput(self.input)
            if takes_files
            else PixelInput(self.input, self.layout, settings, sidecar=self._sidecar)
        )

    @property
    def is_undecided(self) -> bool:
        """Whether decide_score() must follow: no setting says what the outputs are, or not enough for a temperature."""
        if self.score is None:
            return True
        return self._temperature is not None and self.score != "logits" and self._count != 1

    def decide_score(self, seen: SeenScores) -> None:
        """A setting that says what the outputs are is not changed."""
        self.score, self.seen = self.score or seen.score, seen
        self._are_independent = seen.kind == "independent"

    @property
    def longest_side(self) -> int:
        return self._input.longest_side

    @property
    def smallest_side(self) -> int:
        """Pixels: a JPEG may be reduced while it is decoded as long as both sides keep this many."""
        return self._input.smallest_side

    @property
    @abstractmethod
    def ran_on(self) -> str:
        """The runtime and the hardware it uses, as readable text."""

    @property
    def accelerator(self) -> str:
        """The kind of hardware: cpu, gpu or edgetpu. It may change when an accelerator fails. Any thread."""
        return "cpu"

    @property
    def accelerator_reason(self) -> str | None:
        """Why that hardware computes the model; None if there was nothing to choose. Any thread."""
        return None

    @property
    def signature(self) -> ServingSignature:
        """The tensors as clients see them; valid once the score is decided."""
        return ServingSignature(
            input=self._input.served,
            outputs=tuple(output for _, output in self._served),
            has_logits=self.score in (None, "logits"),
            platform=self.platform,
        )

    def scores(self, image: Image) -> tuple[Scores, Spent]:
        """The scores of all labels, and the time spent.

        Raises ModelError if the runtime fails although the model was warmed up, NotFiniteError for NaN and infinity.
        """
        started = time.perf_counter()
        return self._scores(self.tensor(image), started)

    def scores_of_tensor(self, values: Array) -> tuple[Scores, Spent]:
        """Like scores(), for one instance in the form of `signature.input`.

        Raises TensorError for NaN and infinity in the values, and for values so large that the scores are not finite:
        a client sent them, so they say nothing about the model.
        """
        started = time.perf_counter()
        tensor = self.tensor_of(values)
        try:
            return self._scores(tensor, started)
        except ModelError as error:
            raise blamed(error) from None

    def tensor(self, image: Image) -> Array:
        """The first step of scores(). Any thread."""
        return self._input.of_image(image)

    def tensor_of(self, values: Array) -> Array:
        """The first step of scores_of_tensor(). Any thread. Raises TensorError."""
        return self._input.of_instance(values)

    def read(self, raw: Array) -> Scores:
        """The last step: the scores in the raw values of the output. Any thread. Raises ModelError as scores()."""
        self._check_size(raw)
        if raw.dtype == np.float32 and not np.isfinite(raw).all():
            raise NotFiniteError("The model returned NaN or infinity for this image. Train or convert it again.")
        return self._read(raw)

    def outputs(self) -> dict[str, Array]:
        """The outputs of the last call as the model returned them, by name, in the form of `signature.outputs`."""
        return self.as_served(self._output)

    def as_served(self, raw: Callable[[int], Array]) -> dict[str, Array]:
        """The same for any call: `raw` gives the values of an output. Any thread."""
        return {served.name: as_served(raw(index), self._outputs[index]) for index, served in self._served}

    def _output(self, index: int) -> Array:  # noqa: ARG002  (for runtimes with several outputs)
        """The raw values of an output in the last call."""
        return self._raw

    def _scores(self, tensor: Array, started: float) -> tuple[Scores, Spent]:
        invoked, cpu_s = time.perf_counter(), time.thread_time()
        raw = self._raw = self._invoke(tensor)
        cpu_s, done = time.thread_time() - cpu_s, time.perf_counter()
        return self.read(raw), Spent((invoked - started) * 1e3, (done - invoked) * 1e3, cpu_s * 1e3)

    def values(self, image: Image) -> npt.NDArray[np.float32]:
        """The model's outputs as they are, dequantized; NaN and infinity are possible. Raises ModelError."""
        raw = self._invoke(self.tensor(image))
        self._check_size(raw)
        return dequantized(raw, self.output.scale, self.output.zero_point)

    def _check_size(self, raw: Array) -> None:
        if raw.size != self._count:  # a graph may compute its shapes at run time
            raise ModelError(f"The model returned {raw.size} scores for {len(self.labels)} labels. Convert it again.")

    def _read(self, raw: Array) -> Scores:
        scale, zero_point, step = self.output.scale, self.output.zero_point, self.output.step
        if self.score == "percent":
            scale, step = (scale or 1.0) / 100, step / 100
        are_logits = self.score in (None, "logits")
        if self._count == 1:
            return scores_of_one(
                raw,
                self.labels,
                scale=scale,
                zero_point=zero_point,
                are_logits=are_logits,
                unknown_below=self._unknown_below,
                temperature=self._temperature,
                step=step,
            )
        return Scores(
            raw,
            self.labels,
            scale,
            zero_point,
            are_logits,
            self._unknown_below,
            self._temperature,
            self._are_independent and not are_logits,
            step,
        )

    def warm_up(self, invokes: int = 3) -> None:
        """Runs the model on a black image, so that the first real image is not slow. Raises ModelError."""
        tensor = black(self.input)
        for _ in range(invokes):
            self._invoke(tensor)

    @abstractmethod
    def _invoke(self, tensor: Array) -> Array:
        """Takes a tensor of the input's shape and dtype; returns the raw outputs, one per label."""


def blamed(error: ModelError) -> AgentError:
    """The error of a tensor that a client sent: what comes of its values says nothing about the model."""
    if isinstance(error, NotFiniteError):
        return TensorError(
            "The model returned NaN or infinity for this tensor. Normalize its values as in the model's training."
        )
    return TensorError(str(error)) if isinstance(error, InputRefusedError) else error


def _served(outputs: Sequence[Tensor], *, first: int) -> tuple[tuple[int, ServedTensor], ...]:
    """The outputs that clients can get, with their indices."""
    order = sorted(range(len(outputs)), key=lambda index: index != first)
    served = ((index, served_output(outputs[index])) for index in order)
    return tuple((index, output) for index, output in served if output is not None)


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


def _check_labels(settings: ModelSettings, count: int | None, batch: int, *, file: str) -> tuple[str, ...]:
    labels = settings.labels or ()
    if count == 1 and len(labels) not in (1, 2):
        there = f"there are {len(labels)} labels" if labels else "there are no labels"
        raise (ModelError if labels else NoLabelsError)(
            f"The model has one output p, as a sigmoid gives it, and {there} for it. Put two labels, one per line, in "
            f"{file}: the first gets 1 - p, the second p. Or put one label, which gets p."
        )
    if not labels:
        raise NoLabelsError(f"The model has no labels for its {count} outputs. Put them, one per line, in {file}.")
    if count not in (1, len(labels)):
        for_each = f" for each image of its batch of {batch}" if batch > 1 else ""
        raise ModelError(
            f"There are {len(labels)} labels for {count} outputs{for_each}. Use the label file that belongs to the "
            "model. If it has 1000 labels for 1001 outputs, add `background` as its first line."
        )
    return labels
