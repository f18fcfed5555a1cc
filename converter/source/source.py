"""Source: a trained model as its training left it: a SavedModel folder, a .keras or an .h5 file."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.host.digest import sha256_of, sha256_of_folder
from agent.image import Image
from agent.model_file.metadata import Tensor
from agent.runtimes.classifier import Classifier
from agent.runtimes.preprocessing import Preprocessor
from converter.errors import SourceError
from converter.host import device_name, import_keras_2, import_tensorflow
from converter.signature import Signature, choose_signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from agent.model_file.settings import ModelSettings
    from converter.signature import Size

_INTERNAL = "__saved_model"  # of signatures that TensorFlow adds for itself
_KERAS_KEY = "call"


@dataclass(frozen=True, slots=True)
class Source:
    """`keras` is the version that saved it, or its first figure, None where nothing says; `calls` are TensorFlow's.

    Nothing reads `loaded`: it holds the variables of `calls`.
    """

    path: Path
    sha256: str
    kind: str
    keras: str | None
    signatures: tuple[Signature, ...]
    calls: dict[str, Any] = field(repr=False)
    loaded: Any = field(repr=False)

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in _files(self.path))

    def parameters(self, key: str) -> int:
        """How many numbers the signature `key` was trained to, those of optimizers aside."""
        variables = {id(variable): variable for variable in self.calls[key].variables}
        return sum(int(np.prod(variable.shape)) for variable in variables.values())


@dataclass(frozen=True, slots=True)
class ImageFunction:
    """One signature with nothing free: a float32 image of `input`'s shape in, the scores of `output` out.

    `trained_dtype` is what the source itself takes.
    """

    key: str
    trained_dtype: str
    input: Tensor
    output: Tensor
    concrete: Any = field(repr=False)
    source: Source = field(repr=False)

    def after(self, step: Callable[[Any], Any]) -> ImageFunction:
        """The same with `step`, from tensor to tensor of one shape, before it."""
        return replace(self, concrete=_concrete(lambda image: self.concrete(step(image)), self.input.shape))


class SourceClassifier(Classifier):
    """The source itself behind the agent's own preprocessing and scoring, on TensorFlow."""

    def __init__(self, function: ImageFunction, settings: ModelSettings) -> None:
        super().__init__((function.input,), (function.output,), settings)
        self._concrete = function.concrete

    @property
    def ran_on(self) -> str:
        return device_name()

    def _invoke(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        scores: npt.NDArray[np.generic] = self._concrete(tensor).numpy().reshape(-1)
        return scores


def open_source(path: Path) -> Source:
    """Raises SourceError when it is none of the three, is incomplete, or TensorFlow cannot read it."""
    if path.is_dir():
        return _open_saved_model(path)
    if path.is_file() and path.suffix in (".keras", ".h5", ".hdf5"):
        return _open_keras(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist.")
    raise SourceError(f"{path} is no SavedModel folder and no .keras or .h5 file: give what training saved.")


def image_function(source: Source, *, key: str | None, size: Size | None) -> ImageFunction:
    """The image classifier in `source`; SourceError, UsageError as choose_signature."""
    tf = import_tensorflow()
    chosen = choose_signature(source.signatures, key=key, size=size)
    call = source.calls[chosen.key]
    dtype = tf.as_dtype(chosen.input.dtype)

    def scores(image: Any) -> Any:
        given = call(**{chosen.input.name: tf.cast(image, dtype)}) if chosen.key != _KERAS_KEY else call(image)
        return tf.cast(given[chosen.output.name] if isinstance(given, dict) else given, tf.float32)

    try:
        concrete = _concrete(scores, chosen.input.shape)
        shape = _sides(concrete.structured_outputs.shape)
    except Exception as error:
        raise SourceError(
            f"{source.path} cannot take an image of {_size(chosen.input)}: {_first_line(error)}."
        ) from error
    if len(shape) < 2 or -1 in shape[1:]:
        raise SourceError(f"{source.path} gives an output of shape {shape} for one image, not one score a label.")
    image = replace(chosen.input, dtype="float32")
    output = replace(chosen.output, dtype="float32", shape=shape)
    return ImageFunction(chosen.key, chosen.input.dtype, image, output, concrete, source)


def gives_probabilities(function: ImageFunction, settings: ModelSettings) -> bool:
    """Whether the scores of a black, a gray and a white image are each at least 0 and in sum 1.

    The last operator of a graph tells less: two softmaxes may be averaged after it.
    """
    prepare = Preprocessor.of(function.input, settings)
    _, height, width, _ = function.input.shape
    for value in (0, 128, 255):
        scores = function.concrete(prepare(Image(np.full((height, width, 3), value, np.uint8)))).numpy()
        if not (scores.min() >= 0 and abs(float(scores.sum()) - 1) < 1e-3):
            return False
    return True


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape[1:]))


def _concrete(call: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    tf = import_tensorflow()
    return tf.function(call).get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))


