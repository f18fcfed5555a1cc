"""Export: the trained network as a SavedModel that says of itself what a device and edge-convert must know.

Equal weights give equal files, byte for byte: the graph is written with its weights as constants, since a SavedModel
with variables also contains counters of the process and random numbers.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agent.host.durable import flush_folder
from agent.model_file.completeness import GRAPH
from agent.model_file.metadata import ADDITIONS
from agent.model_file.saved_model import EXTRA
from agent.model_file.settings import LABELS_TXT
from agent.runtimes.tensorflow import import_tensorflow
from converter.errors import ConverterError, UsageError
from converter.images.trained_on import NAME, list_of
from converter.output import check_parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from agent.model_file.settings import ModelSettings

INPUT, OUTPUT, SIGNATURE = "image", "scores", "serving_default"
_METHOD = "tensorflow/serving/predict"


def check_folder(output: Path, *, force: bool) -> None:
    """Raises UsageError, before any work, if the SavedModel cannot be put there."""
    if output.name in ("", ".."):
        raise UsageError(f"{output} is not the name of a new folder. Give another one.")
    check_parent(output)
    if not os.path.lexists(output):
        return
    if not (output / GRAPH).is_file():
        raise UsageError(f"{output} already exists and is not a SavedModel. Give another name.")
    if not force:
        raise UsageError(f"{output} already exists. Use --force to replace it.")


def saved_model_files(
    model: Any,
    settings: ModelSettings,
    provenance: Mapping[str, Any],
    golden: Mapping[str, bytes],
    trained_on: Iterable[str],
) -> dict[str, bytes]:
    """The files of the SavedModel, by their paths in it.

    `model`: Keras, pixels from 0 to 255 to probabilities; `trained_on`: the SHA-256 of each photo.
    """
    additions = (
        json.dumps({"settings": settings.to_json(), "provenance": provenance}, ensure_ascii=False, indent=2) + "\n"
    )
    return {
        GRAPH: _graph(model),
        f"{EXTRA}/{LABELS_TXT}": "".join(f"{label}\n" for label in settings.labels or ()).encode(),
        f"{EXTRA}/{ADDITIONS}": additions.encode(),
        NAME: list_of(trained_on),
        **{f"{EXTRA}/golden/{name}": content for name, content in golden.items()},
    }


def write_folder(output: Path, files: Mapping[str, bytes]) -> None:
    """The whole folder, or nothing. Replaces an existing folder. Raises ConverterError."""
    aside, old = (output.with_name(f".{output.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    try:
        for name, content in files.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            flush_folder(path.parent)
        if output.exists():
            output.replace(old)
        aside.replace(output)
        flush_folder(output.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):
            if old.exists() and not output.exists():
                old.replace(output)
        if isinstance(error, OSError):
            raise ConverterError(f"{output} cannot be written: {error.strerror}.") from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def _graph(model: Any) -> bytes:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # noqa: PLC0415  (TensorFlow's)
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    tf = import_tensorflow()
    spec = tf.TensorSpec((None, *model.input.shape[1:]), tf.float32, name=INPUT)
    function = tf.function(lambda image: tf.identity(model(image, training=False), name=OUTPUT))
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(spec))
    saved = SavedModel(saved_model_schema_version=1)
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.meta_info_def.tensorflow_version = tf.__version__
    graph.meta_info_def.tensorflow_git_version = tf.version.GIT_VERSION
    graph.graph_def.CopyFrom(frozen.graph.as_graph_def())
    signature = graph.signature_def[SIGNATURE]
    signature.method_name = _METHOD
    _describe(signature.inputs[INPUT], frozen.inputs[0])
    _describe(signature.outputs[OUTPUT], frozen.outputs[0])
    return bytes(saved.SerializeToString(deterministic=True))


def _describe(info: Any, tensor: Any) -> None:
    info.name = tensor.name
    info.dtype = tensor.dtype.as_datatype_enum
    info.tensor_shape.CopyFrom(tensor.shape.as_proto())
