"""One image: calls a trained model with one image, whatever batch and order of axes it was saved with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from agent.errors import ModelError
from agent.runtimes.tensorflow import import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model_file.signature import ImageSignature


def call_with_one_image(call: Callable[..., Any], chosen: ImageSignature) -> Callable[[Any], Any]:
    """Takes 1 x height x width x channels in float32, returns 1 x scores in float32.

    Raises ModelError if a fixed batch cannot be reduced, and TensorFlow's errors if it cannot trace the model.
    """
    tf = import_tensorflow()
    layout, dtype = chosen.layout, tf.as_dtype(chosen.input.dtype)

    def whole(taken: Any) -> Any:
        given = call(**{chosen.input.name: tf.cast(taken, dtype)})
        return tf.cast(given[chosen.output.name] if isinstance(given, dict) else given, tf.float32)

    model = whole if layout.batch == 1 else _with_batch_of_one(whole, (layout.batch, *layout.shape[1:]))

    def scores(image: Any) -> Any:
        if "CHW" in layout.axes:
            image = tf.transpose(image, (0, 3, 1, 2))
        given = model(image if layout.axes == "NHWC" else tf.reshape(image, layout.shape))
        flat = given.shape.rank in (0, 1) and (layout.axes[0] != "N" or len(chosen.output.shape) == 1)
        return tf.reshape(given, (1, given.shape.num_elements() or 1)) if flat else given

    return scores


def _with_batch_of_one(model: Callable[[Any], Any], shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """The graph of `model` with constants as weights, for a batch of 1 instead of that in `shape`."""
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415  (as TFLiteConverter does)
        convert_variables_to_constants_v2,
    )

    tf = import_tensorflow()
    frozen = convert_variables_to_constants_v2(tf.function(model).get_concrete_function(tf.TensorSpec(shape)))
    graph = frozen.graph.as_graph_def()
    _reduce_batch(graph, shape)
    try:
        imported = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
        one = imported.prune(frozen.inputs[0].name, frozen.outputs[0].name)
        batch = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        answers = zip(frozen(tf.constant(batch))[0], batch, strict=True)
        same = all(np.allclose(answer, one(tf.constant(image[None]))[0], atol=1e-3) for answer, image in answers)
    except (ValueError, tf.errors.OpError):
        same = False
    if not same:
        raise ModelError(
            f"The model takes only batches of {shape[0]} images, and its graph cannot be reduced to one image. Save it "
            "again with an open batch: keras.Input(shape) without batch_size, or None as the first side of the "
            "signature."
        )
    return cast("Callable[[Any], Any]", one)


def _reduce_batch(graph: Any, shape: tuple[int, ...]) -> None:
    """Changes the input, and the reshapes whose shape begins with the batch."""
    tf = import_tensorflow()
    targets = {node.input[1] for node in graph.node if node.op == "Reshape"}
    for node in graph.node:
        node.attr.pop("_output_shapes", None)
        if node.op == "Placeholder":
            node.attr["shape"].shape.CopyFrom(tf.TensorShape((1, *shape[1:])).as_proto())
        if node.op == "Const" and node.name in targets:
            wanted = tf.make_ndarray(node.attr["value"].tensor)
            if wanted.ndim == 1 and wanted.size and wanted[0] == shape[0]:
                wanted = np.concatenate([[1], wanted[1:]]).astype(wanted.dtype)
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(wanted))
