"""Backbone: a network trained on ImageNet, without its last layer."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from agent.errors import ModelError
from agent.runtimes.tensorflow import first_line, import_tensorflow
from converter.errors import TrainedModelError, UsageError
from converter.training import efficientnet_lite

if TYPE_CHECKING:
    from collections.abc import Callable

BackboneName = Literal[
    "EfficientNetLite0",
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "EfficientNetV2B0",
    "ResNet50",
    "ConvNeXtTiny",
]
DEFAULT: BackboneName = "EfficientNetLite0"
NAMES: tuple[BackboneName, ...] = get_args(BackboneName)
_SIDE = 224
_DOWNLOADS = "https://storage.googleapis.com/tensorflow/keras-applications"
_CAFFE_MEAN = [123.68, 116.779, 103.939]  # of red, green and blue


@dataclass(frozen=True, slots=True)
class _Published:
    """A network of keras.applications, and where its weights are."""

    file: str
    scale: Callable[[Any], Any] | None = None  # what Keras does not put into the network


@dataclass(frozen=True, slots=True)
class Backbone:
    """`network` takes RGB from 0 to 255, batch x side x side x 3; its maps come the deepest first.

    `shares` weigh the features of each map against the others; `sha256` is that of the weights.
    """

    name: BackboneName
    side: int
    shares: tuple[float, ...]
    weights: Path
    sha256: str
    network: Any = field(repr=False)

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(int(each.shape[-1]) for each in self.network.outputs)

    def maps(self, images: Any) -> list[Any]:
        """Of a batch. Keras returns a single map without its list."""
        maps = self.network(images, training=False)
        return list(maps) if isinstance(maps, list | tuple) else [maps]


def open_backbone(name: BackboneName, weights: Path | None) -> Backbone:
    """Built and loaded, in float32. Raises UsageError without weights, TrainedModelError if they do not fit."""
    path = weights_for(name, weights)
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"The weights {path} cannot be read: {error.strerror}.") from None
    if name == DEFAULT:
        return Backbone(name, _SIDE, (1.0, 0.5), path, sha256, _lite0(path))
    return Backbone(name, _SIDE, (1.0,), path, sha256, _published(name, path))


def weights_for(name: BackboneName, given: Path | None) -> Path:
    """The file of the weights, downloaded if need be. Raises UsageError."""
    if given is not None:
        if not given.is_file():
            raise UsageError(f"--weights {given} is not a file.")
        return given
    return efficientnet_lite.weights_path() if name == DEFAULT else _download(name)


def _lite0(weights: Path) -> Any:
    keras = import_tensorflow().keras
    network = efficientnet_lite.efficientnet_lite0(weights)
    image = keras.layers.Input((_SIDE, _SIDE, 3), name="image")
    scale, mean = 1 / efficientnet_lite.STD, -efficientnet_lite.MEAN / efficientnet_lite.STD
    return keras.Model(image, network(keras.layers.Rescaling(scale, mean, name="normalize")(image)))


def _published(name: BackboneName, weights: Path) -> Any:
    keras = import_tensorflow().keras
    build = getattr(keras.applications, name)
    try:
        network = build(include_top=False, weights=None, input_shape=(_SIDE, _SIDE, 3))
        network.load_weights(str(weights))
    except Exception as error:
        raise TrainedModelError(
            f"{weights} does not have the weights of {name} without its last layer: {first_line(error)}."
        ) from error
    image = keras.layers.Input((_SIDE, _SIDE, 3), name="image")
    scale = _PUBLISHED[name].scale
    maps = network(image if scale is None else scale(image))
    return keras.Model(image, [maps])


def _minus_one_to_one(image: Any) -> Any:
    return import_tensorflow().keras.layers.Rescaling(1 / 127.5, -1.0, name="normalize")(image)


def _caffe(image: Any) -> Any:
    """BGR, minus the mean color."""
    layers = import_tensorflow().keras.layers
    swap = layers.Conv2D(3, 1, use_bias=True, trainable=False, name="normalize")
    bgr = swap(image)
    kernel = [[[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]]
    swap.set_weights([_array(kernel), _array([-mean for mean in reversed(_CAFFE_MEAN)])])
    return bgr


def _array(values: Any) -> Any:
    import numpy as np  # noqa: PLC0415

    return np.asarray(values, np.float32)


_PUBLISHED: dict[str, _Published] = {
    "MobileNetV2": _Published(
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", _minus_one_to_one
    ),
    "MobileNetV3Small": _Published("mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"),
    "MobileNetV3Large": _Published("mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5"),
    "EfficientNetV2B0": _Published("efficientnet_v2/efficientnetv2-b0_notop.h5"),
    "ResNet50": _Published("resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", _caffe),
    "ConvNeXtTiny": _Published("convnext/convnext_tiny_notop.h5"),
}


def _download(name: BackboneName) -> Path:
    """Into the user's cache, once. Raises UsageError if the server cannot be reached."""
    file = _PUBLISHED[name].file
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-agent"
    url = f"{_DOWNLOADS}/{file}"
    try:
        get_file = import_tensorflow().keras.utils.get_file
        return Path(get_file(Path(file).name, url, cache_dir=str(cache), cache_subdir="weights"))
    except ModelError:
        raise
    except Exception as error:
        raise UsageError(
            f"The weights of {name} cannot be downloaded from {url} ({first_line(error)}). Download them elsewhere and "
            f"give the file with --weights, or use --backbone {DEFAULT}, which needs no download."
        ) from error
