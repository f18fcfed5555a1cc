"""Requests to the gRPC service of the Open Inference Protocol, for the digits model, over a real connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from agents.models_on_disk import photo_of_3
from agents.rpc_agent import rpc_agent
from agents.running_engine import JPEG

from agent.model_file.settings import ModelSettings
from agent.open_inference.tensors import raw_from_elements
from agent.rpc.protos import open_inference_pb2 as oip
from agent.runtimes.preprocessing import Preprocessor

if TYPE_CHECKING:
    from agents.rpc_agent import RpcAgent

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
Input = oip.ModelInferRequest.InferInputTensor
Wanted = oip.ModelInferRequest.InferRequestedOutputTensor


def path(method: str) -> str:
    return f"/inference.GRPCInferenceService/{method}"


def images(*contents: bytes) -> Input:
    return Input(
        name="image",
        datatype="BYTES",
        shape=[len(contents)],
        contents=oip.SentContents(bytes_contents=contents),
    )


def pixels(*sides: int, datatype: str = "UINT8", **contents: Any) -> Input:
    sent = oip.InferTensorContents(**contents).SerializeToString()
    return Input(name="image", datatype=datatype, shape=sides, contents=oip.SentContents.FromString(sent))


def infer(given: Input, *raw: bytes, model: str = "digits", **fields: Any) -> oip.ModelInferRequest:
    return oip.ModelInferRequest(model_name=model, inputs=[given], raw_input_contents=raw, **fields)


def three(agent: RpcAgent) -> Any:
    """The tensor of the photo of a 3."""
    served = agent.run.models.get("digits").classifier(0)
    return Preprocessor.of(served.input, ModelSettings())(photo_of_3())


@pytest.mark.anyio
async def test_infer_gives_the_scores_of_an_upload_for_each_form_of_the_input() -> None:
    async with rpc_agent() as agent:
        uploaded = (await agent.run.upload(JPEG)).categories
        values = three(agent)
        raw_image = Input(name="image", datatype="BYTES", shape=[1])
        for request in (
            infer(images(JPEG), id="7"),
            infer(raw_image, raw_from_elements([JPEG]), id="7"),
            infer(pixels(1, 32, 32, 1, uint_contents=values.ravel().tolist()), id="7"),
            infer(Input(name="image", datatype="UINT8", shape=[1, 32, 32, 1]), values.tobytes(), id="7"),
        ):
            answer = await agent.call(path("ModelInfer"), request, oip.ModelInferResponse)
            assert (answer.model_name, answer.model_version, answer.id) == ("digits", "1", "7")
            assert answer.parameters["infer_ms"].double_param > 0
            (output,) = answer.outputs
            assert (output.name, output.datatype, list(output.shape)) == ("output_0", "FP32", [1, 10])
            if request.raw_input_contents:
                (content,) = answer.raw_output_contents
                scores = np.frombuffer(content, np.float32)
            else:
                assert not answer.raw_output_contents
                scores = np.array(output.contents.fp32_contents)
            assert scores.argmax() == 3
            assert scores[3] == pytest.approx(uploaded[0].score, abs=0.01)


@pytest.mark.anyio
async def test_classification_gives_the_best_labels_as_text() -> None:
    async with rpc_agent() as agent:
        wanted = Wanted(name="output_0", parameters={"classification": oip.InferParameter(int64_param=2)})
        answer = await agent.call(
            path("ModelInfer"), infer(images(JPEG, JPEG), outputs=[wanted]), oip.ModelInferResponse
        )
        (output,) = answer.outputs
        assert (output.datatype, list(output.shape)) == ("BYTES", [2, 2])
        assert [text.split(b":")[1:] for text in output.contents.bytes_contents][::2] == [[b"3", b"3"]] * 2


@pytest.mark.anyio
async def test_wrong_requests_are_refused_with_a_sentence() -> None:
    async with rpc_agent() as agent:
        wrong_count = Wanted(name="output_0", parameters={"classification": oip.InferParameter(string_param="2")})
        raw = Input(name="image", datatype="UINT8", shape=[1, 32, 32, 1])
        shared = images(JPEG)
        shared.parameters["shared_memory_region"].string_param = "x"
        for request, code, sentence in (
            (infer(images(JPEG), model="cats"), NOT_FOUND, "cats"),
            (infer(images(JPEG), model=""), INVALID, "no name of a model"),
            (oip.ModelInferRequest(model_name="digits"), INVALID, "The request has 0 inputs"),
            (infer(images(JPEG), b"x"), INVALID, "Send either of them, once."),
            (infer(raw, b"x", b"y"), INVALID, "one input and 2 raw_input_contents"),
            (infer(raw, b"x"), INVALID, "has 1 bytes, but [1, 32, 32, 1] of UINT8 takes 1024."),
            (infer(pixels(1, 31, 32, 1, uint_contents=[0] * 992)), INVALID, "the model takes [-1, 32, 32, 1]"),
            (infer(pixels(1, 32, 32, 1, uint_contents=[0])), INVALID, "but uint_contents has 1 values, not 1024."),
            (
                infer(pixels(1, 32, 32, 1, uint_contents=[256] * 1024)),
                INVALID,
                "An integer of the tensor is not from 0 to 255.",
            ),
            (infer(pixels(1 << 62, 1 << 62, uint_contents=[0])), INVALID, "the model takes [-1, 32, 32, 1]"),
            (infer(pixels(1 << 62, 32, 32, 1, uint_contents=[0])), INVALID, "uint_contents has 1 values"),
            (infer(pixels(-1, 32, 32, 1, uint_contents=[0])), INVALID, "A side of Tensor 'image' is -1"),
            (infer(pixels(1, 2, datatype="FP16")), INVALID, "the model takes UINT8"),
            (infer(pixels(1, 2, datatype="FLOAT")), INVALID, "unknown datatype"),
            (infer(pixels(1, datatype="FP32", fp32_contents=[0.5])), INVALID, "the model takes UINT8"),
            (infer(images(b"text")), INVALID, "JPEG"),
            (infer(images(JPEG), outputs=[Wanted(name="x")]), INVALID, "The model has no output 'x'"),
            (infer(images(JPEG), outputs=[wrong_count]), INVALID, "not a count of classes"),
            (infer(shared), INVALID, "no shared memory"),
        ):
            error = await agent.refused(path("ModelInfer"), request)
            assert error.code() == code
            assert sentence in error.details()


@pytest.mark.anyio
async def test_server_and_model_describe_themselves() -> None:
    async with rpc_agent() as agent:
        assert (await agent.call(path("ServerLive"), b"", oip.ServerLiveResponse)).live
        assert (await agent.call(path("ServerReady"), b"", oip.ServerReadyResponse)).ready
        server = await agent.call(path("ServerMetadata"), b"", oip.ServerMetadataResponse)
        assert (server.name, server.version) == ("edge-agent", "1.2.3")
        ready = await agent.call(
            path("ModelReady"), oip.ModelReadyRequest(name="digits", version="stable"), oip.ModelReadyResponse
        )
        assert ready.ready
        for missing in (oip.ModelReadyRequest(name="cats"), oip.ModelReadyRequest(name="digits", version="7")):
            assert not (await agent.call(path("ModelReady"), missing, oip.ModelReadyResponse)).ready
        for method in ("ModelReady", "ModelMetadata"):
            error = await agent.refused(path(method), b"")
            assert (error.code(), error.details()) == (INVALID, "The request has no name of a model. State one.")
        request = oip.ModelMetadataRequest(name="digits")
        model = await agent.call(path("ModelMetadata"), request, oip.ModelMetadataResponse)
        assert list(model.versions) == ["1"]
        (takes,) = model.inputs
        assert (takes.name, takes.datatype, list(takes.shape)) == ("image", "UINT8", [-1, 32, 32, 1])
        request = oip.ModelConfigRequest(name="digits")
        config = (await agent.call(path("ModelConfig"), request, oip.ModelConfigResponse)).config
        assert (config.name, config.max_batch_size) == ("digits", 64)
        assert (
            config.input[0].name,
            config.input[0].data_type,
            config.input[0].format,
            list(config.input[0].dims),
        ) == (
            "image",
            oip.TYPE_UINT8,
            oip.ModelInput.FORMAT_NHWC,
            [32, 32, 1],
        )
        assert (config.output[0].data_type, list(config.output[0].dims)) == (oip.TYPE_FP32, [10])
        index = await agent.call(path("RepositoryIndex"), oip.RepositoryIndexRequest(), oip.RepositoryIndexResponse)
        assert [(each.name, each.version, each.state) for each in index.models] == [
            ("birds", "2", "READY"),
            ("birds", "1", "UNAVAILABLE"),
        ]


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["ModelStreamInfer", "RepositoryModelLoad", "SystemSharedMemoryStatus"])
async def test_method_that_the_agent_does_not_offer_is_unimplemented(method: str) -> None:
    async with rpc_agent() as agent:
        error = await agent.refused(path(method), b"")
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED
        assert error.details().startswith("The agent ")
