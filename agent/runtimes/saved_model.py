"""SavedModel: opens a trained model with TensorFlow and finds the image classifier in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import ModelError
from agent.host.digest import sha256_of_folder
from agent.model_file.metadata import Tensor
from agent.model_file.signature import Signature, choose_signature
from agent.runtimes.classifier import Classifier
from agent.runtimes.one_image import call_with_one_image
from agent.runtimes.tensorflow import device_name, first_line, import_keras_2, import_tensorflow, last_line, sides

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    import numpy.typing as npt

    from agent.model_file.settings import ModelSettings
    from agent.model_file.signature import Size

_DECODERS = {"DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeGif", "DecodeAndCropJpeg", "DecodeWebP"}
_INTERNAL = "__saved_model"  # prefix of the signatures that TensorFlow adds


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """An opened SavedModel folder or Keras file.

    `keras` is the version that saved it, or only the major version, or None if unknown. `calls` take tensors by name.
    `decodes_images`: it has an operator that reads the content of image files.

    Nothing reads `loaded`: it keeps the variables of `calls` alive.
    """

    path: Path
    sha256: str
    kind: str
    keras: str | None
    signatures: tuple[Signature, ...]
    calls: dict[str, Any] = field(repr=False)
    loaded: Any = field(repr=False)
    decodes_images: bool = False

    @property
    def size_bytes(self) -> int:
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files if file.is_file())

    def parameters(self, key: str) -> int:
        """The number of parameters of the signature `key`, excluding those of optimizers."""
        variables = {id(variable): variable for variable in self.calls[key].variables}
        return sum(int(np.prod(variable.shape)) for variable in variables.values())


@dataclass(frozen=True, slots=True)
class ImageFunction:
    """One signature with a fixed shape: takes a float32 image of the shape of `input`, returns the scores of `output`.

    `trained_dtype` is the input type of the trained model.
    """

    key: str
    trained_dtype: str
    input: Tensor
    output: Tensor
    concrete: Any = field(repr=False)
    trained: TrainedModel = field(repr=False)

    def after(self, step: Callable[[Any], Any]) -> ImageFunction:
        """The same function with `step` before it; `step` must keep the shape of the tensor."""
        return replace(self, concrete=_concrete(lambda image: self.concrete(step(image)), self.input.shape))

    def followed_by(self, step: Callable[[Any], Any]) -> ImageFunction:
        """The same function with `step` applied to the scores."""
        concrete = _concrete(lambda image: step(self.concrete(image)), self.input.shape)
        output = replace(self.output, shape=(1, *sides(concrete.structured_outputs.shape)[1:]))
        return replace(self, concrete=concrete, output=output)


class TensorFlowClassifier(Classifier):
    """A trained model with the agent's own preprocessing and scoring."""

    def __init__(self, function: ImageFunction, settings: ModelSettings) -> None:
        super().__init__((function.input,), (function.output,), settings)
        self._concrete = function.concrete

    @property
    def ran_on(self) -> str:
        return device_name()

    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        try:
            scores: npt.NDArray[np.generic] = self._concrete(tensor).numpy().reshape(-1)
        except import_tensorflow().errors.OpError as error:
            raise ModelError(f"TensorFlow cannot compute the model: {last_line(error)}. Export it again.") from error
        return scores


def check_has_graph(path: Path) -> None:
    """Takes no time. Raises ModelError for any folder that is not a SavedModel."""
    if not (path / "saved_model.pb").is_file():
        raise ModelError(
            f"{path} is not a SavedModel: it has no saved_model.pb. Give the folder that model.export wrote."
        )


