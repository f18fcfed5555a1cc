"""The unmodified client of KServe, in a process without that of Triton: both register the same messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest
from clients.conftest import MODELS, PHOTOS
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

if TYPE_CHECKING:
    from clients.conftest import Served


async def over_grpc(served: Served, inputs: dict[str, str]) -> dict[tuple[str, str], Any]:
    tls = grpc.ssl_channel_credentials(served.ca_file.read_bytes())
    client = InferenceGRPCClient(url=served.grpc, use_ssl=True, creds=tls, timeout=30)
    header = (("authorization", served.header["Authorization"]),)
    answers = {}
    for model in MODELS:
        for photo in PHOTOS:
            request = InferRequest(model_name=model, infer_inputs=[image(inputs[model], served.photos[photo])])
            answers[model, photo] = (await client.infer(request, headers=header)).outputs[0].as_numpy()
    await client.close()
    return answers


def image(name: str, content: bytes) -> InferInput:
    given = InferInput(name=name, shape=[1], datatype="BYTES")
    given.set_data_from_numpy(np.array([content], dtype=object), binary_data=True)
    return given


async def over_rest(served: Served, inputs: dict[str, str]) -> dict[tuple[str, str], Any]:
    config = RESTConfig(protocol="v2", verify=str(served.ca_file), timeout=30)
    client = InferenceRESTClient(config)
    answers = {}
    for model in MODELS:
        for photo in PHOTOS:
            request = InferRequest(model_name=model, infer_inputs=[image(inputs[model], served.photos[photo])])
            answer = await client.infer(served.http, request, model_name=model, headers=served.header)
            answers[model, photo] = answer.outputs[0].as_numpy()
    await client.close()
    return answers


@pytest.mark.assets
@pytest.mark.parametrize("door", [over_grpc, over_rest])
def test_photos_get_the_scores_of_predict(served: Served, door: Any) -> None:
    with httpx.Client(headers=served.header, verify=str(served.ca_file), trust_env=False) as client:
        inputs = {model: client.get(f"{served.http}/v2/models/{model}").json()["inputs"][0]["name"] for model in MODELS}
    answers = asyncio.run(door(served, inputs))
    assert answers.keys() == served.scores.keys()
    for key, scores in answers.items():
        assert scores.ravel().argmax() == served.scores[key].argmax()
        assert scores.ravel() == pytest.approx(served.scores[key], abs=1e-4)
