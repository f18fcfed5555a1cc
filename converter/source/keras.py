"""Keras: a model that Keras saved as a .keras or an .h5 file."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.host.digest import sha256_of
from agent.model_file.metadata import Tensor
from agent.model_file.signature import Signature
from agent.runtimes.saved_model import TrainedModel
from agent.runtimes.tensorflow import first_line, import_keras_2, import_tensorflow, sides
from converter.errors import TrainedModelError

if TYPE_CHECKING:
    from pathlib import Path

_KEY = "call"  # of the only signature


def open_keras(path: Path) -> TrainedModel:
    """Raises TrainedModelError if the file is damaged, or Keras cannot load it."""
    tf = import_tensorflow()
    version = _version(path)
    keras = import_keras_2() if version.startswith("2") else tf.keras  # Keras 3 cannot read every file of Keras 2
    try:
        model = keras.models.load_model(str(path), compile=False)
        inputs, outputs = _tensors(model.inputs), _tensors(model.outputs)
    except Exception as error:
        own = re.search(r"(?:Could not locate class|Unknown layer:) '([^']+)'|`(Lambda)` layer", str(error))
        why = f"the code of its layer {own[1] or own[2]!r} is not in the file" if own else first_line(error)
        raise TrainedModelError(
            f"{path} cannot be loaded: {why}. "
            "Export the model as a SavedModel in the program that trained it: model.export(folder)."
        ) from error
    call = tf.function(lambda image: _called(model, image, [tensor.name for tensor in outputs]))
    return TrainedModel(
        path=path,
        sha256=_sha256(path),
        kind=f"Keras {path.suffix} file",
        keras=version,
        signatures=(Signature(_KEY, inputs, outputs),),
        calls={_KEY: _Call(call, model.variables)},
        loaded=model,
    )


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


def _tensors(tensors: Any) -> tuple[Tensor, ...]:
    tf = import_tensorflow()
    return tuple(
        Tensor(tensor.name.partition(":")[0], sides(tensor.shape), tf.as_dtype(tensor.dtype).name) for tensor in tensors
    )


def _version(path: Path) -> str:
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json"))["keras_version"])
        import h5py  # noqa: PLC0415  (comes with TensorFlow)

        with h5py.File(path) as file:
            version = str(file.attrs["keras_version"]) if "model_config" in file.attrs else None
    except Exception as error:
        raise TrainedModelError(
            f"{path} is not a Keras model, or damaged: {first_line(error)}. Copy it again, or save the model again."
        ) from error
    if version is None:
        raise TrainedModelError(f"{path} contains no model, at most weights. Save the whole model: model.save(file).")
    return version


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_of(file)
