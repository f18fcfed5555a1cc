"""Dequantization: a model that Keras 3 has quantized, with its weights as floats again."""

from __future__ import annotations

import json
from typing import Any

from converter.source.keras_config import changed, parts

_POLICY = "QuantizedDTypePolicy"


def is_quantized(config: Any) -> bool:
    return any(part.get("class_name") == _POLICY for part in parts(config))


def dequantized(model: Any, keras: Any) -> Any:
    """The model with float layers. Raises ValueError if a layer with quantized weights is not a Dense layer."""
    twin = keras.models.model_from_json(json.dumps(changed(json.loads(model.to_json()), _in_float)))
    for layer, plain in zip(_innermost(model), _innermost(twin), strict=True):
        if not hasattr(layer, "kernel_scale"):
            plain.set_weights(layer.get_weights())
        elif isinstance(layer, keras.layers.Dense):
            kernel = layer._kernel.numpy() / layer.kernel_scale.numpy()  # noqa: SLF001  (`kernel` is not the stored one)
            plain.set_weights([kernel, layer.bias.numpy()] if layer.use_bias else [kernel])
        else:
            raise ValueError(f"its layer {layer.name!r} has quantized weights")
    return twin


def _innermost(model: Any) -> list[Any]:
    layers = model._flatten_layers(include_self=False)  # noqa: SLF001  (no public way into layers of layers)
    return [layer for layer in layers if not layer._layers]  # noqa: SLF001  (no public way)


def _in_float(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("class_name") == _POLICY:
        return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": part["config"]["source_name"]}}
    return {key: value for key, value in part.items() if key != "quantization_config"}