def open_saved_model(path: Path) -> TrainedModel:
    """Takes seconds. Raises ModelError if a file is missing or damaged, or TensorFlow cannot read it."""
    check_has_graph(path)
    tf = import_tensorflow()
    graph = _serving_graph(path / "saved_model.pb")
    keras = _keras_of(path, graph)
    if keras is not None and keras.startswith("2"):
        import_keras_2()
    try:
        loaded = tf.saved_model.load(str(path), tags=["serve"])
    except Exception as error:
        raise ModelError(_why_not_loaded(path, error)) from error
    keys = sorted(key for key in graph.signature_def if not key.startswith(_INTERNAL))
    version = graph.meta_info_def.tensorflow_version
    return TrainedModel(
        path=path,
        sha256=sha256_of_folder(path),
        kind=f"SavedModel of TensorFlow {version or 'unknown'}",
        keras=keras,
        signatures=tuple(_signature(key, graph.signature_def[key]) for key in keys),
        calls={key: loaded.signatures[key] for key in keys},
        loaded=loaded,
        decodes_images=_decodes_images(graph.graph_def),
    )


def image_function(
    trained: TrainedModel,
    *,
    key: str | None,
    size: Size | None,
    output: str | None = None,
    counts: Collection[int] = (),
) -> ImageFunction:
    """The image classifier in `trained`. Raises ModelError and SignatureError like choose_signature()."""
    chosen = choose_signature(trained.signatures, key=key, size=size, output=output, counts=counts)
    try:
        concrete = _concrete(call_with_one_image(trained.calls[chosen.key], chosen), chosen.input.shape)
        shape = sides(concrete.structured_outputs.shape)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{trained.path} does not accept an image of {_size(chosen.input)}: {first_line(error)}."
        ) from error
    if len(shape) < 2 or -1 in shape[1:]:
        raise ModelError(f"{trained.path} returns an output of shape {shape} for one image, not one score per label.")
    image = replace(chosen.input, dtype="float32")
    scores = replace(chosen.output, dtype="float32", shape=(1, *shape[1:]))  # TensorFlow may leave the batch open
    return ImageFunction(chosen.key, chosen.input.dtype, image, scores, concrete, trained)


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape[1:]))


def _concrete(call: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    tf = import_tensorflow()
    return tf.function(call).get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))


def _serving_graph(path: Path) -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415  (TensorFlow's)

    proto = SavedModel()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:
        raise ModelError(f"{path} is damaged: {first_line(error)}. Copy it again.") from error
    if not proto.meta_graphs:
        raise ModelError(f"{path} is empty. Copy it again.")
    for graph in proto.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise ModelError(f"{path.parent} contains no graph for serving (the tag `serve`). Save the model again.")


def _keras_of(path: Path, graph: Any) -> str | None:
    saved = [node.user_object for node in graph.object_graph_def.nodes if node.HasField("user_object")]
    if any(each.identifier.startswith("_tf_keras_") for each in saved):
        metadata = path / "keras_metadata.pb"
        text = metadata.read_bytes() if metadata.is_file() else "".join(each.metadata for each in saved).encode()
        stated = re.search(rb'"keras_version": "(2[^"]*)"', text)
        return stated[1].decode() if stated else "2"
    return "3, or 2 by export()" if {"serve", "serving_default"} <= set(graph.signature_def) else None


def _decodes_images(graph: Any) -> bool:
    nodes = chain(graph.node, *(function.node_def for function in graph.library.function))
    return any(node.op in _DECODERS for node in nodes)


def _why_not_loaded(path: Path, error: Exception) -> str:
    if not (path / "variables" / "variables.index").is_file():
        return f"{path} has no variables/variables.index. Copy the whole SavedModel folder."
    return f"{path} cannot be loaded: {first_line(error)}. Copy the whole folder again, or save the model again."


def _signature(key: str, definition: Any) -> Signature:
    return Signature(
        key,
        tuple(_tensor(name, info) for name, info in sorted(definition.inputs.items())),
        tuple(_tensor(name, info) for name, info in sorted(definition.outputs.items())),
    )


def _tensor(name: str, info: Any) -> Tensor:
    tf = import_tensorflow()
    shape = () if info.tensor_shape.unknown_rank else tuple(int(side.size) for side in info.tensor_shape.dim)
    return Tensor(name, shape, tf.as_dtype(info.dtype).name)
