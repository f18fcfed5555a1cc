"""SavedFunction: a signature of a SavedModel as the agent serves it, for one instance or for a batch of them."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.errors import InputRefusedError, MemoryFullError, ModelError, NoRoomError
from agent.model_file.layout import axes_of
from agent.model_file.metadata import Tensor
from agent.model_file.signature import choose_served
from agent.runtimes.model_input import black, encoded
from agent.runtimes.saved_model import open_saved_model
from agent.runtimes.tensorflow import import_tensorflow, last_line, use_options
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from agent.model_file.warmup_requests import WarmupRequest
    from agent.runtimes.saved_model import TrainedModel
    from agent.runtimes.tensorflow import TensorFlowOptions

    Array: TypeAlias = npt.NDArray[np.generic]
    Row: TypeAlias = tuple[Array, ...]

_ALIKE = 1e-3  # how much an output of an instance may depend on the others of its batch, relative to its values


class SavedFunction:
    """Takes the tensors of instances and returns every output of each, as a row. Any thread may call it.

    `input` and `outputs` have the shapes for one instance, with a batch of 1 if the signature has a batch. `batch` is
    the most instances that one call takes; None: any number.
    """

    def __init__(self, trained: TrainedModel, options: TensorFlowOptions) -> None:
        """Raises ModelError if no signature takes pictures, or if the one that does fails for a black picture."""
        self._tf = import_tensorflow()
        signature = choose_served(trained.signatures, decodes_images=trained.decodes_images)
        (taken,) = signature.inputs
        self.key = signature.key
        self.input = _input_of_one(taken)
        self.batch = _batch(taken)
        self.notes: list[str] = []
        self.device = ""
        self._trained = trained  # keeps the variables alive
        self._names = [output.name for output in signature.outputs]
        self._shared: set[int] = set()  # outputs that all instances have in common
        with complaints_translated(self._tf, f"The signature {self.key} does not accept a picture"):
            self._call = self._traced(trained.calls[self.key], taken, options)
            one = self._computed(black(self.input))
        other = self._tried(self._noise())
        self.outputs = tuple(map(_output, self._names, one, other or one))
        if self.batch != 1 and (other is None or not self._works_by_instance((one, other))):
            self.batch = 1

    def __del__(self) -> None:
        """Frees the variables, which the cycles inside the graphs of TensorFlow would keep until a full collection."""
        self.__dict__.clear()
        gc.collect()

    def __call__(self, tensors: Sequence[Array]) -> list[Row]:
        """Raises ModelError, InputRefusedError, and MemoryFullError."""
        count = len(tensors)
        with complaints_translated(self._tf, "TensorFlow cannot compute the model"):
            computed = self._computed(tensors[0] if count == 1 else np.concatenate(tensors))
        return [
            tuple(
                values if count == 1 or index in self._shared else values[row : row + 1]
                for index, values in enumerate(computed)
            )
            for row in range(count)
        ]

    def replay(self, request: WarmupRequest) -> None:
        """Raises ModelError if it fails."""
        from tensorflow.core.framework.tensor_pb2 import TensorProto  # noqa: PLC0415  (TensorFlow's)

        if (call := self._trained.calls.get(request.signature)) is None:
            raise ModelError(
                f"A warm-up request calls the signature {printable(request.signature)}, which the model does not have. "
                "Correct assets.extra/tf_serving_warmup_requests, or remove it."
            )
        with complaints_translated(self._tf, "A warm-up request fails"):
            given = {
                name: self._tf.constant(self._tf.make_ndarray(TensorProto.FromString(content)))
                for name, content in request.inputs.items()
            }
            call(**given)

    def _computed(self, stack: Array) -> list[Array]:
        """Of a model with a fixed batch, the last instance fills it."""
        count = len(stack)
        if (lacking := (self._fixed or 0) - count) > 0:
            stack = np.concatenate([stack, np.repeat(stack[-1:], lacking, axis=0)])
        given = self._tf.constant(stack.tolist() if stack.dtype == object else stack, self._spec.dtype)
        results = self._call(self._tf.reshape(given, ()) if self._spec.shape.rank == 0 else given)
        self.device = next(iter(results.values())).device
        values = [np.asarray(results[name].numpy()) for name in self._names]
        return (
            [each[:count] if each.shape[:1] == (self._fixed,) else each for each in values] if lacking > 0 else values
        )

    def _traced(self, call: Callable[..., Any], taken: Tensor, options: TensorFlowOptions) -> Callable[[Any], Any]:
        """The function for tensors of `input`; with XLA if it can compile it."""
        tf = self._tf
        dtype = tf.as_dtype(taken.dtype)
        self._fixed = self.batch if self.batch != 1 else None
        self._spec = _spec(taken, self.input)

        def whole(given: Any) -> Any:
            results = call(**{taken.name: given if given.dtype == dtype else tf.cast(given, dtype)})
            return {
                name: tf.cast(each, tf.float32) if each.dtype.is_floating else each for name, each in results.items()
            }

        if options.xla:
            try:
                self._call = tf.function(whole, jit_compile=True, autograph=False).get_concrete_function(self._spec)
                self._computed(black(self.input))
            except Exception as error:  # noqa: BLE001  (of many kinds; the model works without it)
                self.notes.append(f"XLA has no effect: it cannot compile the model ({last_line(error)})")
            else:
                return self._call
        return tf.function(whole, autograph=False).get_concrete_function(self._spec)  # type: ignore[no-any-return]

    def _tried(self, stack: Array) -> list[Array] | None:
        """None if the model refuses it."""
        try:
            return self._computed(stack)
        except (self._tf.errors.OpError, ValueError):
            return None

    def _works_by_instance(self, alone: tuple[list[Array], list[Array]]) -> bool:
        """Whether a black image and noise in one call get what each got alone."""
        together = self._tried(np.concatenate([black(self.input), self._noise()]))
        if together is None:
            return False
        for index, values in enumerate(together):
            if values.shape[:1] == (2,) and all(_are_alike(values[row : row + 1], alone[row][index]) for row in (0, 1)):
                continue
            if not all(_are_alike(values, each[index]) for each in alone):
                return False
            self._shared.add(index)
        return True

    def _noise(self) -> Array:
        from agent.image import Image  # noqa: PLC0415

        random = np.random.default_rng(0)
        if self.input.dtype == "string":
            return encoded(Image(random.integers(0, 256, (64, 64, 3), np.uint8)).to_png())
        return random.integers(0, 256, self.input.shape).astype(self.input.dtype)


def open_function(path: Path, options: TensorFlowOptions) -> SavedFunction:
    """Takes seconds. Raises ModelError, NoRoomError."""
    notes = use_options(options)
    with shortage_of_room():
        function = SavedFunction(_opened(path), options)
    function.notes.extend(notes)
    return function


def _opened(path: Path) -> TrainedModel:
    """Without `path` in the messages: the agent opens its own copy of what was dropped."""
    try:
        return open_saved_model(path)
    except ModelError as error:
        words = str(error).replace(f"{path}/", "").replace(str(path), "The SavedModel")
        raise type(error)(words) from error


@contextmanager
def shortage_of_room() -> Iterator[None]:
    """While a model is opened or warmed up, too little memory is a reason not to serve it now."""
    try:
        yield
    except MemoryFullError as error:
        raise NoRoomError(
            "The model needs more memory than is free on TensorFlow's device. Drop a smaller model, or remove others."
        ) from error


@contextmanager
def complaints_translated(tf: Any, what: str) -> Iterator[None]:
    """Turns TensorFlow's errors into errors of the agent. `what` begins their sentence."""
    errors = tf.errors
    try:
        yield
    except errors.ResourceExhaustedError as error:
        raise MemoryFullError(
            "The memory of TensorFlow's device is currently too small for this image. Retry later.", retry_after_s=1
        ) from error
    except errors.InvalidArgumentError as error:
        raise InputRefusedError(
            f"{what}: {last_line(error)}. Send another image, or export the model again."
        ) from error
    except (errors.OpError, ValueError, TypeError) as error:
        raise ModelError(f"{what}: {last_line(error)}. Export it again.") from error


