"""Keras configuration: the classes that a model file names, and those among them that Keras may create.

Keras creates every class and looks up every function that the configuration in the file names. Some of them run code
from the file, call any function of Python or read other files, and Keras' own safe mode has been bypassed repeatedly.
So only classes and functions that compute on their inputs are allowed, and everything else is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from converter.errors import TrainedModelError
from converter.source.pruning import STRIPPING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODELS = "Functional Model Sequential"
_LAYERS = """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average
    BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional CategoryEncoding CenterCrop
    Concatenate ContrastLimitedAdaptiveHistogramEqualization CutMix Dense DepthwiseConv1D DepthwiseConv2D
    Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU GRUCell GaussianDropout
    GaussianNoise GroupNormalization GroupQueryAttention GroupedQueryAttention Hashing Identity InputLayer
    InputSpec LSTM LSTMCell LayerNormalization LayerScale LeakyReLU LocallyConnected1D LocallyConnected2D Masking
    MaxNumBoundingBoxes Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU
    Permute Pipeline RMSNormalization RNN RandAugment ReLU RepeatVector Rescaling Reshape Resizing
    ReversibleEmbedding STFTSpectrogram SimpleRNN SimpleRNNCell Softmax Solarization SpectralNormalization
    StackedRNNCells Subtract SyncBatchNormalization ThresholdedReLU TimeDistributed UnitNormalization
"""
_NUMBERED_LAYERS = re.compile(
    r"(Adaptive)?(Average|Max|Avg)Pool(ing)?[123]D|Global(Average|Max|Avg)Pool(ing)?[123]D|(Separable)?Conv(olution)?[123]D"
    r"|Conv(olution)?[123]D(Transpose)?|ConvLSTM[123]D|(Cropping|SpatialDropout|UpSampling|ZeroPadding)[123]D"
    r"|Random(Brightness|Color\w*|Contrast|Crop|ElasticTransform|Erasing|Flip|GaussianBlur|Grayscale|Height|Hue|Invert"
    r"|Perspective|Posterization|Rotation|Saturation|Sharpness|Shear|Translation|Width|Zoom)"
)
_PARTS_OF_LAYERS = """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal LecunUniform Ones Orthogonal
    OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
    L1 L1L2 L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm SeedGenerator
    DTypePolicy DTypePolicyMap FloatDTypePolicy Policy PolicyV1 QuantizedDTypePolicy
    AbsMaxQuantizer Int8QuantizationConfig
    TensorShape __ellipsis__ __keras_tensor__ __numpy__ __slice__ __tensor__ __tuple__
"""
_ACTIVATIONS = """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid
    sparsemax squareplus swish tanh tanh_shrink threshold
"""
_KERAS = re.compile(r"(tf_)?keras(\.\w+)*|tensorflow\.python\.ops\.init_ops(_v2)?")  # the latter in EfficientNetV2
_OPERATIONS = re.compile(r"keras\.src\.ops\.(numpy|nn|math|image|linalg)")
_CORE_OPERATIONS = "Cast ConvertToTensor Saturate SaturateCast Shape Slice SliceUpdate StopGradient Unstack"
# Keras 2 calls these functions of TensorFlow as layers.
_TENSORFLOW = re.compile(
    r"(compat\.v1\.)?((math|nn|linalg|__operators__)\.\w+|image\.(resize|central_crop|per_image_standardization"
    r"|rgb_to_grayscale|grayscale_to_rgb|resize_with_pad|flip_\w+|adjust_\w+|convert_image_dtype)|broadcast_to|cast"
    r"|clip_by_value|concat|constant|convert_to_tensor|expand_dims|fill|gather|gather_nd|identity|ones_like|one_hot|pad"
    r"|range|rank|repeat|reshape|reverse|shape|size|slice|split|squeeze|stack|stop_gradient|strided_slice|tile"
    r"|transpose|unstack|where|zeros_like)"
)
# Known to run code or to read files. Any other unknown class is the user's own, whose code is not in the file.
_RUN_CODE = """
    ClassMethod DenseFeatures FeatureSpace FlaxLayer IndexLookup InstanceMethod InstanceProperty IntegerLookup JaxLayer
    Lambda SlicingOpLambda StringLookup TFOpLambda TFSMLayer TensorFlowOpLayer TextVectorization TorchModuleWrapper
    __lambda__ __typespec__
