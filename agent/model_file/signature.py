"""Signature: how a trained model is called, and which of its signatures is an image classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.errors import ModelError, SignatureError
from agent.model_file.layout import Layout, axes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from agent.model_file.metadata import Tensor

_DEFAULT = "serving_default"
_MOST_OBLONG = 3
SCORE_NAMES = ("probabilities", "scores", "softmax")  # how Estimators name the scores if there are several outputs

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
    """A usable signature: `input` is 1 x height x width x channels, none of them open; `output` is the scores.

    The model itself takes a tensor of `layout`, under the same name.
    """

    key: str
    input: Tensor
    output: Tensor
    layout: Layout


def choose_signature(
    signatures: Sequence[Signature],
    *,
    key: str | None,
    size: Size | None,
    output: str | None = None,
    counts: Collection[int] = (),
) -> ImageSignature:
    """The signature named `key`; without `key` the one that is an image classifier, preferably serving_default.

    Of several outputs, that named `output`, or the one with as many values as labels; `counts` has the possible
    numbers of labels. Raises ModelError with what was found if there is none, SignatureError if the caller must choose.
    """
    chosen = _chosen(signatures, key=key, size=size)
    return _fixed(chosen, size, _scores(chosen, output, counts))


def choose_served(signatures: Sequence[Signature], *, decodes_images: bool) -> Signature:
    """The signature that the agent serves: serving_default if it takes pictures, or else the only one that does.

    `decodes_images`: the model has an operator that decodes images, so a signature of strings may take files. Raises
    ModelError with what was found if there is none, and if it does not state the size of its pictures.
    """
    fitting = [each for each in signatures if misfit(each, None) is None]
    files = [each for each in signatures if decodes_images and _takes_files(each)]
    default = [each for each in (*fitting, *files) if each.key == _DEFAULT]
    for found in (default, fitting, files):
        if len(found) == 1:
            return _of_fixed_size(found[0])
    if fitting or files:
        keys = " or ".join(each.key for each in fitting or files)
        raise ModelError(f"Several signatures take pictures: {keys}. Save the model again with only one of them.")
    return _chosen(signatures, key=None, size=None)  # raises the reason


def _takes_files(signature: Signature) -> bool:
    if len(signature.inputs) != 1:
        return False
    (tensor,) = signature.inputs
    return tensor.dtype == "string" and len(tensor.shape) <= 1 and bool(_score_outputs(signature))


def _of_fixed_size(signature: Signature) -> Signature:
    sides = _sides(signature.inputs[0])
    if sides and min(sides["H"], sides["W"]) < 1:
        raise ModelError(
            f"The model has no fixed input size ({_shape(signature.inputs[0])}). Save it again with one, such as "
            "keras.Input((224, 224, 3)), or convert it: edge-convert convert --input-size HxW."
        )
    return signature


def misfit(signature: Signature, size: Size | None) -> str | None:
    """Why `signature` is not an image classifier, in a sentence with the remedy, or None if it is one."""
    if len(signature.inputs) != 1:
        return f"it has {len(signature.inputs)} inputs, not one image"
    tensor = signature.inputs[0]
    return _input_misfit(tensor, size) or _output_misfit(signature)


def _chosen(signatures: Sequence[Signature], *, key: str | None, size: Size | None) -> Signature:
    if not signatures:
        raise ModelError("The SavedModel has no signature. Save it with one: model.export(folder).")
    if key is not None:
        named = {signature.key: signature for signature in signatures}
        if key not in named:
            raise SignatureError(f"The model has no signature {key!r}. Available: {', '.join(named)}.")
        return _fitting(named[key], size)
    fitting = [signature for signature in signatures if misfit(signature, size) is None]
    default = [signature for signature in fitting if signature.key == _DEFAULT]
    if len(fitting) > 1 and not default:
        raise SignatureError(f"Several signatures fit. Choose one: --signature {' or '.join(s.key for s in fitting)}.")
    if not fitting:
        return _fitting(min(signatures, key=lambda signature: signature.key != _DEFAULT), size)  # raises the reason
    return (default or fitting)[0]


def _fitting(signature: Signature, size: Size | None) -> Signature:
    """Raises ModelError unless `signature` is an image classifier."""
    why = misfit(signature, size)
    if why is None:
        return signature
    if signature.inputs and signature.inputs[0].dtype == "string":
        raise ModelError(f"The model does not take pixels: {why}. {signature}.")
    if signature.inputs and len(signature.inputs[0].shape) == 4 and not _sides(signature.inputs[0]):
        raise ModelError(f"The model cannot get camera images: {why}. Export it with color or gray input. {signature}.")
    raise ModelError(f"This is not an image classifier: {why}. {signature}.")


def _fixed(signature: Signature, size: Size | None, output: Tensor) -> ImageSignature:
    tensor = signature.inputs[0]
    sides = _sides(tensor)
    stated = sides["H"], sides["W"]
    height, width = size or stated
    if min(height, width) < 1:
        raise SignatureError(
            f"The model has no fixed input size ({_shape(tensor)}). Give one: --input-size HEIGHTxWIDTH."
        )
    if any(side not in (-1, wanted) for side, wanted in zip(stated, (height, width), strict=True)):
        raise SignatureError(
            f"--input-size {height}x{width} does not fit the model, which accepts only {_shape(tensor)}."
        )
    layout = Layout("".join(sides), max(sides.get("N", 1), 1), height, width, sides.get("C", 1))
    image = replace(tensor, shape=(1, height, width, layout.channels))
    return ImageSignature(signature.key, image, output, layout)


def _sides(tensor: Tensor) -> dict[str, int]:
    """The sides by axis, in the order of the tensor; empty if it cannot be an image."""
    axes = axes_of(tensor.shape)
    return {} if axes is None else dict(zip(axes, tensor.shape, strict=True))


def _input_misfit(tensor: Tensor, size: Size | None) -> str | None:
    if tensor.dtype == "string":
        return (
            "its input is a string, that is text or an encoded image such as a JPEG; if it classifies images, export "
            "a signature that takes the decoded pixels, images x height x width x channels"
        )
    sides = _sides(tensor)
    if not sides and len(tensor.shape) == 4:
        count = "an unknown number of" if tensor.shape[3] == -1 else tensor.shape[3]
        return f"its input has {count} channels, not 3 (color) or 1 (gray)"
    if not sides:
        return f"its input is {_shape(tensor)}, not images x height x width x channels"
    height, width = sides["H"], sides["W"]
    if 1 in (height, width):
        return f"its input is {height} x {width}, one pixel wide or high, which looks like audio features"
    if size is None and min(height, width) > 0 and max(height, width) > _MOST_OBLONG * min(height, width):
        return (
            f"its input is {height} x {width}, which looks like audio features rather than a picture; "
            f"if it does take pictures, confirm it with --input-size {height}x{width}"
        )
    return None


def _output_misfit(signature: Signature) -> str | None:
    if any(len(output.shape) == 3 and output.shape[2] == 4 for output in signature.outputs):
        return "it returns boxes of four numbers, so it is probably an object detector"
    return None if _score_outputs(signature) else "none of its outputs is images x scores"


def _score_outputs(signature: Signature) -> list[Tensor]:
    """Outputs that are a list of numbers for each image, or else one number, or the list of the only image.

    An unknown shape passes; it is known later.
    """
    tensor = signature.inputs[0]
    sides = _sides(tensor)
    batch_axes = 1 if "N" in sides or (tensor.dtype == "string" and tensor.shape) else 0
    floats = [output for output in signature.outputs if output.dtype.startswith(("float", "bfloat"))]
    lists = [
        output
        for output in floats
        if (not output.shape or len(output.shape) > batch_axes)
        and sum(side != 1 for side in output.shape[batch_axes:]) <= 1
    ]
    return lists or [output for output in floats if len(output.shape) == 1 and sides.get("N") in (1, *output.shape)]


def _scores(signature: Signature, name: str | None, counts: Collection[int]) -> Tensor:
    candidates = _score_outputs(signature)
    if name is not None:
        named = [output for output in candidates if output.name == name]
        if not named:
            raise SignatureError(f"The model has no scores in an output {name!r}. Available: {_listed(candidates)}.")
        return named[0]
    fitting = [output for output in candidates if _count(output) in counts]
    if 2 in counts and not fitting:  # one sigmoid serves two labels
        fitting = [output for output in candidates if _count(output) == 1]
    left = fitting or candidates
    for outputs in (left, [output for output in left if output.name in SCORE_NAMES]):
        if len(outputs) == 1:
            return outputs[0]
    ways = " or ".join(output.name for output in left)
    raise SignatureError(f"Several outputs can be the scores: {_listed(candidates)}. Choose one: --output {ways}.")


def _count(output: Tensor) -> int:
    """How many numbers a list has, -1 if that is open; a list may also be 1 x 1 x numbers or numbers x 1 x 1."""
    return max(output.shape[1:] or output.shape, default=-1)


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name}: {tensor.dtype} {_shape(tensor)}" for tensor in tensors) or "nothing"


def _shape(tensor: Tensor) -> str:
    return " x ".join("?" if side == -1 else str(side) for side in tensor.shape) or "of unknown shape"
