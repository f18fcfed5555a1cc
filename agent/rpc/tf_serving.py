"""The gRPC services of TensorFlow Serving: PredictionService and ModelService."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeAlias

import grpc
import numpy as np

from agent.errors import ModelNotFoundError, TensorError
from agent.inference.inferring import infer_all
from agent.inference.options import Options
from agent.rpc.door import NO_LOADING, Inference, Method, Unsupported
from agent.rpc.protos import tf_serving_pb2 as tfs
from agent.rpc.tensors import DTYPES, instances, proto_of
from agent.tf_serving.signatures import DEFAULT_SIGNATURE, RAW_SIGNATURE, signature_names
from agent.tf_serving.versions import version_states

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from agent.classification import ModelIdentity
    from agent.inference.inferred import Inferred
    from agent.inference.inferring import Inferring, MorePlaces
    from agent.models.serving import ServedModel
    from agent.runtimes.scores import Scores
    from agent.runtimes.serving_signature import ServedTensor, ServingSignature
    from agent.status import ModelStatus
    from agent.tf_serving.versions import VersionState

    Array: TypeAlias = npt.NDArray[np.generic]

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
_SIGNATURE_DEF = "signature_def"
_SIGNATURE_DEF_MAP = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_NO_REGRESSION = "The agent serves classifiers, and no regression. Use Predict or Classify."
_UNSUPPORTED = {
    f"/{PREDICTION_SERVICE}/Regress": _NO_REGRESSION,
    f"/{PREDICTION_SERVICE}/MultiInference": "The agent answers one signature per request. Use Predict or Classify.",
    f"/{MODEL_SERVICE}/HandleReloadConfigRequest": NO_LOADING,
}


class Models(Protocol):
    """`get` raises ModelNotFoundError."""

    @property
    def canaries(self) -> Mapping[str, ServedModel]: ...
    @property
    def statuses(self) -> Sequence[ModelStatus]: ...
    def get(self, name: str | None, version: str | None = None) -> ServedModel: ...


class TFServing:
    """A request without a version gets the stable one, or the canary for its share of requests."""

    def __init__(self, *, data_plane: Inferring, models: Models) -> None:
        self._data_plane = data_plane
        self._models = models

    def methods(self) -> Mapping[str, Method | Inference | Unsupported]:
        prediction, model = f"/{PREDICTION_SERVICE}/", f"/{MODEL_SERVICE}/"
        return {
            f"{prediction}Predict": Inference(tfs.PredictRequest, self._predict),
            f"{prediction}Classify": Inference(tfs.ClassificationRequest, self._classify),
            f"{prediction}GetModelMetadata": Method(tfs.GetModelMetadataRequest, "read", self._metadata),
            f"{model}GetModelStatus": Method(tfs.GetModelStatusRequest, "read", self._status),
            **{path: Unsupported(sentence) for path, sentence in _UNSUPPORTED.items()},
        }

    async def _predict(
        self, request: tfs.PredictRequest, more_places: MorePlaces
    ) -> tuple[tfs.PredictResponse, Sequence[Inferred]]:
        arrived_ns, options = time.monotonic_ns(), self._labeled(_options(request.model_spec))
        served = self._data_plane.choose(options)
        signature = _signature(request.model_spec, served)
        if len(request.inputs) != 1:
            raise TensorError(
                f"The request has {len(request.inputs)} inputs; the model has one, {served.signature.input.name!r}."
            )
        name, tensor = next(iter(request.inputs.items()))
        sent = instances(name, tensor, served.signature.input)
        names = _output_names(request.output_filter, served.signature, signature)
        inferred = await infer_all(
            self._data_plane, served, sent, options, arrived_ns=arrived_ns, more_places=more_places
        )
        outputs = {each: proto_of(_output(each, inferred, is_raw=signature == RAW_SIGNATURE)) for each in names}
        return tfs.PredictResponse(outputs=outputs, model_spec=_spec(served, signature)), inferred

    async def _classify(
        self, request: tfs.ClassificationRequest, more_places: MorePlaces
    ) -> tuple[tfs.ClassificationResponse, Sequence[Inferred]]:
        arrived_ns, options = time.monotonic_ns(), self._labeled(_options(request.model_spec))
        served = self._data_plane.choose(options)
        if (signature := _signature(request.model_spec, served)) == RAW_SIGNATURE:
            raise TensorError("Classify answers scores. For the signature raw, use Predict.")
        images = [_encoded_image(example) for example in _examples(request.input)]
        inferred = await infer_all(
            self._data_plane, served, images, options, arrived_ns=arrived_ns, more_places=more_places
        )
        result = tfs.ClassificationResult(classifications=[_classes(each.scores) for each in inferred])
        return tfs.ClassificationResponse(result=result, model_spec=_spec(served, signature)), inferred

    async def _metadata(self, request: tfs.GetModelMetadataRequest) -> tfs.GetModelMetadataResponse:
        if list(request.metadata_field) != [_SIGNATURE_DEF]:
            raise TensorError(f"metadata_field is {list(request.metadata_field)}. It must be ['{_SIGNATURE_DEF}'].")
        options = self._labeled(_options(request.model_spec))
        served = self._models.get(options.model, options.version)
        response = tfs.GetModelMetadataResponse(model_spec=_spec(served, ""))
        described = response.metadata[_SIGNATURE_DEF]
        described.type_url, described.value = _SIGNATURE_DEF_MAP, _signatures(served.signature).SerializeToString()
        return response

    async def _status(self, request: tfs.GetModelStatusRequest) -> tfs.GetModelStatusResponse:
        options = _options(request.model_spec)
        status = next((each for each in self._models.statuses if each.name == options.model), None)
        if status is None:
            raise ModelNotFoundError(f"Model {options.model} does not exist.")
        return tfs.GetModelStatusResponse(model_version_status=map(_version, _chosen(status, options.version)))

    def _labeled(self, options: Options) -> Options:
        """As in TensorFlow Serving, a label that no version has is an invalid argument, unlike an unknown version."""
        name = options.model
        if options.version == "canary" and name not in self._models.canaries:
            self._models.get(name)  # raises if the model does not serve at all
            raise TensorError(f"Model {name} currently has no canary version.")
        return options


def _options(spec: tfs.ModelSpec) -> Options:
    if not spec.name:
        raise TensorError("model_spec has no name. State the name of a model.")
    version = None
    if spec.HasField("version"):
        version = str(spec.version.value)
    elif spec.HasField("version_label"):
        version = spec.version_label
        if version not in ("stable", "canary"):
            raise TensorError(f"Model {spec.name[:80]} has no label {version[:80]}. Use stable or canary.")
    return Options(spec.name, version=version)


def _spec(served: ServedModel, signature: str) -> tfs.ModelSpec:
    spec = tfs.ModelSpec(name=served.identity.name, signature_name=signature)
    spec.version.value = served.identity.version
    return spec


def _signature(spec: tfs.ModelSpec, served: ServedModel) -> str:
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name in signature_names(served.signature):
        return name
    logits = f" or {RAW_SIGNATURE}, which gives the logits" if served.signature.has_logits else ""
    raise TensorError(f"The model has no signature {name[:80]!r}. Use {DEFAULT_SIGNATURE}{logits}.")


def _output_names(wanted: Sequence[str], signature: ServingSignature, name: str) -> Sequence[str]:
    names = [output.name for output in signature.outputs]
    if name == RAW_SIGNATURE:
        names = names[:1]
    for each in wanted:
        if each not in names:
            raise TensorError(f"The model has no output {each[:80]!r}. Its outputs: {', '.join(names)}.")
    return wanted or names


def _output(name: str, inferred: Sequence[Inferred], *, is_raw: bool) -> Array:
    return np.stack([each.raw if is_raw else each.outputs[name] for each in inferred])


def _examples(given: tfs.Input) -> Sequence[Sequence[tfs.Features]]:
    """The features of each example; a context belongs to every example."""
    if given.HasField("example_list_with_context"):
        listed = given.example_list_with_context
        return [(each.features, listed.context.features) for each in listed.examples]
    return [(each.features,) for each in given.example_list.examples]


def _encoded_image(features: Sequence[tfs.Features]) -> bytes:
    found = [feature for each in features for feature in each.feature.values()]
    if len(found) != 1 or len(found[0].bytes_list.value) != 1:
        raise TensorError(
            "An example must have one feature: a bytes_list with one encoded image (JPEG, PNG, WebP or BMP)."
        )
    image: bytes = found[0].bytes_list.value[0]
    return image


def _classes(scores: Scores) -> tfs.Classifications:
    """All classes, the best first."""
    best = scores.best(len(scores.probabilities), threshold=0)
    return tfs.Classifications(classes=[tfs.Class(label=each.label, score=each.score) for each in best])


def _signatures(signature: ServingSignature) -> tfs.SignatureDefMap:
    described = tfs.SignatureDef(
        inputs={signature.input.name: _info(signature.input)},
        outputs={output.name: _info(output) for output in signature.outputs},
        method_name="tensorflow/serving/predict",
    )
    return tfs.SignatureDefMap(signature_def=dict.fromkeys(signature_names(signature), described))


def _info(tensor: ServedTensor) -> tfs.TensorInfo:
    dims = [tfs.TensorShape.Dim(size=side) for side in (-1, *tensor.shape)]
    return tfs.TensorInfo(name=tensor.tensor, dtype=DTYPES[tensor.dtype], tensor_shape=tfs.TensorShape(dim=dims))


def _chosen(status: ModelStatus, version: str | None) -> Sequence[VersionState]:
    """Those with the label or the number `version`; all if it is None."""
    labels: dict[str | None, ModelIdentity | None] = {"stable": status.serving, "canary": status.canary}
    if version in labels:
        if (identity := labels[version]) is None:
            raise TensorError(f"Model {status.name} currently has no {version} version.")
        version = str(identity.version)
    found = [each for each in version_states(status) if version in (None, str(each.version))]
    if version is not None and not found:
        raise ModelNotFoundError(f"Model {status.name} has no version {version}.")
    return found


def _version(version: VersionState) -> tfs.ModelVersionStatus:
    code = 0 if version.failure is None else grpc.StatusCode.FAILED_PRECONDITION.value[0]
    return tfs.ModelVersionStatus(
        version=version.version,
        state=version.state,
        status=tfs.Status(error_code=code, error_message=version.failure or ""),
    )
