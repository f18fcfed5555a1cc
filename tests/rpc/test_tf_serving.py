"""Requests to the gRPC services of TensorFlow Serving, for the digits model, over a real connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from agents.fake_agent import birds, identity
from agents.models_on_disk import photo_of_3
from agents.rpc_agent import rpc_agent
from agents.running_engine import JPEG

from agent.model_file.settings import ModelSettings
from agent.rpc.protos import tf_serving_pb2 as tfs
from agent.runtimes.preprocessing import Preprocessor
from agent.status import Rejection

if TYPE_CHECKING:
    from agents.rpc_agent import RpcAgent

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def shape(*sides: int) -> tfs.TensorShape:
    return tfs.TensorShape(dim=[tfs.TensorShape.Dim(size=side) for side in sides])


def images(*contents: bytes) -> tfs.SentTensor:
    return tfs.SentTensor(dtype=tfs.DT_STRING, tensor_shape=shape(len(contents)), string_val=contents)


def three(agent: RpcAgent) -> Any:
    """The tensor of the photo of a 3."""
    served = agent.run.models.get("digits").classifier(0)
    return Preprocessor.of(served.input, ModelSettings())(photo_of_3())


def predict(agent: RpcAgent, *tensors: tfs.SentTensor, name: str | None = None, **spec: Any) -> tfs.PredictRequest:
    names = [name or agent.run.models.get("digits").signature.input.name, "other"]
    model = tfs.ModelSpec(**{"name": "digits", **spec})
    return tfs.PredictRequest(model_spec=model, inputs=dict(zip(names, tensors, strict=False)))


def classify(*features: dict[str, tfs.Feature], context: dict[str, tfs.Feature] | None = None) -> Any:
    examples = [tfs.Example(features=tfs.Features(feature=each)) for each in features]
    if context is None:
        given = tfs.Input(example_list=tfs.ExampleList(examples=examples))
    else:
        shared = tfs.Example(features=tfs.Features(feature=context))
        given = tfs.Input(example_list_with_context=tfs.ExampleListWithContext(examples=examples, context=shared))
    return tfs.ClassificationRequest(model_spec=tfs.ModelSpec(name="digits"), input=given)


def one_image(content: bytes) -> tfs.Feature:
    return tfs.Feature(bytes_list=tfs.BytesList(value=[content]))


@pytest.mark.anyio
async def test_predict_gives_the_scores_of_an_upload_for_images_and_for_a_tensor() -> None:
    async with rpc_agent() as agent:
        uploaded = (await agent.run.upload(JPEG)).categories
        answer = await agent.call(PREDICT, predict(agent, images(JPEG, JPEG)), tfs.PredictResponse)
        scores = np.array(answer.outputs["output_0"].float_val).reshape(2, 10)
        assert [side.size for side in answer.outputs["output_0"].tensor_shape.dim] == [2, 10]
        assert answer.outputs["output_0"].dtype == tfs.DT_FLOAT
        for row in scores:
            assert {each.index: pytest.approx(each.score) for each in uploaded}.items() <= dict(enumerate(row)).items()
        spec = answer.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("digits", 1, "serving_default")

        values = three(agent)
        tensor = tfs.SentTensor(dtype=tfs.DT_UINT8, tensor_shape=shape(*values.shape), tensor_content=values.tobytes())
        answer = await agent.call(PREDICT, predict(agent, tensor, version_label="stable"), tfs.PredictResponse)
        assert np.argmax(answer.outputs["output_0"].float_val) == 3
        assert [result.source for result in agent.run.heard.results] == ["upload"] * 4


@pytest.mark.anyio
async def test_answer_says_where_its_time_went() -> None:
    async with rpc_agent() as agent:
        for path, request in ((PREDICT, predict(agent, images(JPEG))), (CLASSIFY, classify({"x": one_image(JPEG)}))):
            call = agent.channel.unary_unary(path)(request.SerializeToString(), timeout=10)
            steps = dict(step.split(";dur=") for step in (await call.trailing_metadata())["server-timing"].split(", "))
            assert list(steps) == ["queue", "decode", "preprocess", "invoke"]
            assert float(steps["invoke"]) > 0


@pytest.mark.anyio
async def test_predict_without_a_version_may_get_the_canary() -> None:
    async with rpc_agent() as agent:
        agent.run.models.try_out(version=2)
        for spec, version in (({}, 2), ({"version_label": "stable"}, 1), ({"version_label": "canary"}, 2)):
            answer = await agent.call(PREDICT, predict(agent, images(JPEG), **spec), tfs.PredictResponse)
            assert answer.model_spec.version.value == version


@pytest.mark.anyio
async def test_predict_answers_only_the_outputs_of_the_filter() -> None:
    async with rpc_agent() as agent:
        request = predict(agent, images(JPEG))
        request.output_filter.append("output_0")
        answer = await agent.call(PREDICT, request, tfs.PredictResponse)
        assert list(answer.outputs) == ["output_0"]
        request.output_filter.append("logits")
        error = await agent.refused(PREDICT, request)
        assert (error.code(), error.details()) == (INVALID, "The model has no output 'logits'. Its outputs: output_0.")


@pytest.mark.anyio
async def test_wrong_predict_requests_are_refused_with_a_sentence() -> None:
    async with rpc_agent() as agent:
        black = tfs.SentTensor(dtype=tfs.DT_UINT8, tensor_shape=shape(1, 31, 32, 1), tensor_content=bytes(31 * 32))
        not_found = grpc.StatusCode.NOT_FOUND
        nameless = predict(agent, images(JPEG))
        nameless.model_spec.name = ""
        for request, code, sentence in (
            (predict(agent), INVALID, "The request has 0 inputs"),
            (predict(agent, images(JPEG), images(JPEG)), INVALID, "The request has 2 inputs"),
            (predict(agent, images(JPEG), name="x"), INVALID, "The model has no input 'x'"),
            (predict(agent, black), INVALID, "has the shape [1, 31, 32, 1]; the model takes [-1, 32, 32, 1]"),
            (predict(agent, images(JPEG, b"text")), INVALID, "Instance 1: "),
            (predict(agent, images(*[JPEG] * 65)), INVALID, "The request has 65 instances. Send 1 to 64."),
            (predict(agent, images()), INVALID, "The request has 0 instances. Send 1 to 64."),
            (predict(agent, images(JPEG), signature_name="x"), INVALID, "no signature 'x'. Use serving_default."),
            (predict(agent, images(JPEG), signature_name="raw"), INVALID, "no signature 'raw'. Use serving_default."),
            (predict(agent, images(JPEG), version_label="old"), INVALID, "has no label old. Use stable or canary."),
            (predict(agent, images(JPEG), version_label="canary"), INVALID, "digits currently has no canary version."),
            (predict(agent, images(JPEG), name="image", version={"value": 7}), not_found, "digits"),
            (nameless, INVALID, "model_spec has no name"),
        ):
            error = await agent.refused(PREDICT, request)
            assert error.code() == code
            assert sentence in error.details()


@pytest.mark.anyio
async def test_classify_gives_every_label_with_its_score_the_best_first() -> None:
    async with rpc_agent() as agent:
        uploaded = (await agent.run.upload(JPEG)).categories
        for request in (
            classify({"image/encoded": one_image(JPEG)}, {"x": one_image(JPEG)}),
            classify({}, {}, context={"image/encoded": one_image(JPEG)}),
        ):
            answer = await agent.call(CLASSIFY, request, tfs.ClassificationResponse)
            assert len(answer.result.classifications) == 2
            for each in answer.result.classifications:
                assert len(each.classes) == 10
                assert [(one.label, one.score) for one in each.classes][:5] == [
                    (one.label, pytest.approx(one.score)) for one in uploaded
                ]
            assert answer.model_spec.version.value == 1


@pytest.mark.anyio
async def test_classify_refuses_examples_that_are_not_one_encoded_image() -> None:
    async with rpc_agent() as agent:
        pixels = tfs.Feature(float_list=tfs.FloatList(value=[0.5]))
        image = one_image(JPEG)
        for request in (classify({"a": pixels}), classify({"a": image, "b": image}), classify({})):
            error = await agent.refused(CLASSIFY, request)
            assert error.code() == INVALID
            assert error.details().startswith("An example must have one feature")
        error = await agent.refused(CLASSIFY, classify())
        assert (error.code(), error.details()) == (INVALID, "The request has 0 instances. Send 1 to 64.")


@pytest.mark.anyio
async def test_metadata_describes_the_tensors_as_the_published_message() -> None:
    async with rpc_agent() as agent:
        request = tfs.GetModelMetadataRequest(model_spec=tfs.ModelSpec(name="digits"), metadata_field=["signature_def"])
        answer = await agent.call(METADATA, request, tfs.GetModelMetadataResponse)
        described = answer.metadata["signature_def"]
        assert described.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        signatures = tfs.SignatureDefMap.FromString(described.value).signature_def
        assert list(signatures) == ["serving_default"]
        signature = signatures["serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        (tensor,) = signature.inputs.values()
        assert tensor.dtype == tfs.DT_UINT8
        assert [side.size for side in tensor.tensor_shape.dim] == [-1, 32, 32, 1]
        output = signature.outputs["output_0"]
        assert (output.dtype, [side.size for side in output.tensor_shape.dim]) == (tfs.DT_FLOAT, [-1, 10])
        agent.run.models.get("digits").classifier(0).score = "logits"
        answer = await agent.call(METADATA, request, tfs.GetModelMetadataResponse)
        signatures = tfs.SignatureDefMap.FromString(answer.metadata["signature_def"].value).signature_def
        assert sorted(signatures) == ["raw", "serving_default"]
        error = await agent.refused(METADATA, tfs.GetModelMetadataRequest(model_spec=tfs.ModelSpec(name="digits")))
        assert (error.code(), error.details()) == (INVALID, "metadata_field is []. It must be ['signature_def'].")


@pytest.mark.anyio
async def test_status_lists_versions_with_their_states() -> None:
    async with rpc_agent() as agent:
        rejection = Rejection("birds.tflite", "It has no labels.", 0)
        agent.run.models.statuses = [birds(canary=identity(3), rejection=rejection)]

        async def states(**spec: Any) -> list[tuple[int, str, int, str]]:
            request = tfs.GetModelStatusRequest(model_spec=tfs.ModelSpec(**{"name": "birds", **spec}))
            answer = await agent.call(STATUS, request, tfs.GetModelStatusResponse)
            return [
                (
                    each.version,
                    tfs.ModelVersionStatus.State.Name(each.state),
                    each.status.error_code,
                    each.status.error_message,
                )
                for each in answer.model_version_status
            ]

        assert await states() == [
            (2, "AVAILABLE", 0, ""),
            (3, "AVAILABLE", 0, ""),
            (1, "END", 0, ""),
            (0, "END", 9, "It has no labels."),
        ]
        assert await states(version_label="canary") == [(3, "AVAILABLE", 0, "")]
        assert await states(version={"value": 1}) == [(1, "END", 0, "")]
        agent.run.models.statuses = [birds()]
        for spec, code in (
            (tfs.ModelSpec(name="birds", version={"value": 7}), grpc.StatusCode.NOT_FOUND),
            (tfs.ModelSpec(name="cats"), grpc.StatusCode.NOT_FOUND),
            (tfs.ModelSpec(name="birds", version_label="canary"), INVALID),
            (tfs.ModelSpec(name="birds", version_label="old"), INVALID),
        ):
            request = tfs.GetModelStatusRequest(model_spec=spec)
            assert (await agent.refused(STATUS, request)).code() == code


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path",
    [
        "/tensorflow.serving.PredictionService/Regress",
        "/tensorflow.serving.PredictionService/MultiInference",
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    ],
)
async def test_method_that_the_agent_does_not_offer_is_unimplemented(path: str) -> None:
    async with rpc_agent() as agent:
        error = await agent.refused(path, predict(agent, images(JPEG)))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        assert error.details().startswith("The agent ")