def _open_saved_model(path: Path) -> Source:
    if not (path / "saved_model.pb").is_file():
        raise SourceError(
            f"{path} is no SavedModel: it has no saved_model.pb. Give the folder that model.export wrote."
        )
    tf = import_tensorflow()
    graph = _serving_graph(path / "saved_model.pb")
    keras = _keras_of(path, graph)
    if keras is not None and keras.startswith("2"):
        import_keras_2()
    try:
        loaded = tf.saved_model.load(str(path), tags=["serve"])
    except Exception as error:
        raise SourceError(_why_not_loaded(path, error)) from error
    keys = sorted(key for key in graph.signature_def if not key.startswith(_INTERNAL))
    version = graph.meta_info_def.tensorflow_version
    return Source(
        path=path,
        sha256=_sha256(path),
        kind=f"SavedModel of TensorFlow {version or 'unknown'}",
        keras=keras,
        signatures=tuple(_signature(key, graph.signature_def[key]) for key in keys),
        calls={key: loaded.signatures[key] for key in keys},
        loaded=loaded,
    )


def _serving_graph(path: Path) -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415  (TensorFlow's)

    proto = SavedModel()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:
        raise SourceError(f"{path} is damaged: {_first_line(error)}. Copy it again.") from error
    if not proto.meta_graphs:
        raise SourceError(f"{path} is empty. Copy it again.")
    for graph in proto.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return graph
    raise SourceError(f"{path.parent} holds no graph for serving (the tag `serve`): save the model again.")


def _keras_of(path: Path, graph: Any) -> str | None:
    saved = [node.user_object for node in graph.object_graph_def.nodes if node.HasField("user_object")]
    if any(thing.identifier.startswith("_tf_keras_") for thing in saved):
        beside = path / "keras_metadata.pb"
        text = beside.read_bytes() if beside.is_file() else "".join(thing.metadata for thing in saved).encode()
        stated = re.search(rb'"keras_version": "(2[^"]*)"', text)
        return stated[1].decode() if stated else "2"
    return "3, or 2 by export()" if {"serve", "serving_default"} <= set(graph.signature_def) else None


def _why_not_loaded(path: Path, error: Exception) -> str:
    if not (path / "variables" / "variables.index").is_file():
        return f"{path} lacks its variables folder, or that lacks variables.index: copy the whole SavedModel folder."
    return f"{path} cannot be loaded: {_first_line(error)}. Copy the whole folder again, or save the model again."


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


def _open_keras(path: Path) -> Source:
    tf = import_tensorflow()
    version = _keras_version(path)
    keras = import_keras_2() if version.startswith("2") else tf.keras  # which does not read all that Keras 2 wrote
    try:
        model = keras.models.load_model(str(path), compile=False)
        inputs, outputs = _keras_tensors(model.inputs), _keras_tensors(model.outputs)
    except Exception as error:
        own = re.search(r"(?:Could not locate class|Unknown layer:) '([^']+)'|`(Lambda)` layer", str(error))
        why = f"the code of its layer {own[1] or own[2]!r} is not in the file" if own else _first_line(error)
        raise SourceError(
            f"{path} cannot be loaded: {why}. "
            "Export the model as a SavedModel where it was trained: model.export(folder)."
        ) from error
    call = tf.function(lambda image: _called(model, image, [tensor.name for tensor in outputs]))
    call.variables = model.variables
    return Source(
        path=path,
        sha256=_sha256(path),
        kind=f"Keras {path.suffix} file",
        keras=version,
        signatures=(Signature(_KERAS_KEY, inputs, outputs),),
        calls={_KERAS_KEY: call},
        loaded=model,
    )


def _called(model: Any, image: Any, names: list[str]) -> dict[str, Any]:
    tf = import_tensorflow()
    expected = getattr(model, "input", None)  # which a Sequential of Keras 3 lacks
    given = dict.fromkeys(expected, image) if isinstance(expected, dict) else image
    return dict(zip(names, tf.nest.flatten(model(given, training=False)), strict=True))


def _keras_tensors(tensors: Any) -> tuple[Tensor, ...]:
    tf = import_tensorflow()
    return tuple(
        Tensor(tensor.name.partition(":")[0], _sides(tensor.shape), tf.as_dtype(tensor.dtype).name)
        for tensor in tensors
    )


def _sides(shape: Any) -> tuple[int, ...]:
    return tuple(-1 if side is None else int(side) for side in shape)


def _keras_version(path: Path) -> str:
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json"))["keras_version"])
        import h5py  # noqa: PLC0415  (comes with TensorFlow)

        with h5py.File(path) as file:
            version = str(file.attrs["keras_version"]) if "model_config" in file.attrs else None
    except Exception as error:
        raise SourceError(
            f"{path} is no Keras model or is damaged: {_first_line(error)}. Copy it again, or save the model again."
        ) from error
    if version is None:
        raise SourceError(f"{path} holds no model, but at most its weights: save the whole, model.save(file).")
    return version


def _sha256(path: Path) -> str:
    if path.is_dir():
        return sha256_of_folder(path)
    with path.open("rb") as file:
        return sha256_of(file)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _first_line(error: BaseException) -> str:
    """Of what AutoGraph raises the last, since it begins with where it happened."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error  # str() of a KeyError has quotes
    lines = [line.strip() for line in str(text).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if lines[0] == "in user code:" else 0][:300].rstrip(".")
