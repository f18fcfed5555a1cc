"""Pruning: TensorFlow's model optimization wraps the layers that it prunes, and only training needs the wrappers."""

from __future__ import annotations

from typing import Any

_WRAPPER = "PruneLowMagnitude"
# Wrappers of TensorFlow's model optimization, and what removes them. Clustering changes the stored weights too.
STRIPPING = {
    _WRAPPER: "tfmot.sparsity.keras.strip_pruning",
    "ClusterWeights": "tfmot.clustering.keras.strip_clustering",
}

_OF_WRAPPERS = ("/mask:0", "/threshold:0", "/pruning_step:0")


def unwrapped(part: dict[str, Any]) -> dict[str, Any]:
    """The layer in a wrapper, under the wrapper's name, by which other layers refer to it; other parts as they are."""
    own = part.get("config")
    if part.get("class_name") != _WRAPPER or not isinstance(own, dict) or not isinstance(own.get("layer"), dict):
        return part
    layer = own["layer"]
    outer = {key: part[key] for key in ("name", "inbound_nodes") if key in part}
    return {**layer, **outer, "config": {**layer.get("config", {}), "name": own.get("name")}}


def leave_out_masks(weights: Any) -> None:
    """Removes the wrappers' own variables from the group of weights in an open HDF5 file."""
    for group in weights.values():
        names = [_text(name) for name in group.attrs.get("weight_names", ())]
        kept = [name for name in names if not name.endswith(_OF_WRAPPERS)]
        if kept != names:
            group.attrs["weight_names"] = [name.encode() for name in kept]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
