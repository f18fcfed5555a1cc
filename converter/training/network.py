"""Network: backbone and head as one Keras model, from pixels to probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from agent.runtimes.tensorflow import import_tensorflow

if TYPE_CHECKING:
    import numpy.typing as npt

    from converter.training.backbone import Backbone
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
    logits = parts[0] if len(parts) == 1 else keras.layers.Add(dtype="float32", name="logits")(parts)
    scores = keras.layers.Softmax(dtype="float32", name="scores")(logits)
    model = keras.Model(image, scores)
    kernels = np.split(head.kernel / scales[:, None], np.cumsum(widths)[:-1])
    for number, kernel in enumerate(kernels):
        values = [kernel.astype(np.float32), head.bias] if number == 0 else [kernel.astype(np.float32)]
        model.get_layer(f"head_{number}").set_weights(values)
    return model
