"""Signature: how a trained model is called, and which of its signatures is an image classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.errors import ModelError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model_file.metadata import Tensor

_DEFAULT = "serving_default"
_MOST_OBLONG = 3
_SCORES = ("probabilities", "scores", "softmax")  # how Estimators name the scores if there are several outputs

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Signature:
    """The tensors have their names in the signature; an open dimension is -1."""

    key: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        return f"{self.key} takes {_listed(self.inputs)} and returns {_listed(self.outputs)}"


@dataclass(frozen=True, slots=True)
class ImageSignature:
    """A usable signature: `input` is 1 x height x width x channels, none of them open; `output` is the scores."""

    key: str
    input: Tensor
    output: Tensor


def choose_signature(signatures: Sequence[Signature], *, key: str | None, size: Size | None) -> ImageSignature:
    """The signature named `key`; without `key` the one that is an image classifier, preferably serving_default.

    Raises ModelError with what was found if there is none, SignatureError if the caller must choose.
    """
    if not signatures:
        raise ModelError("The SavedModel has no signature. Save it with one: model.export(folder).")
    if key is not None:
        named = {signature.key: signature for signature in signatures}
        if key not in named:
            raise SignatureError(f"The model has no signature {key!r}. Available: {', '.join(named)}.")
        return _fixed(named[key], size)
    fitting = [signature for signature in signatures if misfit(signature, size) is None]
    default = [signature for signature in fitting if signature.key == _DEFAULT]
    if len(fitting) > 1 and not default:
        raise SignatureError(f"Several signatures fit. Choose one: --signature {' or '.join(s.key for s in fitting)}.")
    if not fitting:
        return _fixed(min(signatures, key=lambda signature: signature.key != _DEFAULT), size)  # raises the reason
    return _fixed((default or fitting)[0], size)


def misfit(signature: Signature, size: Size | None) -> str | None:
    """Why `signature` is not an image classifier, or None if it is one."""
    if len(signature.inputs) != 1:
        return f"it has {len(signature.inputs)} inputs, not one image"
    return _input_misfit(signature.inputs[0], size) or _output_misfit(signature.outputs)


def _fixed(signature: Signature, size: Size | None) -> ImageSignature:
    why = misfit(signature, size)
    if why is not None:
        raise ModelError(f"This is not an image classifier: {why}. {signature}.")
    tensor, output = signature.inputs[0], _scores(signature.outputs)
    height, width = size or tensor.shape[1:3]
    if min(height, width) < 1:
        raise SignatureError(
            f"The model has no fixed input size ({_shape(tensor)}). Give one: --input-size HEIGHTxWIDTH."
        )
    for wanted, stated in zip((height, width), tensor.shape[1:3], strict=True):
        if stated not in (-1, wanted):
            raise SignatureError(
                f"--input-size {height}x{width} does not fit the model, which accepts only {_shape(tensor)}."
            )
    shape = (1, height, width, tensor.shape[3])
    return ImageSignature(signature.key, replace(tensor, shape=shape), output)


def _input_misfit(tensor: Tensor, size: Size | None) -> str | None:
    if tensor.dtype == "string":
        return "its input is text or encoded images"
    if len(tensor.shape) != 4:
        return f"its input is {_shape(tensor)}, not images x height x width x channels"
    if tensor.shape[3] not in (1, 3):
        if tensor.shape[1] in (1, 3):
            return f"its input is {_shape(tensor)}, channels first, which TensorFlow Lite does not support"
        count = "an unknown number of" if tensor.shape[3] == -1 else tensor.shape[3]
        return f"its input has {count} channels, not 3 (color) or 1 (gray)"
    height, width = tensor.shape[1:3]
    if size is None and min(height, width) > 0 and max(height, width) > _MOST_OBLONG * min(height, width):
        return (
            f"its input is {height} x {width}, which looks like audio features rather than a picture; "
            f"if it does take pictures, confirm it with --input-size {height}x{width}"
        )
    return None


def _output_misfit(outputs: Sequence[Tensor]) -> str | None:
    candidates = _score_outputs(outputs)
    if not candidates:
        return "none of its outputs is images x scores"
    if len(candidates) > 1 and not any(tensor.name in _SCORES for tensor in candidates):
        return f"it has {len(candidates)} outputs"
    sides = _scores(outputs).shape[1:]
    if sides and max(sides) == 1:
        return "it returns one score; end it in a softmax over two labels instead of one sigmoid"
    return None


def _score_outputs(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs with at most one side other than 1 after the batch. An unknown shape passes; it is known later."""
    return [
        tensor
        for tensor in outputs
        if tensor.dtype.startswith("float") and len(tensor.shape) != 1 and sum(s != 1 for s in tensor.shape[1:]) <= 1
    ]


def _scores(outputs: Sequence[Tensor]) -> Tensor:
    candidates = _score_outputs(outputs)
    return next((tensor for tensor in candidates if tensor.name in _SCORES), candidates[0])


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name}: {tensor.dtype} {_shape(tensor)}" for tensor in tensors) or "nothing"


def _shape(tensor: Tensor) -> str:
    return " x ".join("?" if side == -1 else str(side) for side in tensor.shape) or "of unknown shape"
