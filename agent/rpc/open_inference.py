"""The gRPC service of the Open Inference Protocol (v2), with Triton's classification and repository index."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np

from agent.errors import ModelNotFoundError, TensorError
from agent.inference.data_plane import MAX_INSTANCES
from agent.inference.inferring import infer_all
from agent.inference.options import Options
from agent.open_inference import description
from agent.open_inference.inputs import check_input, instances
from agent.open_inference.outputs import Wanted, output, times, wanted_outputs
from agent.open_inference.tensors import BYTES, DTYPES, Header, raw_from_elements
from agent.rpc.door import NO_LOADING, Inference, Method, Unsupported
from agent.rpc.packed import PackedFloats, PackedIntegers
from agent.rpc.protos import open_inference_pb2 as oip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.inference.inferred import Inferred
    from agent.inference.inferring import Inferring, MorePlaces
    from agent.models.serving import ServedModel
    from agent.open_inference.outputs import Output
    from agent.open_inference.tensors import Array
    from agent.status import ModelStatus

INFERENCE_SERVICE = "inference.GRPCInferenceService"

_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}  # FP16 and BF16 have none
# What the models take, and the form of its field.
_SENT = {"UINT8": PackedIntegers, "FP32": PackedFloats, "FP64": PackedFloats, BYTES: None}
_NO_SHARED_MEMORY = "The agent has no shared memory. Send and receive tensors in the messages."
_UNSUPPORTED = {
    "ModelStreamInfer": "The agent has no streams. Use ModelInfer.",
    "ModelStatistics": "The agent has no statistics over gRPC. Use GET /metrics over HTTP.",
    "RepositoryModelLoad": NO_LOADING,
    "RepositoryModelUnload": NO_LOADING,
    **{
        f"{kind}SharedMemory{action}": _NO_SHARED_MEMORY
        for kind in ("System", "Cuda")
        for action in ("Status", "Register", "Unregister")
    },
}


class Models(Protocol):
    """`get` raises ModelNotFoundError."""

    @property
    def served(self) -> Mapping[str, ServedModel]: ...
    @property
    def canaries(self) -> Mapping[str, ServedModel]: ...
    @property
    def statuses(self) -> Sequence[ModelStatus]: ...
    def get(self, name: str | None, version: str | None = None) -> ServedModel: ...


class Health(Protocol):
    def stuck(self) -> str | None: ...


class OpenInference:
    """A request without a version gets the stable one, or the canary for its share of requests."""

    def __init__(self, *, version: str, data_plane: Inferring, models: Models, health: Health) -> None:
        """`version` is the agent's."""
        self._version = version
        self._data_plane = data_plane
        self._models = models
        self._health = health

    def methods(self) -> Mapping[str, Method | Inference | Unsupported]:
        methods: dict[str, Method | Inference | Unsupported] = {
            "ServerLive": Method(oip.ServerLiveRequest, None, self._live),
            "ServerReady": Method(oip.ServerReadyRequest, None, self._ready),
            "ServerMetadata": Method(oip.ServerMetadataRequest, "read", self._server_metadata),
            "ModelReady": Method(oip.ModelReadyRequest, "read", self._model_ready),
            "ModelMetadata": Method(oip.ModelMetadataRequest, "read", self._model_metadata),
            "ModelConfig": Method(oip.ModelConfigRequest, "read", self._model_config),
            "RepositoryIndex": Method(oip.RepositoryIndexRequest, "read", self._index),
            "ModelInfer": Inference(oip.ModelInferRequest, self._infer),
            **{name: Unsupported(sentence) for name, sentence in _UNSUPPORTED.items()},
        }
        return {f"/{INFERENCE_SERVICE}/{name}": method for name, method in methods.items()}

    async def _live(self, _: oip.ServerLiveRequest) -> oip.ServerLiveResponse:
        return oip.ServerLiveResponse(live=self._health.stuck() is None)

    async def _ready(self, _: oip.ServerReadyRequest) -> oip.ServerReadyResponse:
        return oip.ServerReadyResponse(ready=bool(self._models.served))

    async def _server_metadata(self, _: oip.ServerMetadataRequest) -> oip.ServerMetadataResponse:
        return oip.ServerMetadataResponse(**description.server(version=self._version))

    async def _model_ready(self, request: oip.ModelReadyRequest) -> oip.ModelReadyResponse:
        """Not an error for an unknown model, as in Triton: its clients wait for a model in this way."""
        try:
            self._models.get(_named(request.name), request.version or None)
        except ModelNotFoundError:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=True)

    async def _model_metadata(self, request: oip.ModelMetadataRequest) -> oip.ModelMetadataResponse:
        served = self._models.get(_named(request.name), request.version or None)
        versions = description.versions(self._models, served.identity.name)
        return oip.ModelMetadataResponse(**description.model(served.identity.name, versions, served.signature))

    async def _model_config(self, request: oip.ModelConfigRequest) -> oip.ModelConfigResponse:
        served = self._models.get(_named(request.name), request.version or None)
        configured = description.configuration(served.identity.name, served.signature, max_instances=MAX_INSTANCES)
        return oip.ModelConfigResponse(config=configured)

    async def _index(self, request: oip.RepositoryIndexRequest) -> oip.RepositoryIndexResponse:
        entries = description.index(self._models.statuses, only_ready=request.ready)
        return oip.RepositoryIndexResponse(models=[oip.RepositoryIndexResponse.ModelIndex(**each) for each in entries])

    async def _infer(
        self, request: oip.ModelInferRequest, more_places: MorePlaces
    ) -> tuple[oip.ModelInferResponse, Sequence[Inferred]]:
        arrived_ns = time.monotonic_ns()
        options = Options(_named(request.model_name), version=request.model_version or None)
        served = self._data_plane.choose(options)
        wanted = wanted_outputs([_wanted(each) for each in request.outputs], served.signature)
        sent = _sent(request, served)
        inferred = await infer_all(
            self._data_plane, served, sent, options, arrived_ns=arrived_ns, more_places=more_places
        )
        response = oip.ModelInferResponse(
            model_name=served.identity.name, model_version=str(served.identity.version), id=request.id
        )
        for name, milliseconds in times(inferred).items():
            response.parameters[name].double_param = milliseconds
        for each in wanted:
            _add_output(response, output(each, inferred, served.labels), is_raw=bool(request.raw_input_contents))
        return response, inferred


