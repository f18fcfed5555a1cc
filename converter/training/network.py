"""Network: backbone, head and familiarity as one Keras model, from pixels to probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.runtimes.tensorflow import import_tensorflow
from converter.training.familiarity import LEAST

if TYPE_CHECKING:
    import numpy.typing as npt

    from converter.training.backbone import Backbone
    from converter.training.familiarity import Familiarity
    from converter.training.head import Head

    Floats: TypeAlias = npt.NDArray[np.float32]


def with_head(backbone: Backbone, head: Head, scales: Floats) -> Any:
    """`head` is for features divided by `scales`. Each map gets a layer of its own, which int8 represents better."""
    keras = import_tensorflow().keras
    image = keras.layers.Input((backbone.side, backbone.side, 3), name="image")
    maps = backbone.maps(image)
    widths = backbone.widths
    parts = []
    for number, each in enumerate(maps):
        average = keras.layers.GlobalAveragePooling2D(name=f"average_{number}")(each)
        parts.append(
            keras.layers.Dense(len(head.bias), use_bias=number == 0, dtype="float32", name=f"head_{number}")(average)
        )
    logits = _sum(parts, "logits")
    scores = keras.layers.Softmax(dtype="float32", name="scores")(logits)
    model = keras.Model(image, scores)
    kernels = np.split(head.kernel / scales[:, None], np.cumsum(widths)[:-1])
    for number, kernel in enumerate(kernels):
        values = [kernel.astype(np.float32), head.bias] if number == 0 else [kernel.astype(np.float32)]
        model.get_layer(f"head_{number}").set_weights(values)
    return model


def features_model(model: Any) -> Any:
    """From pixels to the average of each map, side by side: what with_head() made without its head."""
    keras = import_tensorflow().keras
    averages = _averages(model)
    features = averages[0] if len(averages) == 1 else keras.layers.Concatenate(dtype="float32")(averages)
    return keras.Model(model.input, features)


def with_familiarity(model: Any, familiarity: Familiarity, scales: Floats) -> Any:
    """What with_head() made, with its logits multiplied by the familiarity, which is for features divided by `scales`.

    Of operators that tflite-runtime 2.14 has for int8 too.
    """
    keras = import_tensorflow().keras
    averages, weights = _averages(model), familiarity.weights / scales
    ends = np.cumsum([int(each.shape[-1]) for each in averages])[:-1]
    products, lengths = [], []
    for number, (average, own, examples) in enumerate(
        zip(averages, np.split(weights, ends), np.split(familiarity.examples, ends, axis=1), strict=True)
    ):
        mean = float(own.mean())
        scaled, relative = average * mean, (own / mean)[:, None]  # squares of tiny features are too small for int8
        products.append(_fixed(relative * examples.T, f"alike_{number}")(scaled))
        lengths.append(_fixed(familiarity.penalty * relative**2, f"length_{number}")(scaled * scaled))
    largest = keras.ops.relu(keras.ops.top_k(_sum(products, "alike"), 2)[0])
    squares, length = largest * largest, _sum(lengths, "length")

    # The logistic function as a softmax of two values, since the calibration sees hardly a negative difference.
    def softmax_of(*pair: Any) -> Any:
        return keras.ops.softmax(keras.layers.Concatenate(dtype="float32")(pair))

    # Not a choice between the two: its operator would give both the range of what is chosen, which the first exceeds.
    which = softmax_of(familiarity.same * length, squares[:, :1])
    alike = keras.ops.sum(squares * which, axis=1, keepdims=True)
    factor = LEAST + (1 - LEAST) * softmax_of(alike, length)[:, :1]
    logits = model.get_layer("scores").input
    return keras.Model(model.input, keras.layers.Softmax(dtype="float32", name="scores")(logits * factor))


def _averages(model: Any) -> list[Any]:
    names = [layer.name for layer in model.layers if layer.name.startswith("average_")]
    return [model.get_layer(name).output for name in sorted(names)]


def _fixed(kernel: Floats, name: str) -> Any:
    keras = import_tensorflow().keras
    values = keras.initializers.Constant(kernel.astype(np.float32))
    return keras.layers.Dense(kernel.shape[1], use_bias=False, kernel_initializer=values, dtype="float32", name=name)


def _sum(parts: list[Any], name: str) -> Any:
    return parts[0] if len(parts) == 1 else import_tensorflow().keras.layers.Add(dtype="float32", name=name)(parts)