def _input_of_one(taken: Tensor) -> Tensor:
    """As the agent feeds it: whole numbers as pixels, every other number as float32."""
    if taken.dtype == "string":
        return Tensor(taken.name, (1,), "string")
    axes = axes_of(taken.shape) or ""
    shape = tuple(1 if axis == "N" else side for axis, side in zip(axes, taken.shape, strict=True))
    return Tensor(taken.name, shape, "float32" if "float" in taken.dtype else "uint8")


def _batch(taken: Tensor) -> int | None:
    if taken.dtype != "string" and (axes_of(taken.shape) or "")[:1] != "N":
        return 1
    first = taken.shape[0] if taken.shape else 1
    return None if first == -1 else first


def _spec(taken: Tensor, served: Tensor) -> Any:
    tf = import_tensorflow()
    shape = [None if side == -1 else side for side in taken.shape]
    return tf.TensorSpec(shape, tf.as_dtype(served.dtype))


def _output(name: str, values: Array, others: Array) -> Tensor:
    """`values` and `others` are of two images; a side that depends on the image is -1."""
    shape = values.shape if values.shape == others.shape else (-1,) * values.ndim
    return Tensor(name, shape, "string" if values.dtype == object else values.dtype.name)


def _are_alike(values: Array, others: Array) -> bool:
    if values.shape != others.shape:
        return False
    if values.dtype.kind != "f":
        return bool(np.array_equal(values, others))
    return bool(np.allclose(values, others, rtol=_ALIKE, atol=_ALIKE, equal_nan=True))