def _named(name: str) -> str:
    if not name:
        raise TensorError("The request has no name of a model. State one.")
    return name


def _wanted(given: oip.ModelInferRequest.InferRequestedOutputTensor) -> Wanted:
    _refuse_shared_memory(given.parameters)
    if "classification" not in given.parameters:
        return Wanted(given.name)
    parameter = given.parameters["classification"]
    count = getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
    if type(count) is not int or count < 0:
        raise TensorError(f"The parameter classification of output {given.name[:80]!r} is not a count of classes.")
    return Wanted(given.name, count)


def _sent(request: oip.ModelInferRequest, served: ServedModel) -> Sequence[bytes | Array]:
    takes, raw = served.signature.input, request.raw_input_contents
    if len(request.inputs) != 1:
        raise TensorError(f"The request has {len(request.inputs)} inputs; the model has one, {takes.name!r}.")
    given = request.inputs[0]
    _refuse_shared_memory(given.parameters)
    header = Header(given.name, given.datatype, tuple(given.shape))
    check_input(header, takes)
    if not raw:
        return instances(header, _listed(header, given.contents), takes)
    if len(raw) != 1 or given.HasField("contents"):
        raise TensorError(
            f"The request has one input and {len(raw)} raw_input_contents, and "
            f"{'also' if given.HasField('contents') else 'no'} contents. Send either of them, once."
        )
    return instances(header, header.values_from_raw(raw[0]), takes)


def _refuse_shared_memory(parameters: Mapping[str, object]) -> None:
    if "shared_memory_region" in parameters:
        raise TensorError(_NO_SHARED_MEMORY)


def _listed(header: Header, contents: oip.SentContents) -> Array | list[bytes]:
    """The values in the field of their type."""
    if header.datatype not in _SENT:
        raise TensorError(f"{header} is {header.datatype}, which is possible only in raw_input_contents.")
    field = _FIELDS[header.datatype]
    values = getattr(contents, field)
    if (kind := _SENT[header.datatype]) is not None:
        values = kind(values, DTYPES[header.datatype])
    if (given := len(values)) != header.count:
        raise TensorError(
            f"{header} has the shape {list(header.shape)}, but {field} has {given} values, not {header.count}."
        )
    return list(values) if kind is None else values.array().reshape(header.shape)


def _add_output(response: oip.ModelInferResponse, answer: Output, *, is_raw: bool) -> None:
    """In the form in which the client sent its input."""
    header, values = answer.header, answer.values
    added = response.outputs.add(name=header.name, datatype=header.datatype, shape=header.shape)
    if is_raw:
        response.raw_output_contents.append(
            values.tobytes() if isinstance(values, np.ndarray) else raw_from_elements(values)
        )
    else:
        listed = values.ravel().tolist() if isinstance(values, np.ndarray) else values
        getattr(added.contents, _FIELDS[header.datatype]).extend(listed)
