"""Keras: a model that Keras saved as a .keras or an .h5 file."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.host.digest import sha256_of
from agent.model_file.metadata import Tensor
from agent.model_file.signature import Signature
from agent.runtimes.saved_model import TrainedModel
from agent.runtimes.tensorflow import first_line, import_keras_2, import_tensorflow, sides
from converter.errors import TrainedModelError
from converter.source.dequantization import dequantized, is_quantized
from converter.source.keras_config import changed, check_config, quantized_for_good
from converter.source.keras_file import damage_named, read_keras_file
from converter.source.pruning import unwrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.source.keras_file import KerasFile

_KEY = "call"  # of the only signature


def open_keras(path: Path, *, archive: bool, allow_code: bool = False) -> TrainedModel:
    """Raises TrainedModelError if the file is damaged, would run code without `allow_code`, or Keras cannot load it."""
    file = read_keras_file(path, archive=archive)
    model = _loaded(file, allow_code=allow_code)
    inputs = _tensors(model.inputs, [tensor.name.partition(":")[0] for tensor in model.inputs])
    outputs = _tensors(model.outputs, _output_names(model))
    tf = import_tensorflow()
    call = tf.function(lambda image: _called(model, image, [tensor.name for tensor in outputs]))
    return TrainedModel(
        path=path,
        sha256=_sha256(path),
        kind=file.kind,
        keras=file.version,
        signatures=(Signature(_KEY, inputs, outputs),),
        calls={_KEY: _Call(call, model.variables)},
        loaded=model,
    )


def _loaded(file: KerasFile, *, allow_code: bool) -> Any:
    with damage_named(file.path):  # it can be nested too deeply for Python
        config = changed(file.config, _without_training)
        config = config if file.archive else changed(config, unwrapped)  # an archive has its weights by other names
    if not allow_code:
        check_config(config, file.path)
    tf = import_tensorflow()
    keras = import_keras_2() if file.version.startswith(("1", "2")) else tf.keras  # Keras 3 cannot read every old file
    with tempfile.TemporaryDirectory() as folder:
        copy = file.copy(Path(folder), config)
        try:
            model = keras.models.load_model(str(copy), compile=False, safe_mode=not allow_code)
            model = dequantized(model, keras) if is_quantized(config) else model
        except Exception as error:
            if is_quantized(config):
                raise quantized_for_good(file.path) from error
            raise TrainedModelError(
                f"{file.path} cannot be loaded: {_why(error)}. "
                "Export the model as a SavedModel in the program that trained it: model.export(folder)."
            ) from error
    if not isinstance(model, keras.Model) or not _has_tensors(model):
        raise TrainedModelError(
            f"{file.path} contains no model whose input is known. Call the model on an image before it is saved, or "
            "begin it with keras.Input(shape)."
        )
    return model


def _has_tensors(model: Any) -> bool:
    """A Sequential model raises an error if it was never called."""
    try:
        return bool(model.inputs and model.outputs)
    except (AttributeError, ValueError):
        return False


def _without_training(part: dict[str, Any]) -> dict[str, Any]:
    """Optimizers, losses and metrics of inner models are not needed."""
    return {key: value for key, value in part.items() if key != "compile_config"}


def _why(error: Exception) -> str:
    own = re.search(r"(?:Could not locate class|Unknown layer:) '([^']+)'", str(error))
    return f"the code of its layer {own[1]!r} is not in the file" if own else first_line(error)


@dataclass(frozen=True)
class _Call:
    """Takes its only image by name, as the signatures of a SavedModel do."""

    function: Any
    variables: Any

    def __call__(self, **inputs: Any) -> Any:
        (image,) = inputs.values()
        return self.function(image)


def _called(model: Any, image: Any, names: list[str]) -> dict[str, Any]:
    tf = import_tensorflow()
    expected = getattr(model, "input", None)  # a Sequential of Keras 3 may have none
    given = dict.fromkeys(expected, image) if isinstance(expected, dict) else image
    return dict(zip(names, tf.nest.flatten(model(given, training=False)), strict=True))


def _output_names(model: Any) -> list[str]:
    """As in the SavedModel of Keras 2, by model.save(folder), or of Keras 3, by model.export(folder)."""
    tf = import_tensorflow()
    if not isinstance(model, tf.keras.Model):
        return list(model.output_names)
    given, count = getattr(model, "output", None), len(model.outputs)  # a Sequential of Keras 3 may have no output
    if isinstance(given, dict) and len(given) == count:
        return sorted(given)
    return [f"output_{number}" for number in range(count)]


def _tensors(tensors: Any, names: Sequence[str]) -> tuple[Tensor, ...]:
    tf = import_tensorflow()
    return tuple(
        Tensor(name, sides(tensor.shape), tf.as_dtype(tensor.dtype).name)
        for name, tensor in zip(names, tensors, strict=True)
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_of(file)