"""


def check_config(config: Any, path: Path) -> None:
    """Raises TrainedModelError if Keras would run code, or need code that is not in the file, to make the model."""
    for part in parts(config):
        if "class_name" in part:
            _check_class(part, path)
        for key, value in part.items():
            if key.endswith("activation") and isinstance(value, str) and value not in _ACTIVATIONS.split():
                raise _foreign(path, f"activation {value!r}")


def quantized_for_good(path: Path) -> TrainedModelError:
    return TrainedModelError(
        f"{path} was quantized in Keras in a way that cannot be undone. Save the model before quantize() is called on "
        "it; edge-convert quantizes it itself."
    )


def changed(config: Any, change: Any) -> Any:
    """A copy of `config` in which `change` has replaced every JSON object, from the innermost to the outermost."""
    if isinstance(config, list):
        return [changed(part, change) for part in config]
    if isinstance(config, dict):
        return change({key: changed(part, change) for key, part in config.items()})
    return config


def parts(config: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in `config`, at any depth."""
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
        pending += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()


def _check_class(part: dict[str, Any], path: Path) -> None:
    named, own = part["class_name"], part.get("config")
    if named == "function":
        if own not in _ACTIVATIONS.split() or not _is_from_keras(part, own):
            raise _foreign(path, f"function {own!r}")
    elif named in ("TFOpLambda", "SlicingOpLambda") and isinstance(own, dict) and "function" in own:
        if not (_is_safe(own["function"]) and _is_from_keras(part, named)):
            raise _runs_code(path, f"a call of {own['function']}")
    elif named in STRIPPING:
        raise TrainedModelError(
            f"{path} contains layers that are wrapped in {named}, which only training needs. Remove the wrappers in "
            f"the program that trained it and save the model again: {STRIPPING[named]}(model)."
        )
    elif _is_operation_in_hdf5(part):
        raise TrainedModelError(
            f"{path} has the operation {named!r} between its layers, which Keras cannot read from HDF5. Save the model "
            "in Keras' own format: model.save('model.keras')."
        )
    elif _is_otherwise_quantized(named, own):
        raise quantized_for_good(path)
    elif not isinstance(named, str) or named in _RUN_CODE.split():
        raise _runs_code(path, f"a {named} layer" if named != "__lambda__" else "a function in Python bytecode")
    elif not (_is_allowed(named) or _is_operation(part)) or not _is_from_keras(part, named):
        raise _foreign(path, f"layer {named!r}")


def _is_operation_in_hdf5(part: dict[str, Any]) -> bool:
    """Keras 3 writes an operation there as if it were a layer, but a layer says whether it is trainable."""
    unlike = ("InputLayer", *_MODELS.split())
    if "module" in part or "inbound_nodes" not in part or part["class_name"] in unlike:
        return False
    return isinstance(part.get("config"), dict) and "trainable" not in part["config"]


def _is_otherwise_quantized(named: Any, own: Any) -> bool:
    if named == "QuantizedDTypePolicy":
        return not isinstance(own, dict) or own.get("mode") != "int8"
    return isinstance(named, str) and not _is_allowed(named) and named.endswith(("DTypePolicy", "QuantizationConfig"))


def _is_allowed(named: str) -> bool:
    return named in f"{_MODELS} {_LAYERS} {_PARTS_OF_LAYERS}".split() or bool(_NUMBERED_LAYERS.fullmatch(named))


def _is_from_keras(part: dict[str, Any], named: Any) -> bool:
    """Keras takes a class from any module, and looks up the registered name before it."""
    module, registered = part.get("module"), part.get("registered_name")
    in_keras = module in (None, "builtins") or (isinstance(module, str) and _KERAS.fullmatch(module) is not None)
    return in_keras and registered in (None, "function", named)


def _is_operation(part: dict[str, Any]) -> bool:
    module, named = str(part.get("module")), part["class_name"]
    return (_OPERATIONS.fullmatch(module) is not None and named[:1].isupper()) or (
        module == "keras.src.ops.core" and named in _CORE_OPERATIONS.split()
    )


def _is_safe(function: Any) -> bool:
    return isinstance(function, str) and _TENSORFLOW.fullmatch(function) is not None


def _runs_code(path: Path, what: str) -> TrainedModelError:
    return TrainedModelError(
        f"{path} contains {what}, which can run any code on this computer, so it was not opened. If you trust the "
        "people who made the file, use --allow-code. Otherwise ask them for a SavedModel: model.export(folder)."
    )


def _foreign(path: Path, what: str) -> TrainedModelError:
    return TrainedModelError(
        f"{path} cannot be loaded: the code of its {what} is not in the file. "
        "Export the model as a SavedModel in the program that trained it: model.export(folder)."
    )
